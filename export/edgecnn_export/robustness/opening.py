"""Opens the models to measure: exported files anywhere, Keras models where TensorFlow is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn import shipped
from edgecnn.errors import ContractError, MissingDependencyError
from edgecnn.normalization import UNSTATED, InputConvention
from edgecnn.robustness.measure import Subject
from edgecnn.tasks import shipped_tasks
from edgecnn_export.models import Model, open_model, open_models


@dataclass(frozen=True, eq=False)
class Opened:
    """Models of one task, the one among them that knows its pictures best, and notes."""

    subjects: tuple[Subject, ...]
    model: Model
    notes: tuple[str, ...]


def open_subjects(
    sources: Sequence[str],
    *,
    labels: tuple[str, ...] | None = None,
    convention: InputConvention = UNSTATED,
    output: str | None = None,
    trust: bool = False,
) -> Opened:
    """Open exported files, `.keras` files, folders of training runs, and tasks by name (the shipped float and int8 model).

    A quantized file is compared with the float model named last before it, or else with the first one. Where TensorFlow is
    not installed a task's name stands for its int8 file alone, and a note says so. `labels` and the like are for other tools'
    models among them. Raises ContractError unless all are of
    one task.
    """
    notes: list[str] = []
    files = [source for source in sources if source not in shipped_tasks()] or list(sources)
    others = open_models(files, labels=labels, convention=convention, output=output, trust=trust)
    by_name = dict(zip(files, others, strict=True))
    opened = [model for s in sources for model in (_open_task(s, notes) if s in shipped_tasks() else [by_name[s]])]
    notes += [f"{Path(model.name).name}: {note}" for model in opened for note in model.notes]
    for model in opened[1:]:
        _check_same_task(opened[0], model)
    model = next((model for model in opened if model.reference is not None), opened[0])
    return Opened(_paired(_named(opened)), model, tuple(notes))


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
        paired.append(subject if subject.precision == "float32" else replace(subject, reference=reference))
    return tuple(paired)


def _check_same_task(first: Model, other: Model) -> None:
    for what, expected, found in (
        ("recognises", first.task.labels, other.task.labels),
        ("prepares pictures as", first.task.preprocessing, other.task.preprocessing),
    ):
        if expected != found:
            raise ContractError(f"{other.name} {what} {found}, {first.name} {expected}; measure them separately")
