"""edgecnn: get a small vision model onto a small board without losing anything on the way, and prove it.

Six verbs, from a folder of pictures to a camera: `load_folder`, `train`, `export`, `compare`, `open`, `watch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecnn.opencv_limits import set_limits

if TYPE_CHECKING:
    from edgecnn.api import Answer as Answer
    from edgecnn.api import Export as Export
    from edgecnn.api import LabelledFolder as LabelledFolder
    from edgecnn.api import Model as Model
    from edgecnn.api import Run as Run
    from edgecnn.api import Seen as Seen
    from edgecnn.api import compare as compare
    from edgecnn.api import export as export
    from edgecnn.api import load_folder as load_folder
    from edgecnn.api import open as open
    from edgecnn.api import train as train
    from edgecnn.api import watch as watch
    from edgecnn.artifacts import Artifact as Artifact
    from edgecnn.artifacts import Contract as Contract
    from edgecnn.classifier import Classifier as Classifier
    from edgecnn.classifier import Prediction as Prediction
    from edgecnn.datasets.dataset import Dataset as Dataset
    from edgecnn.datasets.dataset import Splits as Splits
    from edgecnn.errors import EdgecnnError as EdgecnnError
    from edgecnn.evaluation import evaluate as evaluate
    from edgecnn.pictures import read_picture as read_picture
    from edgecnn.preprocessing import Preprocessing as Preprocessing
    from edgecnn.runtimes import Runtime as Runtime
    from edgecnn.runtimes import open_runtime as open_runtime
    from edgecnn.shipped import find_task as find_task
    from edgecnn.tasks import Task as Task

__version__ = "0.2.0"
_HOMES = {
    **dict.fromkeys(("compare", "export", "load_folder", "open", "train", "watch"), "edgecnn.api"),
    **dict.fromkeys(("Answer", "Export", "LabelledFolder", "Model", "Run", "Seen"), "edgecnn.api"),
    "Artifact": "edgecnn.artifacts",
    "Classifier": "edgecnn.classifier",
    "Contract": "edgecnn.artifacts",
    "Dataset": "edgecnn.datasets.dataset",
    "EdgecnnError": "edgecnn.errors",
    "Prediction": "edgecnn.classifier",
    "Preprocessing": "edgecnn.preprocessing",
    "Runtime": "edgecnn.runtimes",
    "Splits": "edgecnn.datasets.dataset",
    "Task": "edgecnn.tasks",
    "evaluate": "edgecnn.evaluation",
    "find_task": "edgecnn.shipped",
    "open_runtime": "edgecnn.runtimes",
    "read_picture": "edgecnn.pictures",
}
__all__ = [
    "Answer",
    "Artifact",
    "Classifier",
    "Contract",
    "Dataset",
    "EdgecnnError",
    "Export",
    "LabelledFolder",
    "Model",
    "Prediction",
    "Preprocessing",
    "Run",
    "Runtime",
    "Seen",
    "Splits",
    "Task",
    "compare",
    "evaluate",
    "export",
    "find_task",
    "load_folder",
    "open",
    "open_runtime",
    "read_picture",
    "train",
    "watch",
]


set_limits()


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that `import edgecnn` costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgecnn' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
