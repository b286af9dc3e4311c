"""Opens the models to measure: exported files anywhere, Keras models where TensorFlow is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import SUFFIXES
from edgecnn.errors import ContractError, MissingDependencyError
from edgecnn.robustness.measuring import Subject
from edgecnn.runtimes import open_runtime
from edgecnn.tasks import Task, shipped_tasks, task_of


@dataclass(frozen=True, eq=False)
class Opened:
    """Models of one task, `split_seed` if a training run among them recorded how its data was divided, and notes."""

    task: Task
    subjects: tuple[Subject, ...]
    split_seed: int | None
    notes: tuple[str, ...]


def open_subjects(sources: Sequence[str]) -> Opened:
    """Open exported files, `.keras` files, folders of training runs, and tasks by name (the shipped float and int8 model).

    A quantized file is compared with the float model named last before it, or else with the first one. Where TensorFlow is
    not installed a task's name stands for its int8 file alone, and a note says so. Raises ContractError unless all are of
    one task.
    """
    opened: list[_Model] = []
    notes: list[str] = []
    for source in sources:
        opened += _open_task(source, notes) if source in shipped_tasks() else [_open_file(source)]
    for model in opened[1:]:
        _check_same_task(opened[0], model)
    seeds = [model.split_seed for model in opened if model.split_seed is not None]
    return Opened(opened[0].task, _paired(_named(opened)), seeds[0] if seeds else None, tuple(notes))


@dataclass(frozen=True, eq=False)
class _Model:
    subject: Subject
    path: Path
    task: Task
    split_seed: int | None = None


def _open_task(name: str, notes: list[str]) -> list[_Model]:
    int8 = _open_file(str(shipped.int8_path(name)))
    try:
        return [_open_keras(str(shipped.reference_path(name))), int8]
    except MissingDependencyError as error:
        notes.append(f"{name}: only the int8 file is measured, the float model needs TensorFlow. {error}")
        return [int8]


def _open_file(source: str) -> _Model:
    path = Path(source)
    if Path(path.name.removesuffix(".rejected")).suffix.lower() not in SUFFIXES:
        return _open_keras(source)
    artifact = Artifact.open(path)
    subject = Subject(source, artifact.contract.precision, open_runtime(artifact))
    return _Model(subject, path, task_of(artifact.contract))


def _open_keras(source: str) -> _Model:
    from edgecnn_export.reference import find_reference, open_reference

    path = find_reference(source)
    reference = open_reference(path)
    seed = None if reference.training is None else reference.split_seed(0)
    return _Model(Subject(source, "float32", reference.runtime()), Path(source), reference.task, seed)


def _named(models: Sequence[_Model]) -> list[Subject]:
    """Call each model by its file's name where that is enough to tell them apart, else by its path as given."""
    names = [model.path.name for model in models]
    return [
        replace(model.subject, name=model.path.name if names.count(model.path.name) == 1 else str(model.path))
        for model in models
    ]


def _paired(subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    """Give each quantized model the last float model before it, or else the first one there is."""
    reference = next((subject.name for subject in subjects if subject.precision == "float32"), None)
    paired = []
    for subject in subjects:
        if subject.precision == "float32":
            reference = subject.name
        paired.append(subject if subject.precision == "float32" else replace(subject, reference=reference))
    return tuple(paired)


def _check_same_task(first: _Model, other: _Model) -> None:
    for what, expected, found in (
        ("recognises", first.task.labels, other.task.labels),
        ("prepares pictures as", first.task.preprocessing, other.task.preprocessing),
    ):
        if expected != found:
            raise ContractError(f"{other.path} {what} {found}, {first.path} {expected}; measure them separately")
