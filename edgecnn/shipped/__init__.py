"""The models that come with edgecnn, trained by us on the real data: `<task>-compact.keras` and `<task>-int8.tflite`."""

from __future__ import annotations

from pathlib import Path

from edgecnn.errors import UnknownTaskError

_FOLDER = Path(__file__).parent


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
