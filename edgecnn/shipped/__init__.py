"""The tasks and models that come with edgecnn, by name.

The models were trained by us on the real data: `<task>-compact.keras` and `<task>-int8.tflite`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.artifacts.contract import Contract
from edgecnn.errors import UnknownTaskError

if TYPE_CHECKING:
    from edgecnn.tasks import Task

_FOLDER = Path(__file__).parent


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
    from edgecnn.tasks import Task  # whoever runs a model needs none

    task = Task(contract.task, contract.title, contract.labels, contract.preprocessing)
    known = shipped_tasks().get(task.name)
    if known is not None and (known.labels, known.preprocessing) == (task.labels, task.preprocessing):
        return known
    return task


def with_loaders(task: Task) -> Task:
    """Return a task that was restored from a file; one that ships gets its loaders back."""
    known = shipped_tasks().get(task.name)
    return known if known == task and known is not None else task


def int8_path(task_name: str) -> Path:
    """Return the shipped int8 artifact of a task, what a board runs; UnknownTaskError when there is none."""
    return _find(task_name, "-int8.tflite")


def reference_path(task_name: str) -> Path:
    """Return the shipped Keras model of a task, what `edgecnn export` starts from; UnknownTaskError when there is none."""
    return _find(task_name, "-compact.keras")


def is_shipped(path: Path) -> bool:
    """Tell whether a file came with edgecnn, and is to be believed as its code is."""
    return path.parent == _FOLDER


def names() -> tuple[str, ...]:
    """Return the names of the tasks whose models are shipped."""
    return tuple(sorted(path.name.removesuffix("-int8.tflite") for path in _FOLDER.glob("*-int8.tflite")))


def _find(task_name: str, ending: str) -> Path:
    path = _FOLDER / f"{task_name}{ending}"
    if not path.is_file():
        known = ", ".join(sorted(p.name.removesuffix(ending) for p in _FOLDER.glob(f"*{ending}")))
        raise UnknownTaskError(f"no such file and no shipped model: {task_name!r}; shipped models: {known}")
    return path
