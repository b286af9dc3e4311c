"""Which frames are worth the work: one every so often, or only those in which something moves."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edgecnn_device.flicker import without_flicker
from edgecnn_device.frames import Frame, Image

Gate = Callable[[Frame], bool]
# A pixel of the small picture has changed when it differs by more than sensor noise leaves after shrinking.
_SMALL_WH = (64, 48)
_MIN_CHANGE = 12


def always(frame: Frame) -> bool:
    """Let every frame pass."""
    return True


class Interval:
    """Lets one frame pass every `seconds` of capture time."""

    def __init__(self, seconds: float) -> None:
        """Begin with the first frame."""
        self._seconds = seconds
        self._next_s = -np.inf

    def __call__(self, frame: Frame) -> bool:
        """Say whether the frame is due."""
        if frame.monotonic_s < self._next_s:
            return False
        # From when it was due, so that the pace holds; from now when much was missed.
        on_time = frame.monotonic_s < self._next_s + self._seconds
        self._next_s = (self._next_s if on_time else frame.monotonic_s) + self._seconds
        return True


class Motion:
    """Lets frames pass in which more than `part` of the picture has changed, and those of `linger_s` seconds after.

    Lamps that flicker are no motion.
    """

    def __init__(self, part: float = 0.005, linger_s: float = 1.0) -> None:
        """Begin with the first frame, which passes."""
        self._part, self._linger_s = part, linger_s
        self._background: Image | None = None
        self._until_s = -np.inf

    def __call__(self, frame: Frame) -> bool:
        """Say whether something moved lately."""
        small = np.asarray(cv2.cvtColor(cv2.resize(frame.image_bgr, _SMALL_WH), cv2.COLOR_BGR2GRAY), np.uint8)
        before, self._background = self._background, small
        if before is None or self._has_changed(small, before):
            self._until_s = frame.monotonic_s + self._linger_s
        return frame.monotonic_s <= self._until_s

    def _has_changed(self, small: Image, before: Image) -> bool:
        most = self._part * small.size
        if np.count_nonzero(cv2.absdiff(small, before) > _MIN_CHANGE) <= most:
            return False
        return bool(np.count_nonzero(without_flicker(small, before, _MIN_CHANGE)) > most)


def both(one: Gate, other: Gate) -> Gate:
    """Let frames pass that pass both; the second is asked only when the first agrees."""
    return lambda frame: one(frame) and other(frame)
