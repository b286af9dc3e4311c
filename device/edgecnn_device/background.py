"""What a camera sees when no part is there: learned slowly, and followed through changes of light.

Each pixel has a mean and a spread that forget exponentially, after Wren et al., "Pfinder" (PAMI 19, 1997). What is held for a
part is not learned, however long the belt stands still.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn_device.empty_scene import empty_scene
from edgecnn_device.flicker import is_wave
from edgecnn_device.frames import Box, Image

Plane = NDArray[np.float32]
# The background is made from the median of the first frames: a part that moves covers no pixel in most of them.
WARM_FRAMES = 9
_FORGET_S = 5.0
_LEARN_S = 0.1  # between two frames that are learned from
# A pixel has changed when it differs by sensor noise and this part of its light, and by so many of its usual deviations.
_LEVELS, _PART_OF_LIGHT, _SPREADS = 6.0, 0.06, 3.0
_LITTLE, _MUCH = 0.6, 0.1  # of that limit, and of a piece
_USUAL_SPREAD, _MOST_SPREAD = 1.0, np.uint8(40)
# Deviations of a lamp's swing. A part that crosses the whole picture is explained by waves in part only (at most 0.9).
_MIN_FLICKER, _MOST_FLICKER, _LIKE_A_WAVE = 0.015, 0.4, 0.95
# Logarithms of light: what is told apart, how far it is followed, and how far it moves from frame to frame at most.
_BIN, _BINS, _LIGHT_STEP = 0.04, 40, 0.15
_CENTRES = (np.arange(2 * _BINS + 1) - _BINS) * _BIN
_MIN_SEEN = 16
_STEP = 4  # every fourth pixel tells the light
_KERNEL = np.ones((3, 3), np.uint8)


class Background:
    """The mean `(h, w, 3)` and the spread `(h, w)` of the empty scene, in gray levels."""

    def __init__(self) -> None:
        """Begin with the next WARM_FRAMES frames."""
        self._first: list[Image] = []
        self._mean: Plane | None = None
        self._spread: Plane | None = None
        self._held: NDArray[np.bool_] | None = None
        self._difference: NDArray[np.uint8] | None = None
        self._limits: tuple[Image, NDArray[np.uint8], NDArray[np.uint8]] | None = None
        self._waited_s = 0.0
        self._last_light = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether enough frames have been seen to tell what changes."""
        return self._mean is not None

    def forget(self) -> None:
        """Begin again."""
        self.__init__()  # type: ignore[misc]

    def warm(self, small: Image) -> None:
        """Take one of the first frames."""
        if self._first and self._first[0].shape != small.shape:
            self._first.clear()
        self._first.append(small)
        if len(self._first) < WARM_FRAMES:
            return
        frames = np.stack(self._first)
        mean = np.median(frames, axis=0).astype(np.float32)
        deviations = np.median(np.abs(frames - mean).max(axis=3), axis=0)
        # The median of absolute deviations is two thirds of a standard deviation, and 0 where levels are rounded.
        self._mean, self._spread = mean, np.maximum(1.48 * deviations, _USUAL_SPREAD).astype(np.float32)
        self._held = np.zeros(mean.shape[:2], bool)
        self._first.clear()
        self._remember()

    def fits(self, small: Image) -> bool:
        """Tell whether the frames still have the size that was learned."""
        return self._mean is None or self._mean.shape == small.shape

    def is_same(self, small: Image) -> bool:
        """Tell, in a tenth of the time of `changed`, that a frame shows nothing else, in the very light that was learned."""
        assert self._limits is not None
        shown, little, _ = self._limits
        return cv2.countNonZero(cv2.subtract(_difference(small, shown), little)) < _KERNEL.size

    def changed(self, small: Image) -> tuple[NDArray[np.uint8], Image]:
        """Return where `(h, w, 3)` shows something else, `(h, w)` 0 or 1, and the picture in the light that was learned.

        What differs a little counts where it hangs together with what differs much (hysteresis, as in Canny's edges).
        """
        assert self._limits is not None
        shown, little, limit = self._limits
        level = _in_light(small, self._light(small))
        self._difference = difference = _difference(level, shown)
        mask = cv2.morphologyEx(cv2.compare(difference, little, cv2.CMP_GT), cv2.MORPH_OPEN, _KERNEL)
        if not cv2.countNonZero(mask):
            return np.zeros_like(difference), level
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _KERNEL)
        count, pieces = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_16U)
        much = np.bincount(pieces[difference > limit], minlength=count) >= _MUCH * np.bincount(pieces.ravel(), minlength=count)
        much[0] = False
        return much.astype(np.uint8)[pieces], level

    def learn(self, level: Image, parts: list[Box], ahead: list[Box], seconds: float) -> None:
        """Learn what is outside all `parts` from the frame last looked at, in the learned light and `seconds` after the last.

        Nor will the places `ahead`, where parts are expected next, tell the light of the next frame.
        """
        assert self._mean is not None
        assert self._spread is not None
        assert self._difference is not None
        held = _covered(level, parts)
        self._held = held | _covered(level, ahead) if ahead else held
        self._waited_s += seconds
        if self._waited_s < _LEARN_S:
            return
        rate = 1 - math.exp(-min(self._waited_s, _FORGET_S) / _FORGET_S)
        self._waited_s = 0.0
        free = (~held).astype(np.uint8)
        cv2.accumulateWeighted(np.minimum(self._difference, _MOST_SPREAD), self._spread, rate, free)
        np.maximum(self._spread, _USUAL_SPREAD, out=self._spread)
        cv2.accumulateWeighted(level, self._mean, rate, free)
        self._remember()

    def relearn(self, smalls: list[Image]) -> None:
        """Begin with the empty scene of frames between which the parts in view have moved on."""
        frames = np.stack(smalls)
        self._mean = np.median(frames, axis=0).astype(np.float32)
        self._held = np.zeros(frames.shape[1:3], bool)
        self._last_light = 0.0
        level = np.stack([_in_light(small, self._light(small)) for small in smalls], dtype=np.float32)
        self._mean, spread = empty_scene(level)
        self._spread = np.maximum(spread, _USUAL_SPREAD)
        self._first.clear()
        self._remember()

    def _remember(self) -> None:
        """Keep what is compared with each frame in whole levels: what is shown, and how much differs a little, and much."""
        assert self._mean is not None
        assert self._spread is not None
        limit = _LEVELS + _PART_OF_LIGHT * self._mean[..., 1] + _SPREADS * self._spread
        little, much = (np.minimum(part * limit, 255).astype(np.uint8) for part in (_LITTLE, 1.0))
        self._limits = np.rint(self._mean).astype(np.uint8), little, much

    def adopt(self, level: Image, box: Box) -> None:
        """Take what a frame shows in a box for the empty scene."""
        assert self._mean is not None
        x, y, w, h = box
        self._mean[y : y + h, x : x + w] = level[y : y + h, x : x + w]
        self._remember()

    def outline(self, level: Image, mask: NDArray[np.uint8]) -> float:
        """Return how steep the background is along the outline of `mask` `(h, w)`, in what the frame is there.

        Above 1 something has gone.

        After Cucchiara et al., "Detecting moving objects, ghosts, and shadows in video streams" (PAMI 25, 2003).
        """
        assert self._mean is not None
        outline = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _KERNEL) > 0
        return float(_steps(self._mean)[outline].sum() / max(float(_steps(level)[outline].sum()), 1e-6))

    def _light(self, small: Image) -> Plane | float:
        """Return by how much the light has changed: one factor, or one for each row or column where lamps flicker."""
        assert self._mean is not None
        assert self._held is not None
        now, then = small[::_STEP, ::_STEP, 1].astype(np.float32), self._mean[::_STEP, ::_STEP, 1]
        free = ~self._held[::_STEP, ::_STEP] & (then > 8) & (now < 250)
        if np.count_nonzero(free) < _MIN_SEEN:
            return math.exp(self._last_light)
        change = np.log((now + 1) / (then + 1))
        self._last_light = overall = _peak(change[free], self._last_light)
        change = np.where(free & (np.abs(change - overall) < _MOST_FLICKER), change, overall)
        for axis in (1, 0):
            if float((change.mean(axis=axis) - overall).std()) < _MIN_FLICKER / 2:
                continue
            swing = np.median(change, axis=axis) - overall
            if float(swing.std()) > _MIN_FLICKER and is_wave(swing, _LIKE_A_WAVE):
                places = np.arange(small.shape[1 - axis]) / _STEP
                light = np.asarray(np.exp(np.interp(places, np.arange(len(swing)), swing + overall)), np.float32)
                return np.expand_dims(light, (1, 2) if axis == 1 else (0, 2))
        return math.exp(overall)


