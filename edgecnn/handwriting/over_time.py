"""Reading the digits of a camera's frames: what did not change is not read again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.memory import Memory
from edgecnn.handwriting.reader import DigitReading, read_digits, same_code_everywhere
from edgecnn.handwriting.regions import gray_of
from edgecnn.runtimes.runtime import Runtime

# Changes are looked for in frames halved until no side is longer than this, where they are larger than so many standard
# deviations of the noise and so many gray levels: half of what a pencil's stroke leaves.
_SIDE = 400
_DEVIATIONS, _LEAST = 6.0, 8.0
_AROUND = np.ones((5, 5), np.uint8)


@dataclass(frozen=True, eq=False)
class _Before:
    readings: list[DigitReading]
    memory: Memory
    seen: NDArray[np.uint8]  # the gray frame from afar, each place as it was when it was read
    runtime: Runtime
    reject_threshold: float
    read_at: float


class ReaderOverTime:
    """Reads frames of one scene. Every frame is looked at, but only what changed is read; all of it at least every second.

    A frame without a change has the very readings of the one before. Where something changes, that frame's ink is found anew,
    and components classified that are new or where a change is. Nothing is kept that another model has read.
    """

    def __init__(self, every: float = 1.0) -> None:
        """Read everything again after so long, in the unit of the times that `read` is told."""
        self._every = every
        self._before: _Before | None = None

    def read(self, image_bgr: NDArray[np.uint8], runtime: Runtime, reject_threshold: float, now: float) -> list[DigitReading]:
        """Find and read the digits of a frame `(h, w, 3)` uint8 BGR taken at a time, as `read_digits` does."""
        with same_code_everywhere():
            seen = _from_afar(image_bgr)
            before = self._usable(seen, runtime, reject_threshold, now)
            if before is None:
                memory, read_at = Memory(), now
            else:
                changed = _changes(before.seen, seen)
                if not cv2.countNonZero(changed):
                    return before.readings
                memory, read_at = Memory(before.memory, changed), before.read_at
                seen = np.where(changed > 0, seen, before.seen)
        readings = read_digits(image_bgr, runtime, reject_threshold, memory=memory)
        self._before = _Before(readings, memory, seen, runtime, reject_threshold, read_at)
        return readings

    def _usable(self, seen: NDArray[np.uint8], runtime: Runtime, reject_threshold: float, now: float) -> _Before | None:
        """Return what is known of frames before, None where it is too old or of another size, model or threshold."""
        before = self._before
        if before is None or before.seen.shape != seen.shape or not 0 <= now - before.read_at < self._every:
            return None
        return before if (before.runtime, before.reject_threshold) == (runtime, reject_threshold) else None


def _from_afar(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame in gray, halved and blurred a little against noise."""
    gray = gray_of(image_bgr)
    while max(gray.shape) > _SIDE and min(gray.shape) > 1:
        half_wh = gray.shape[1] // 2, gray.shape[0] // 2
        gray = np.asarray(cv2.resize(gray, half_wh, interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
    return np.asarray(cv2.GaussianBlur(gray, (3, 3), 0.8), np.uint8)


def _changes(before: NDArray[np.uint8], now: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return where frames seen from afar `(h, w)` differ by more than noise, and a little around: 255 there, else 0."""
    difference = cv2.absdiff(before, now)
    counts = np.cumsum(np.bincount(difference.ravel(), minlength=256))
    # The median of the absolute differences of two frames is .6745 sqrt(2) standard deviations of one's noise.
    deviation = int(np.searchsorted(counts, difference.size / 2)) / (0.6745 * math.sqrt(2))
    above = cv2.threshold(difference, max(_LEAST, _DEVIATIONS * deviation), 255, cv2.THRESH_BINARY)[1]
    return np.asarray(cv2.dilate(above, _AROUND), np.uint8)
