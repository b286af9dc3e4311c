"""Digits as ink on paper: from the model's form to what a camera sees, and back; pen, paper and ink."""

from __future__ import annotations

import cv2
import numpy as np

from edgecnn.robustness.pixels import Picture, Rng, either_way, to_uint8

# Gray levels of white paper and black ink under a well exposed camera: room above for what saturates.
PAPER, INK = 230, 30
_TO_SENSOR = to_uint8(PAPER - np.arange(256) * ((PAPER - INK) / 255))
_GRAIN = 1.0  # sigma of the paper's grain in pixels of the form
_FLOW = 2.5  # sigma of the ink's unevenness in pixels of the form


def photographed(form: Picture) -> Picture:
    """Draw a digit's form (0 paper, 255 ink) as dark ink on light paper."""
    return np.asarray(cv2.LUT(form, _TO_SENSOR), np.uint8).reshape(form.shape)


def form_of(image: Picture) -> Picture:
    """Bring a photographed digit back to its form: the picture's median is paper and becomes 0, darker is ink.

    The scale from paper to ink stays what it was, so weak light or pale ink gives a faint digit; and light that differs
    within the picture leaves a veil. It is what remains after a finder that knows one paper level for one digit.
    """
    paper = float(np.median(image))
    return to_uint8((paper - image) * (255 / (PAPER - INK)))


def change_stroke(image: Picture, share: float, random: Rng) -> Picture:
    """Write with a wider or a narrower pen: `share` of the way to a dilation or erosion by 3 x 3 pixels."""
    kernel = np.ones((3, 3), np.uint8)
    other = cv2.erode(image, kernel) if either_way(share, random) > 0 else cv2.dilate(image, kernel)
    return to_uint8((1 - share) * image + share * np.asarray(other).reshape(image.shape))


def add_grain(image: Picture, deviation: float, random: Rng) -> Picture:
    """Write on rough paper, whose grain changes the light it gives back by a standard deviation of `deviation`."""
    return to_uint8(image * (1 + deviation * _smooth_noise(image, _GRAIN, random)))


def pale_ink(image: Picture, share: float, random: Rng) -> Picture:
    """Write with a colored or failing pen: along the stroke, 0 to `share` of the ink's darkness is missing, unevenly."""
    missing = share * np.clip(0.5 + 0.5 * _smooth_noise(image, _FLOW, random), 0, 1)
    darkness = np.maximum(PAPER - image.astype(np.float64), 0)
    return to_uint8(image + missing * darkness)


def _smooth_noise(image: Picture, sigma: float, random: Rng) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return noise `(h, w, 1)` of mean 0 and variance 1 that changes over `sigma` pixels."""
    noise = cv2.GaussianBlur(random.standard_normal(image.shape[:2]), (0, 0), sigma)
    return np.asarray((noise - noise.mean()) / noise.std(), np.float64)[:, :, None]
