"""Classification problems without any framework: what is recognised, in which order, from which pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import InputError, UnknownTaskError
from edgecnn.preprocessing import Preprocessing

if TYPE_CHECKING:
    from edgecnn.artifacts import Contract


@dataclass(frozen=True)
class Task:
    """A classification problem: name, labels in class order, and how a raw picture becomes the model's input.

    `load(folder, seed)` reads its data set and divides it; `read(folder)` only reads it, where the folder holds arrays instead
    of picture files (None where it does not). `synthesize(count, seed)` makes `count` generated pictures a class where the task
    has a generator, and `others(count, seed)` makes `count` pictures `(count, height, width, channels)` uint8 of each kind of
    what belongs to no class: with these rejection is measured. `counter_examples(count, seed)` makes `count` such pictures in
    other ways, to train on. `max_drop` is the default parity margin in percentage points. `flips` tells that a mirrored picture
    keeps its class (steel does, digits do not).
    """

    name: str
    title: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    max_drop: float = 1.0
    flips: bool = False
    load: Callable[[Path | None, int], Splits] | None = field(default=None, compare=False, repr=False)
    read: Callable[[Path], Dataset | None] | None = field(default=None, compare=False, repr=False)
    synthesize: Callable[[int, int], Dataset] | None = field(default=None, compare=False, repr=False)
    others: Callable[[int, int], dict[str, NDArray[np.uint8]]] | None = field(default=None, compare=False, repr=False)
    counter_examples: Callable[[int, int], NDArray[np.uint8]] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise InputError(f"a task needs at least two classes, got {list(self.labels)}")
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"labels must differ from each other, got {list(self.labels)}")

    def to_json(self) -> dict[str, Any]:
        """Return what a file must carry to restore the task: everything but its loaders."""
        fitted = self.preprocessing
        return {
            "name": self.name,
            "title": self.title,
            "labels": list(self.labels),
            "preprocessing": {"height": fitted.height, "width": fitted.width, "color": fitted.color, "fit": fitted.fit},
            "max_drop": self.max_drop,
            "flips": self.flips,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Task:
        """Restore a task from `to_json`; a task that ships gets its loaders back."""
        try:
            fields = data | {"labels": tuple(data["labels"]), "preprocessing": Preprocessing(**data["preprocessing"])}
            task = cls(**fields)
        except (KeyError, TypeError) as error:
            raise InputError(f"malformed task description: {error}") from error
        known = shipped_tasks().get(task.name)
        return known if known == task else task


def shipped_tasks() -> dict[str, Task]:
    """Return the tasks that come with edgecnn, by name."""
    from edgecnn.datasets.mnist import TASK as MNIST
    from edgecnn.datasets.neu import TASK as NEU

    return {task.name: task for task in (MNIST, NEU)}


def find_task(name: str) -> Task:
    """Return the shipped task of this name; UnknownTaskError lists the known ones."""
    tasks = shipped_tasks()
    if name not in tasks:
        raise UnknownTaskError(f"unknown task {name!r}; known tasks: {', '.join(tasks)}, or a folder of pictures per class")
    return tasks[name]


def task_of(contract: Contract) -> Task:
    """Return the task that an artifact was exported for; a shipped task with its loaders where labels and input agree."""
    task = Task(contract.task, contract.title, contract.labels, contract.preprocessing)
    known = shipped_tasks().get(task.name)
    if known is not None and (known.labels, known.preprocessing) == (task.labels, task.preprocessing):
        return known
    return task