def _in_light(small: Image, light: Plane | float) -> Image:
    """Return a picture in the light that was learned, of which its own is `light` times as much."""
    if isinstance(light, float):
        return np.asarray(cv2.convertScaleAbs(small, alpha=1 / light), np.uint8)
    return np.clip(small / light + 0.5, 0, 255).astype(np.uint8)


def _difference(one: Image, other: Image) -> NDArray[np.uint8]:
    """Return by how much two pictures differ `(h, w)` in the channel where most, ten times as fast as by NumPy's reduction."""
    blue, green, red = cv2.split(cv2.absdiff(one, other))
    return np.asarray(cv2.max(cv2.max(blue, green), red), np.uint8)


def _covered(level: Image, boxes: list[Box]) -> NDArray[np.bool_]:
    """Return which pixels `(h, w)` lie in boxes, with a margin of two."""
    covered = np.zeros(level.shape[:2], bool)
    for x, y, w, h in boxes:
        covered[max(0, y - 2) : max(0, y + h + 2), max(0, x - 2) : max(0, x + w + 2)] = True
    return covered


def _peak(changes: Plane, last: float) -> float:
    """Return the most frequent change of light: more of the picture may be parts than background.

    `changes` and `last`, that of the frame before, are logarithms. Light that jumps is not followed: it is another scene.
    """
    counts = np.bincount(np.clip((changes / _BIN).astype(int) + _BINS, 0, 2 * _BINS), minlength=2 * _BINS + 1)
    likely = np.convolve(counts, (1, 2, 1), "same") * np.exp(-0.5 * np.square((_CENTRES - last) / _LIGHT_STEP))
    peak = _CENTRES[int(likely.argmax())]
    near = changes[np.abs(changes - peak) < 2 * _BIN]
    return _median(near) if len(near) >= _MIN_SEEN and abs(peak - last) < _MOST_FLICKER else last


def _median(values: Plane) -> float:
    """Return what `np.median` does of `(n,)`, which every frame asks for, in a fifth of its time."""
    half = len(values) // 2
    ordered = np.partition(values, (half - 1, half))
    return float(ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / np.float32(2))


def _steps(picture: Plane | Image) -> Plane:
    """Return how steep `(h, w, 3)` is at each pixel, `(h, w)`."""
    gray = np.asarray(picture[..., 1], np.float32)
    return np.asarray(cv2.magnitude(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)), np.float32)
