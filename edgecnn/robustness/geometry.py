"""How the object lies before the camera: turned, tilted, moved, slanted."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgecnn.robustness.pixels import Picture, Rng, either_way, shorter_side

_PARTS = 32  # a pixel is divided into whole 32nds, so that interpolation is exact on every processor
_DISTANCE = 2.0  # of the tilted camera, in shorter sides


def rotate(image: Picture, degrees: float, random: Rng, *, mirrored: bool = True) -> Picture:
    """Turn by `degrees` one way or the other about the centre."""
    angle = math.radians(either_way(degrees, random))
    cosine, sine = math.cos(angle), math.sin(angle)
    return _warped(image, np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]), mirrored)


def tilt(image: Picture, degrees: float, random: Rng, *, mirrored: bool = True) -> Picture:
    """Look at the object `degrees` askew, about a random axis in its plane, from two shorter sides away."""
    angle, axis = math.radians(degrees), random.uniform(0, 2 * math.pi)
    along = np.array([math.cos(axis), math.sin(axis)])
    # Seen from the camera, a point's part `along` shrinks by the cosine, and its distance changes by the sine.
    linear = np.eye(2) + (math.cos(angle) - 1) * np.outer(along, along)
    nearer = math.sin(angle) / (_DISTANCE * shorter_side(image)) * along
    seen = np.block([[linear, np.zeros((2, 1))], [nearer[None], np.ones((1, 1))]])
    return _warped(image, np.linalg.inv(seen), mirrored)


def shift(image: Picture, distance: float, random: Rng, *, mirrored: bool = True) -> Picture:
    """Move the object by `distance` (share of the shorter side) in a random direction."""
    angle, pixels = random.uniform(0, 2 * math.pi), distance * shorter_side(image)
    moved = np.array([[1, 0, pixels * math.cos(angle)], [0, 1, pixels * math.sin(angle)], [0, 0, 1]])
    return _warped(image, moved, mirrored)


def slant(image: Picture, degrees: float, random: Rng, *, mirrored: bool = True) -> Picture:
    """Lean upright lines by `degrees` one way or the other."""
    shear = math.tan(math.radians(either_way(degrees, random)))
    return _warped(image, np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]]), mirrored)


def _warped(image: Picture, source: NDArray[np.float64], mirrored: bool) -> Picture:
    """Take each pixel from where `source` `(3, 3)` maps its place `(x, y, 1)` from the centre, bilinear in whole numbers.

    Beyond the border the picture goes on mirrored, or else as its border's own pixels.
    """
    height, width = image.shape[:2]
    x = np.arange(width)[None] - (width - 1) / 2
    y = np.arange(height)[:, None] - (height - 1) / 2
    depth = source[2, 0] * x + source[2, 1] * y + source[2, 2]
    from_x = (source[0, 0] * x + source[0, 1] * y + source[0, 2]) / depth + (width - 1) / 2
    from_y = (source[1, 0] * x + source[1, 1] * y + source[1, 2]) / depth + (height - 1) / 2
    left, right, share_x = _neighbours(from_x, width, mirrored)
    upper, lower, share_y = _neighbours(from_y, height, mirrored)
    levels = image.reshape(height * width, -1).astype(np.int32)
    top = levels.take(upper * width + left, 0) * (_PARTS - share_x) + levels.take(upper * width + right, 0) * share_x
    bottom = levels.take(lower * width + left, 0) * (_PARTS - share_x) + levels.take(lower * width + right, 0) * share_x
    total = top * (_PARTS - share_y) + bottom * share_y
    return np.asarray((total + _PARTS**2 // 2) // _PARTS**2, np.uint8)


def _neighbours(
    places: NDArray[np.float64], size: int, mirrored: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return the indices of the pixels `(h, w)` before and after each place, and how far on it lies `(h, w, 1)` in 32nds."""
    parts = np.rint(places * _PARTS).astype(np.int32)
    before = parts // _PARTS
    share = (parts & (_PARTS - 1))[:, :, None]
    if not mirrored:
        return np.clip(before, 0, size - 1), np.clip(before + 1, 0, size - 1), share
    return _mirrored(before, size), _mirrored(before + 1, size), share


def _mirrored(indices: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """Fold indices back into 0..size-1 without repeating the border's pixel."""
    period = max(2 * size - 2, 1)
    folded = np.abs(indices) % period
    return np.asarray(np.minimum(folded, period - folded) % size, np.int32)
