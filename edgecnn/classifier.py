"""From pictures to predictions: the few lines between a camera, a folder or a data set and a runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import SUFFIXES
from edgecnn.errors import InputError
from edgecnn.normalization import UNSTATED, InputConvention
from edgecnn.preprocessing import Fit, Preprocessing
from edgecnn.runtimes import Runtime, open_runtime

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was seen in one picture: `probabilities` `(classes,)` float32; `label` is None when the answer is rejected."""

    label: str | None
    class_id: int
    probability: float
    probabilities: NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """Return the prediction with plain numbers."""
        return {
            "label": self.label,
            "class_id": self.class_id,
            "probability": self.probability,
            "probabilities": [float(p) for p in self.probabilities],
        }


@dataclass(frozen=True, eq=False)
class Classifier:
    """A runtime with what its answers mean: labels in class order, the way to its input, the reject threshold.

    `notes` are what was deduced about another tool's model, a sentence each.
    """

    runtime: Runtime
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    reject_threshold: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, model: Path | str, *, runtime: str | None = None, threads: int = 1) -> Classifier:
        """Open an artifact by its path, or the shipped int8 artifact of a task by the task's name."""
        return cls.of(Artifact.open(artifact_path(model)), runtime=runtime, threads=threads)

    @classmethod
    def of(cls, artifact: Artifact, *, runtime: str | None = None, threads: int = 1) -> Classifier:
        """Run an artifact that was read already; raises what `open_runtime` raises."""
        contract = artifact.contract
        opened = open_runtime(artifact, runtime=runtime, threads=threads)
        return cls(opened, contract.labels, contract.preprocessing, contract.reject_threshold)

    @classmethod
    def open_foreign(
        cls,
        path: Path,
        labels: Sequence[str] | None = None,
        *,
        convention: InputConvention = UNSTATED,
        fit: Fit = "squash",
        output: str | None = None,
        runtime: str | None = None,
        threads: int = 1,
    ) -> Classifier:
        """Open another tool's `.tflite` with what is known of it; what is not stated is taken from the file.

        The file is tried in a child process first. Raises what `edgecnn.foreign.open_foreign` raises.
        """
        from edgecnn.foreign import ForeignModel, open_foreign

        stated = ForeignModel(None if labels is None else tuple(labels), convention, fit, output)
        opened = open_foreign(path, stated, runtime=runtime, threads=threads)
        contract = opened.artifact.contract
        return cls(opened.runtime, contract.labels, contract.preprocessing, notes=opened.notes)

    def classify(self, images_bgr: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Classify pictures of any size, gray `(h, w)` or BGR `(h, w, 3)` uint8."""
        if not images_bgr:
            return []
        probabilities = self.runtime.run(np.stack([self.preprocessing(image) for image in images_bgr]))
        return [self.interpret(row) for row in probabilities]

    def interpret(self, probabilities: NDArray[np.float32]) -> Prediction:
        """Name the most probable class of `(classes,)`, or none when it is below the reject threshold."""
        class_id = int(probabilities.argmax())
        probability = float(probabilities[class_id])
        rejected = self.reject_threshold is not None and probability < self.reject_threshold
        return Prediction(None if rejected else self.labels[class_id], class_id, probability, probabilities)


def artifact_path(model: Path | str) -> Path:
    """Return the path of an artifact given as a path, or as a task's name for the shipped int8 one.

    Raises InputError for a folder and for what Keras saves, saying what to give instead; UnknownTaskError for an unknown name.
    """
    path = named_path(model)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not an exported file; {_in_folder(path)}")
    if path.suffix.lower() in KERAS_SUFFIXES and path.is_file():
        raise InputError(f"{path} is what Keras saves, not an exported file; make one of it: edgecnn export {path} --int8")
    return path


def named_path(model: Path | str) -> Path:
    """Return the path that `artifact_path` looks at, whatever is there; UnknownTaskError for an unknown name."""
    path = Path(model)
    is_name = not path.suffix and path.name == str(model)
    if not is_name or path.is_file() or (path.is_dir() and path.name not in shipped.names()):
        return path
    return shipped.int8_path(path.name)


def _in_folder(folder: Path) -> str:
    """Say what to give instead of a folder: the exported files in it, else those that can be made of it."""
    exported = sorted(each.name for each in folder.iterdir() if each.suffix in SUFFIXES)
    if exported:
        return f"name one of those in it: {', '.join(exported[:4])}"
    if (folder / "model.keras").is_file() or (folder / "saved_model.pb").is_file():
        return f"make one of the model in it: edgecnn export {folder} --int8"
    return f"it holds none, nor a model to make one of ({' or '.join(SUFFIXES)} is run here)"
