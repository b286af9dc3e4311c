"""Any model by what a user calls it: a task's name, an exported file, a `.keras` file, the folder of a run, a SavedModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import SUFFIXES
from edgecnn.datasets.dataset import Splits
from edgecnn.errors import ContractError, InputError, MissingDependencyError
from edgecnn.foreign import ForeignModel, is_foreign, open_foreign
from edgecnn.normalization import UNSTATED, InputConvention
from edgecnn.robustness.measure import Subject
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.shipped import shipped_tasks, task_of
from edgecnn.tasks import Task

if TYPE_CHECKING:
    from edgecnn_export.reference import Reference


@dataclass(frozen=True, eq=False)
class Model:
    """A model that a user named, ready to run: an `artifact` or a Keras `reference` stands behind its `runtime`.

    `path` is the file that was opened, None for a model that is in none; `notes` say what was deduced about another tool's
    model, or changed.
    """

    name: str
    path: Path | None
    task: Task
    runtime: Runtime
    artifact: Artifact | None = None
    reference: Reference | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, reference: Reference) -> Model:
        """Return a reference model that is in memory already."""
        runtime, notes = reference.runtime(), reference.notes
        return cls(reference.name, reference.path, reference.task, runtime, reference=reference, notes=notes)

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
        from edgecnn_export.calibration_data import load_pictures

        return load_pictures(self.task, data, seed, self.reference)


def is_artifact(source: Path | str) -> bool:
    """Tell by its suffix whether a path is that of an exported file, also one that was rejected."""
    return Path(Path(source).name.removesuffix(".rejected")).suffix.lower() in SUFFIXES


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
        task = task_of(found.artifact.contract)
        return Model(str(source), Path(source), task, found.runtime, artifact=found.artifact, notes=found.notes)
    if is_artifact(source) or (of_task == "int8" and str(source) in shipped_tasks()):
        if labels is not None or convention.stated or output is not None or trust:
            raise InputError(f"{source} carries its own labels and preprocessing; leave --labels and --pixel-range out")
        artifact = Artifact.open(source if is_artifact(source) else shipped.int8_path(str(source)))
        opened = open_runtime(artifact, runtime=runtime, threads=threads)
        return Model(str(source), artifact.path, task_of(artifact.contract), opened, artifact=artifact)
    from edgecnn_export.reference import open_reference

    if runtime is not None or threads != 1:
        raise InputError(f"{source} is run by Keras; --runtime and --threads are for exported files")
    reference = open_reference(source, labels=labels, convention=convention, output=output, trust=trust)
    return dataclasses.replace(Model.of(reference), name=str(source))


@dataclass(frozen=True, eq=False)
class OpenedSubjects:
    """Models of one task, the one among them that knows its pictures best, and notes."""

    subjects: tuple[Subject, ...]
    model: Model
    notes: tuple[str, ...]


def open_subjects(sources: Sequence[str]) -> OpenedSubjects:
    """Open exported files, `.keras` files, folders of training runs, and tasks by name (the shipped float and int8 model).

    A quantized file is compared with the float model named last before it, or else with the first one. Where TensorFlow is
    not installed a task's name stands for its int8 file alone, and a note says so. Raises ContractError unless all are of
    one task.
    """
    opened: list[Model] = []
    notes: list[str] = []
    for source in sources:
        opened += _open_task(source, notes) if source in shipped_tasks() else [open_model(source)]
    for model in opened[1:]:
        _check_same_task(opened[0], model)
    model = next((model for model in opened if model.reference is not None), opened[0])
    return OpenedSubjects(_paired(_named(opened)), model, tuple(notes))


def _open_task(name: str, notes: list[str]) -> list[Model]:
    int8 = open_model(shipped.int8_path(name))
    try:
        return [open_model(shipped.reference_path(name)), int8]
    except MissingDependencyError as error:
        notes.append(f"{name}: only the int8 file is measured, the float model needs TensorFlow. {error}")
        return [int8]


def _named(models: Sequence[Model]) -> list[Subject]:
    """Call each model by its file's name where that is enough to tell them apart, else as the user named it."""
    files = [Path(model.name).name for model in models]
    return [
        Subject(file if files.count(file) == 1 else model.name, model.precision, model.runtime)
        for file, model in zip(files, models, strict=True)
    ]


def _paired(subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    """Give each quantized model the last float model before it, or else the first one there is."""
    reference = next((subject.name for subject in subjects if subject.precision == "float32"), None)
    paired = []
    for subject in subjects:
        if subject.precision == "float32":
            reference = subject.name
        paired.append(subject if subject.precision == "float32" else dataclasses.replace(subject, reference=reference))
    return tuple(paired)


def _check_same_task(first: Model, other: Model) -> None:
    for what, expected, found in (
        ("recognises", first.task.labels, other.task.labels),
        ("prepares pictures as", first.task.preprocessing, other.task.preprocessing),
    ):
        if expected != found:
            raise ContractError(f"{other.name} {what} {found}, {first.name} {expected}; measure them separately")
