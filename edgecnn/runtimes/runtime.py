"""What every runtime is to its users."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InferenceError, ShapeError


class Runtime(Protocol):
    """Runs one model; quantization hides inside."""

    @property
    def name(self) -> str:
        """Return who executes the model, with its version: `ai-edge-litert 2.3.0`."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`, all finite; InferenceError otherwise."""


def check_answers(probabilities: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Return `(n, classes)` as they are; InferenceError, naming the runtime, when one is NaN or infinite: it is no answer."""
    if not np.isfinite(probabilities).all():
        bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise InferenceError(
            f"the model's answer is not a number (NaN or infinite) for {bad} of {len(probabilities)} on {name}"
        )
    return probabilities


def check_images(images: NDArray[np.uint8], shape: tuple[int | None, ...]) -> None:
    """Raise ShapeError unless `images` is `(n, *shape)` uint8."""
    if images.ndim != 4 or images.shape[1:] != shape or images.dtype != np.uint8:
        wanted = ", ".join(str(side) for side in shape)
        raise ShapeError(f"expected images (n, {wanted}) uint8, got {images.shape} {images.dtype}")
