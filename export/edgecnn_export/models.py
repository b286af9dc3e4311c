"""Any model by what a user calls it: a task's name, an exported file, a `.keras` file, the folder of a run, a SavedModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import SUFFIXES, split
from edgecnn.datasets.dataset import Splits
from edgecnn.errors import InputError
from edgecnn.foreign import ForeignModel, is_foreign, open_foreign
from edgecnn.normalization import UNSTATED, InputConvention, Normalization
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.tasks import Task, shipped_tasks, task_of

if TYPE_CHECKING:
    from edgecnn_export.reference import Reference


@dataclass(frozen=True, eq=False)
class Model:
    """A model that a user named, ready to run: an `artifact` or a Keras `reference` stands behind its `runtime`.

    `path` is the file that was opened, None for a model that is in none; `notes` say what was deduced about another tool's
    model, or changed, and `normalization` how such a one wants its pixels: None for a model of ours.
    """

    name: str
    path: Path | None
    task: Task
    runtime: Runtime
    artifact: Artifact | None = None
    reference: Reference | None = None
    notes: tuple[str, ...] = ()
    normalization: Normalization | None = None

    @classmethod
    def of(cls, reference: Reference) -> Model:
        """Return a reference model that is in memory already."""
        return cls(
            reference.name,
            reference.path,
            reference.task,
            reference.runtime(),
            reference=reference,
            notes=reference.notes,
            normalization=None if reference.raw is None else reference.normalization,
        )

    @property
    def precision(self) -> str:
        """What it computes in: the artifact's precision, `float32` for a Keras model."""
        return "float32" if self.artifact is None else self.artifact.contract.precision

    @property
    def reject_threshold(self) -> float | None:
        """The probability below which its answer is `unknown`."""
        if self.artifact is not None:
            return self.artifact.contract.reject_threshold
        return None if self.reference is None else self.reference.reject_threshold

    @property
    def trained_on(self) -> str | None:
        """The digest of the training pictures that an artifact's contract states."""
        data = None if self.artifact is None else self.artifact.contract.training_data
        return None if data is None else data.digest

    @property
    def size_bytes(self) -> int | None:
        """The size of its file, None for a model that is in none or in many."""
        return self.path.stat().st_size if self.path is not None and self.path.is_file() else None

    def splits(self, data: Path | None, seed: int) -> Splits:
        """Load its pictures: those in `data`, else those that it was trained on, else what its task has.

        A model that was trained here gets the division that it was trained with, whatever `seed` says. Raises DatasetError in
        one line when the pictures of its training are gone or changed, and when there are none.
        """
        from edgecnn_export.pictures import load_pictures

        return load_pictures(self.task, data, seed, self.reference, foreign=self.normalization is not None)


def is_artifact(source: Path | str) -> bool:
    """Tell by its suffix whether a path is that of an exported file, also one that was rejected."""
    return Path(Path(source).name.removesuffix(".rejected")).suffix.lower() in SUFFIXES


def states_itself(source: Path | str) -> bool:
    """Tell whether a model is one of ours, which knows its labels and how it wants its pictures, without opening it."""
    if is_artifact(source):
        return split(Path(source))[1] is not None
    from edgecnn_export.reference import find_reference, is_ours

    return str(source) in shipped_tasks() or is_ours(find_reference(source))


def open_models(
    sources: Sequence[Path | str],
    *,
    of_task: Literal["int8", "keras"] = "int8",
    labels: tuple[str, ...] | None = None,
    convention: InputConvention = UNSTATED,
    output: str | None = None,
    trust: bool = False,
) -> list[Model]:
    """Open several models; what is stated of other tools' models is for those among them, or for none: then an InputError."""
    stated = labels is not None or convention.stated or output is not None or trust
    of_ours = [stated and states_itself(source) for source in sources]
    if all(of_ours):
        of_ours = [False] * len(of_ours)  # let opening the first one say that it has no use for them
    return [
        open_model(source, of_task=of_task)
        if ours
        else open_model(source, of_task=of_task, labels=labels, convention=convention, output=output, trust=trust)
        for source, ours in zip(sources, of_ours, strict=True)
    ]


def open_model(
    source: Path | str,
    *,
    of_task: Literal["int8", "keras"] = "int8",
    labels: tuple[str, ...] | None = None,
    convention: InputConvention = UNSTATED,
    output: str | None = None,
    trust: bool = False,
    runtime: str | None = None,
    threads: int = 1,
) -> Model:
    """Open any model; `of_task` says which of the shipped models the name of a task stands for.

    `labels`, `convention`, `output` and `trust` are for a model that another tool saved, `runtime` and `threads` for exported
    files and other tools' `.tflite`.
    Raises what opening it raises; InputError for options that the model has no use for.
    """
    if is_artifact(source) and is_foreign(Path(source), labels):
        stated = ForeignModel(labels, convention, output=output)
        found = open_foreign(Path(source), stated, runtime=runtime, threads=threads)
        task, pixels = task_of(found.artifact.contract), found.runtime.pixels
        path, notes = Path(source), found.notes
        return Model(str(source), path, task, found.runtime, artifact=found.artifact, notes=notes, normalization=pixels)
    if is_artifact(source) or (of_task == "int8" and str(source) in shipped_tasks()):
        if labels is not None or convention.stated or output is not None or trust:
            raise InputError(f"{source} carries its own labels and preprocessing; leave --labels and the like away")
        artifact = Artifact.open(source if is_artifact(source) else shipped.int8_path(str(source)))
        opened = open_runtime(artifact, runtime=runtime, threads=threads)
        return Model(str(source), artifact.path, task_of(artifact.contract), opened, artifact=artifact)
    from edgecnn_export.reference import open_reference

    if runtime is not None or threads != 1:
        raise InputError(f"{source} is run by Keras; --runtime and --threads are for exported files")
    reference = open_reference(source, labels=labels, convention=convention, output=output, trust=trust)
    return dataclasses.replace(Model.of(reference), name=str(source))
