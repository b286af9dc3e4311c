"""Putting a model on a board so that nothing can break: proven there, shadowed, exchanged at once, watched, taken back.

`deploy(Path("exports/parts/parts-int8.tflite"), "pi@line-1", DeployOptions(), print)` returns an `Outcome`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgecnn_device.deploy.client import DeployOptions, deploy, history, rollback
    from edgecnn_device.deploy.plan import Event, History, Limits, Measured, Outcome, Plan
    from edgecnn_device.deploy.ssh import SshOptions

__all__ = [
    "DeployOptions",
    "Event",
    "History",
    "Limits",
    "Measured",
    "Outcome",
    "Plan",
    "SshOptions",
    "deploy",
    "history",
    "rollback",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for: a camera, which only settles what was left unfinished, needs none of it."""
    import importlib

    if name in __all__:
        for module in ("client", "plan", "ssh"):
            if (found := getattr(importlib.import_module(f"{__name__}.{module}"), name, None)) is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
