"""edgecnn: get a small vision model onto a small board without losing anything on the way, and prove it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecnn.opencv_limits import set_limits

if TYPE_CHECKING:
    from edgecnn.artifacts import Artifact, Contract
    from edgecnn.datasets.dataset import Dataset, Splits
    from edgecnn.errors import EdgecnnError
    from edgecnn.preprocessing import Preprocessing
    from edgecnn.runtimes import Runtime, open_runtime
    from edgecnn.shipped import find_task
    from edgecnn.tasks import Task

__version__ = "0.1.0"
__all__ = [
    "Artifact",
    "Contract",
    "Dataset",
    "EdgecnnError",
    "Preprocessing",
    "Runtime",
    "Splits",
    "Task",
    "find_task",
    "open_runtime",
]
_HOMES = {
    "Artifact": "edgecnn.artifacts",
    "Contract": "edgecnn.artifacts",
    "Dataset": "edgecnn.datasets.dataset",
    "EdgecnnError": "edgecnn.errors",
    "Preprocessing": "edgecnn.preprocessing",
    "Runtime": "edgecnn.runtimes",
    "Splits": "edgecnn.datasets.dataset",
    "Task": "edgecnn.tasks",
    "find_task": "edgecnn.shipped",
    "open_runtime": "edgecnn.runtimes",
}


set_limits()


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that `import edgecnn` costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgecnn' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
