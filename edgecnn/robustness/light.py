"""Light and tone: how much light falls where, and how levels answer to it."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.robustness.pixels import Picture, Rng, from_centre, shorter_side, to_uint8

_GLARE = 510.0  # light at the middle of a highlight, in gray levels: it saturates whatever is below
_LAMP_PERIODS = (2.0, 6.0)  # of a flickering lamp while the shutter rolls over one picture


def underexpose(image: Picture, stops: float, random: Rng) -> Picture:
    """Take the picture with `stops` less light."""
    return _exposed(image, -stops)


def overexpose(image: Picture, stops: float, random: Rng) -> Picture:
    """Take the picture with `stops` more light; what was bright saturates."""
    return _exposed(image, stops)


def change_gamma(image: Picture, gamma: float, random: Rng) -> Picture:
    """Bend the tone curve to `level^gamma` or, as likely, `level^(1/gamma)`, levels from 0 to 1."""
    exponent = gamma if random.random() < 0.5 else 1 / gamma
    return _looked_up(image, 255 * (np.arange(256) / 255) ** exponent)


def lower_contrast(image: Picture, factor: float, random: Rng) -> Picture:
    """Draw all levels towards the picture's mean, as haze or a dirty window does; `factor` of the contrast remains."""
    mean = float(image.mean())
    return _looked_up(image, mean + factor * (np.arange(256) - mean))


def tilt_light(image: Picture, change: float, random: Rng) -> Picture:
    """Light the picture from a random side: `change` of its light more at one end, as much less at the other."""
    angle = random.uniform(0, 2 * math.pi)
    rows, columns = from_centre(image)
    return to_uint8(image * (1 + change * (math.sin(angle) * rows + math.cos(angle) * columns)))


def vignette(image: Picture, loss: float, random: Rng) -> Picture:
    """Darken towards the corners, which lose `loss` of their light, by the cos^4 law of a simple lens.

    Source: cos^4(theta) = 1 / (1 + tan^2(theta))^2, tan(theta) growing with the distance from the centre.
    """
    rows, columns = from_centre(image)
    corner = 1 / math.sqrt(1 - loss) - 1
    return to_uint8(image / (1 + corner * (rows**2 + columns**2) / 2) ** 2)


def add_highlight(image: Picture, sigma: float, random: Rng) -> Picture:
    """Let a lamp shine back from a random place: a Gaussian spot of `sigma` (share of the shorter side), saturated inside."""
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    middle_row, middle_column = random.uniform(0.2, 0.8, 2) * (np.array(image.shape[:2]) - 1)
    distance = ((rows - middle_row) ** 2 + (columns - middle_column) ** 2) / (sigma * shorter_side(image)) ** 2
    return to_uint8(image + _GLARE * np.exp(-distance / 2)[:, :, None])


def band(image: Picture, depth: float, random: Rng) -> Picture:
    """Light the rows by a flickering lamp while the shutter rolls over them: light swings by `depth` of its mean."""
    periods, phase = random.uniform(*_LAMP_PERIODS), random.uniform(0, 2 * math.pi)
    rows = np.arange(image.shape[0]) / image.shape[0]
    return to_uint8(image * (1 + depth * np.sin(2 * math.pi * periods * rows + phase))[:, None, None])


def _exposed(image: Picture, stops: float) -> Picture:
    return _looked_up(image, np.arange(256) * 2.0**stops)


def _looked_up(image: Picture, levels: NDArray[np.floating[Any]]) -> Picture:
    """Map each level through a table of 256 levels."""
    return np.asarray(cv2.LUT(image, to_uint8(levels)), np.uint8).reshape(image.shape)
