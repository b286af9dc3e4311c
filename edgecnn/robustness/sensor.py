"""The sensor and its encoder: noise, gain, JPEG.

The sensor of `amplify` is a small one with a linear answer: 5,000 electrons at white, 3 electrons of read noise, 10 bits.
"""

from __future__ import annotations

import cv2
import numpy as np

from edgecnn.robustness.pixels import Picture, Rng, to_uint8

_FULL_WELL, _READ_NOISE, _STEPS = 5000.0, 3.0, 1023


def amplify(image: Picture, stops: float, random: Rng) -> Picture:
    """Take the picture with `stops` less light and make it as bright again by gain.

    Fewer electrons make shot noise (their number's square root) stand out, and fewer of the converter's steps are used.
    """
    gain = 2.0**stops
    electrons = image * (_FULL_WELL / 255 / gain)
    noise = np.sqrt(electrons + _READ_NOISE**2) * random.standard_normal(image.shape)
    steps = np.clip(np.rint((electrons + noise) * (_STEPS / _FULL_WELL)), 0, _STEPS)
    return to_uint8(steps * (255 * gain / _STEPS))


def add_noise(image: Picture, sigma: float, random: Rng) -> Picture:
    """Add noise of `sigma` gray levels at level 128: half of that variance is read noise, half shot noise."""
    deviation = sigma * np.sqrt(0.5 + 0.5 * image / 128)
    return to_uint8(image + deviation * random.standard_normal(image.shape))


def compress(image: Picture, quality: float, random: Rng) -> Picture:
    """Send the picture through JPEG at `quality` (0 to 100)."""
    ordered = image[:, :, ::-1] if image.shape[2] == 3 else image  # OpenCV encodes BGR
    packed = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, round(quality)])[1]
    seen = np.asarray(cv2.imdecode(packed, cv2.IMREAD_UNCHANGED), np.uint8).reshape(image.shape)
    return np.ascontiguousarray(seen[:, :, ::-1]) if image.shape[2] == 3 else seen
