"""Training on a workstation, interruptible and resumable, with a camera-like view of the pictures."""

from __future__ import annotations

from edgecnn_export.frameworks import require_keras

require_keras()

from edgecnn_export.training.session import TrainingRun  # noqa: E402  # Keras must start quietly first
from edgecnn_export.training.trainer import train  # noqa: E402

__all__ = ["TrainingRun", "train"]
