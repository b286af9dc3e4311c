"""The reference model: the trained Keras network with its task, kept in one `.keras` file, behind the Runtime protocol."""

from __future__ import annotations

import dataclasses
import json
import lzma
import zipfile
import zlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DriftInfo, EvidenceInfo, GoodPartsInfo, RejectionInfo, TensorSpec
from edgecnn.errors import EdgecnnError, InferenceError, InputError
from edgecnn.files import replacing
from edgecnn.mapped import blocks
from edgecnn.normalization import RAW, Normalization
from edgecnn.records import read_record
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.good_parts import GoodPartsRuntime
from edgecnn.runtimes.runtime import Answers, check_images
from edgecnn.runtimes.tflite import first_line
from edgecnn.shipped import with_loaders
from edgecnn.tasks import Task

if TYPE_CHECKING:
    import keras

ENTRY = "edgecnn.json"  # Keras reads its own entries by name and ignores this one
MODEL_FILE = "model.keras"
_MAX_ENTRY_BYTES = 2**24


@dataclass(frozen=True, eq=False)
class Reference:
    """A trained model and what it is about.

    `name` says which network it is (`compact`), `training` how it was trained (what `training.json` holds), `calibration` the
    activation ranges measured on the training pictures, `reject_threshold` the probability below which an answer is `unknown`,
    `rejection` what that stands for (a contract's `RejectionInfo`), `evidence` when its answers are unsure or novel (chosen for
    its int8 file), `drift` what its held-out pictures usually look like; all are None where unknown. `good_parts` is what a
    model that knows good parts alone tells odd ones by. Of another tool's model, `raw` is the model without the `normalization`
    that stands in front of it in `model`, and `notes` say what else was changed about it.
    """

    model: keras.Model
    task: Task
    name: str
    training: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    reject_threshold: float | None = None
    rejection: RejectionInfo | None = None
    evidence: EvidenceInfo | None = None
    good_parts: GoodPartsInfo | None = None
    drift: DriftInfo | None = None
    raw: keras.Model | None = None
    normalization: Normalization = RAW
    path: Path | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_entry(cls, about: dict[str, Any], model: keras.Model, path: Path) -> Reference:
        """Return the reference that `save_reference` wrote to `path`; InputError when its entry is malformed."""
        try:
            rejection, evidence, good, drift = (about.get(each) for each in ("rejection", "evidence", "good_parts", "drift"))
            return cls(
                model,
                with_loaders(Task.from_json(about["task"])),
                str(about["name"]),
                about["training"],
                about["calibration"],
                about.get("reject_threshold"),
                None if rejection is None else read_record(RejectionInfo, rejection, "rejection"),
                None if evidence is None else read_record(EvidenceInfo, evidence, "evidence"),
                None if good is None else read_record(GoodPartsInfo, good, "good parts"),
                None if drift is None else read_record(DriftInfo, drift, "drift"),
                path=path,
            )
        except (KeyError, TypeError, InputError) as error:
            raise InputError(f"{path}: its {ENTRY} is malformed ({error}); save the model again") from error

    def rejecting(self, rejection: RejectionInfo | None) -> Reference:
        """Return the reference with another reject threshold, none for None."""
        threshold = None if rejection is None else rejection.threshold
        return dataclasses.replace(self, reject_threshold=threshold, rejection=rejection)

    def split_seed(self, seed: int) -> int:
        """Return the seed that its data set was divided by in training, `seed` where none is recorded.

        Another would put training pictures into validation.
        """
        return int((self.training or {}).get("seed", seed))

    def runtime(self) -> Runtime:
        """Return the model behind the protocol that the artifacts are run by."""
        shape = self.task.preprocessing.shape
        if self.good_parts is None:
            return KerasRuntime(self.model, shape)
        features = KerasFeatures(self.model, shape)
        return GoodPartsRuntime(features, self.good_parts, features.spec.shape[-1])


