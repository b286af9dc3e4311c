"""The lens and the way that things move before it: blur, too few pixels, dust."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.preprocessing import resize
from edgecnn.robustness.pixels import Picture, Rng, shorter_side, to_uint8

_ONE = 256  # weights of a smear are whole 256ths, so that the sum is exact on every processor
_MOST_SPECKS = 32


def defocus(image: Picture, sigma: float, random: Rng) -> Picture:
    """Blur by a Gaussian of `sigma` (share of the shorter side)."""
    blurred = cv2.GaussianBlur(image, (0, 0), sigma * shorter_side(image))
    return np.asarray(blurred, np.uint8).reshape(image.shape)


def smear_across(image: Picture, length: float, random: Rng) -> Picture:
    """Move the object along the rows by `length` (share of the shorter side) while the shutter is open."""
    return _smeared(image, length * shorter_side(image), axis=1)


def smear_down(image: Picture, length: float, random: Rng) -> Picture:
    """Move the object along the columns by `length` (share of the shorter side) while the shutter is open."""
    return _smeared(image, length * shorter_side(image), axis=0)


def lower_resolution(image: Picture, factor: float, random: Rng) -> Picture:
    """Take the picture with `factor` times the pixels per side, and enlarge it to its size again."""
    height, width = image.shape[:2]
    few = resize(image.squeeze(2) if image.shape[2] == 1 else image, (round(height * factor), round(width * factor)))
    return resize(few, (height, width)).reshape(image.shape)


def add_dust(image: Picture, specks: float, random: Rng, radius: tuple[float, float] = (0.02, 0.05)) -> Picture:
    """Put `specks` out-of-focus specks before the sensor, each a soft disc that takes 30 to 70 % of the light.

    `radius` is the range of their radii as shares of the shorter side. Fewer specks are the first of many.
    """
    height, width = image.shape[:2]
    places = random.random((_MOST_SPECKS, 2)) * (height - 1, width - 1)
    radii = random.uniform(*radius, _MOST_SPECKS) * shorter_side(image)
    shares = random.uniform(0.3, 0.7, _MOST_SPECKS)
    light = np.ones((height, width, 1))
    for (row, column), own, share in list(zip(places, radii, shares, strict=True))[: round(specks)]:
        top, left = max(0, math.floor(row - own)), max(0, math.floor(column - own))
        part = light[top : math.ceil(row + own) + 1, left : math.ceil(column + own) + 1]
        rows, columns = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
        away = np.sqrt((rows - row) ** 2 + (columns - column) ** 2) / own
        part *= (1 - share * np.clip(2 - 2 * away, 0, 1))[:, :, None]  # full inside half the radius, none beyond it
    return to_uint8(image * light)


def _smeared(image: Picture, length: float, axis: int) -> Picture:
    """Average over a straight window `length` pixels long; beyond the border the border's own pixels go on."""
    weights = _window(length)
    reach = len(weights) // 2
    padded = np.pad(image, [(reach, reach) if i == axis else (0, 0) for i in range(3)], mode="edge").astype(np.int32)
    size = image.shape[axis]
    windows = [padded[:, at : at + size] if axis else padded[at : at + size] for at in range(len(weights))]
    total = sum((weight * window for weight, window in zip(weights.tolist(), windows, strict=True)), np.int32(_ONE // 2))
    return np.asarray(total // _ONE, np.uint8)


def _window(length: float) -> NDArray[np.int64]:
    """Return how much of each pixel a window of `length` >= 1 covers, in whole 256ths that sum to 256."""
    reach = math.ceil((length - 1) / 2)
    edge = (length - (2 * reach - 1)) / 2 if reach else 1.0
    cover = np.full(2 * reach + 1, 1.0)
    cover[[0, -1]] = edge
    weights = np.rint(cover / cover.sum() * _ONE).astype(np.int64)
    weights[reach] += _ONE - weights.sum()
    return np.asarray(weights, np.int64)
