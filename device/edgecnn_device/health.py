"""Whether a frame can be believed: a lost, late, frozen, black, saturated or torn picture is a state, never a class."""

from __future__ import annotations

import math

import cv2
import numpy as np

from edgecnn.quick_dataclass import dataclass
from edgecnn_device.frames import OK, Frame, Image, Missing, State
from edgecnn_device.torn import coarse_sample, torn

_SUSPICIOUS = 5
# A frozen picture of up to a megapixel is recognized by all of its pixels.
_MOST_PIXELS = 2**20
# Levels of 8 bits: a covered sensor with its gain up stays below DARK nearly everywhere, a flooded one above BRIGHT.
DARK, BRIGHT, FLAT_DEVIATION = 32, 245, 1.5
# A time stamp drawn over a black picture covers less than this part of it; a pen stroke on white paper more than that.
DARK_PART, BRIGHT_PART = 0.01, 1e-4


@dataclass(frozen=True)
class Limits:
    """When a source is no longer believed, in seconds; `live` is False for files and folders, which cannot be late.

    `interval_s` is the time between two frames, which a slow source may take beyond the other limits.
    """

    max_age_s: float = 1.5
    frozen_after_s: float = 1.5
    live: bool = True
    interval_s: float = 0.0


class Health:
    """Judges frames one after the other. It keeps the last frame, to notice that the next one is the same."""

    def __init__(self, limits: Limits) -> None:
        """Judge by `limits`."""
        self.limits = limits
        self._last: Image | None = None
        self._last_sample: Image | None = None
        self._same_since_s = 0.0

    def judge(self, frame: Frame, now_s: float) -> State:
        """Return the state of the source as this frame shows it; `now_s` is on the frame's monotonic clock."""
        sample = coarse_sample(frame.image_bgr)
        if reason := frame.unusable or blindness(frame.image_bgr, sample) or torn(frame.image_bgr, sample):
            return State("blind", reason)
        if not self.limits.live:
            return OK
        same_s = self._unchanged_s(frame, sample)
        if same_s > self.limits.frozen_after_s + self.limits.interval_s:
            return State("stale", f"frozen: the same picture for {same_s:.1f} s")
        return self.judge_age(frame, now_s)

    def judge_age(self, frame: Frame, now_s: float) -> State:
        """Return `stale` when a frame of a live source is too old at `now_s`."""
        age_s = now_s - frame.monotonic_s
        if self.limits.live and age_s > self.limits.max_age_s:
            return State("stale", f"late: the frame is {age_s:.1f} s old")
        return OK

    def judge_missing(self, missing: Missing, now_s: float) -> State:
        """Return the state while no frame comes: `stale` once one is overdue."""
        if missing.since_s is None:
            return State("blind", missing.reason)
        silence_s = now_s - missing.since_s
        if silence_s <= self.limits.max_age_s + self.limits.interval_s:
            return OK
        return State("stale", f"lost: no frame for {silence_s:.1f} s ({missing.reason})")

    def _unchanged_s(self, frame: Frame, sample: Image) -> float:
        """Return for how long the picture has been the same, in seconds of capture time."""
        image, last, last_sample = _thinned(frame.image_bgr), self._last, self._last_sample
        self._last, self._last_sample = image, sample
        # The sample first: with a sensor's noise it differs at once, and the whole picture is never compared.
        same = last is not None and last_sample is not None and last.shape == image.shape
        if not (same and np.array_equal(sample, last_sample) and np.array_equal(image, last)):  # type: ignore[arg-type]
            self._same_since_s = frame.monotonic_s
        return frame.monotonic_s - self._same_since_s


def blindness(image_bgr: Image, sample: Image) -> str:
    """Say why nothing can be seen in `(h, w, 3)` uint8, or return an empty text.

    `sample` is a coarse grid of the picture's pixels: the whole is looked at only when the grid is suspicious.
    """
    mean, deviation = _brightness(sample)
    # Few values above DARK mean a low mean: this one figure recognizes an ordinary picture.
    if mean < DARK + _SUSPICIOUS * DARK_PART * (255 - DARK) and _is_black(image_bgr, sample):
        return "black picture"
    if mean >= BRIGHT and int(sample.min()) >= BRIGHT and _is_saturated(image_bgr):
        return "saturated picture"
    if deviation < FLAT_DEVIATION and _brightness(image_bgr)[1] < FLAT_DEVIATION:
        return "picture without any contrast"
    return ""


def _is_black(image_bgr: Image, sample: Image) -> bool:
    if np.count_nonzero(sample > DARK) >= _SUSPICIOUS * DARK_PART * sample.size:
        return False
    return bool(np.count_nonzero(image_bgr > DARK) < DARK_PART * image_bgr.size)


def _is_saturated(image_bgr: Image) -> bool:
    return bool(np.count_nonzero(image_bgr < BRIGHT) < BRIGHT_PART * image_bgr.size)


def _thinned(image: Image) -> Image:
    """Return the picture itself, or every so manieth pixel of a large one, whose memory is wanted for the next."""
    step = math.ceil(math.sqrt(image.shape[0] * image.shape[1] / _MOST_PIXELS))
    return image if step <= 1 else np.ascontiguousarray(image[::step, ::step])


def _brightness(image: Image) -> tuple[float, float]:
    """Return the mean of all values and the largest standard deviation of a channel, in gray levels."""
    means, deviations = (values.ravel().tolist() for values in cv2.meanStdDev(image))
    return sum(means) / len(means), max(deviations)