class KerasRuntime:
    """A Keras model as a Runtime: the reference that artifacts are compared with."""

    def __init__(self, model: keras.Model, shape: tuple[int, int, int]) -> None:
        """Take a model that maps raw 0..255 pixels `(n, *shape)` to probabilities `(n, classes)`."""
        self.name = f"keras {version('keras')}"
        self._model = model
        self._shape = shape

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`."""
        check_images(images, self._shape)
        if len(images) == 0:
            return np.empty((0, self._model.output_shape[-1]), np.float32)
        # About 4 MB of pixels at a time: enough to keep every core busy, little beside the activations.
        batch_size = max(1, min(len(images), 2**22 // images[0].size))
        try:
            # Block by block: Keras copies what it is given.
            answers = [self._model.predict(block, batch_size=batch_size, verbose=0) for block in blocks(images)]
            return np.asarray(np.concatenate(answers), np.float32)
        except MemoryError:
            raise
        except Exception as error:  # the layers of a stranger's model raise what they like
            raise InferenceError(f"Keras cannot run the model {self._model.name!r}: {first_line(error)}") from error


class KerasFeatures(KerasRuntime):
    """The map of features that a Keras model takes the mean of, beside its answers."""

    def __init__(self, model: keras.Model, shape: tuple[int, int, int]) -> None:
        """Take a model of ours that ends in the layers `pool` and a dense one."""
        super().__init__(model, shape)
        import keras

        features = model.get_layer("pool").input
        self.spec = TensorSpec("features", "float32", (None, *features.shape[1:]))
        self._features = KerasRuntime(keras.Model(model.inputs, features), shape)

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Map images `(n, height, width, channels)` to features `(n, h, w, channels)`; of one class the probability is 1."""
        return Answers(np.ones((len(images), 1), np.float32), self._features.run(images), self.spec)


def save_reference(reference: Reference, path: Path) -> None:
    """Write model and task as one `.keras` file, whole or not at all; Keras itself can open it too."""
    about = {
        "task": reference.task.to_json(),
        "name": reference.name,
        "training": reference.training,
        "calibration": reference.calibration,
        "reject_threshold": reference.reject_threshold,
        "rejection": None if reference.rejection is None else dataclasses.asdict(reference.rejection),
        "evidence": None if reference.evidence is None else dataclasses.asdict(reference.evidence),
        "good_parts": None if reference.good_parts is None else dataclasses.asdict(reference.good_parts),
        **({} if reference.drift is None else {"drift": dataclasses.asdict(reference.drift)}),
    }
    entry = json.dumps(about, ensure_ascii=False, allow_nan=False)
    if path.suffix != ".keras":
        raise InputError(f"a reference model is saved as .keras, not {path.name}")
    with replacing(path) as beside:
        reference.model.save(beside)
        with zipfile.ZipFile(beside, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(ENTRY, entry)


def is_ours(path: Path) -> bool:
    """Tell whether a `.keras` file was saved by `save_reference`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return ENTRY in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def read_entry(path: Path) -> dict[str, Any] | None:
    """Return what our entry in a `.keras` file says, None when another tool saved it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "config.json" not in names:
                raise InputError(f"{path} is a ZIP file but not a Keras model: it has no config.json")
            # Keras reads weights in pieces, for which Python does not compare the checksums.
            if (damaged := archive.testzip()) is not None:
                raise InputError(f"{path} is damaged: its {damaged} is not what it was when it was saved")
            if ENTRY not in names:
                return None
            if archive.getinfo(ENTRY).file_size > _MAX_ENTRY_BYTES:
                raise InputError(f"{path}: its {ENTRY} is larger than {_MAX_ENTRY_BYTES} bytes")
            about = json.loads(archive.read(ENTRY))
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is not a .keras file, or it is cut short") from error
    except (OSError, ValueError, RuntimeError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, EdgecnnError):
            raise
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(about, dict):
        raise InputError(f"{path}: its {ENTRY} is not a JSON object; save the model again")
    return about
