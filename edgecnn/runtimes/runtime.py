"""What every runtime is to its users."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ShapeError


class Runtime(Protocol):
    """Runs one model; quantization hides inside."""

    @property
    def name(self) -> str:
        """Return who executes the model, with its version: `ai-edge-litert 2.3.0`."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`."""


def check_images(images: NDArray[np.uint8], shape: tuple[int | None, ...]) -> None:
    """Raise ShapeError unless `images` is `(n, *shape)` uint8."""
    if images.ndim != 4 or images.shape[1:] != shape or images.dtype != np.uint8:
        wanted = ", ".join(str(side) for side in shape)
        raise ShapeError(f"expected images (n, {wanted}) uint8, got {images.shape} {images.dtype}")
