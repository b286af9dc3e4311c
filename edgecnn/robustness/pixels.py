"""What all corruptions share: the type of a picture, and the way back to whole gray levels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (h, w, c)
Rng = np.random.Generator


def to_uint8(levels: NDArray[np.floating[Any]]) -> Picture:
    """Round gray levels and clip them to 0..255, as a sensor saturates."""
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)


def shorter_side(image: Picture) -> int:
    """Return the shorter side of `(h, w, c)` in pixels: lengths are given as shares of it."""
    height, width = image.shape[:2]
    return int(min(height, width))


def from_centre(image: Picture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows `(h, 1, 1)` and columns `(1, w, 1)`, each from -1 at one border to 1 at the other."""
    height, width = image.shape[:2]
    rows, columns = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    return rows.astype(np.float64)[:, None, None], columns.astype(np.float64)[None, :, None]


def either_way(size: float, random: Rng) -> float:
    """Return `size` or `-size`, as likely."""
    return size if random.random() < 0.5 else -size
