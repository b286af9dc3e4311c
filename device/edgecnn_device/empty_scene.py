"""The empty scene behind parts that were in view from the first frame on: frames until they have moved on, and what they hide.

A pixel that stays as it is shows the scene. From there it is continued pixel by pixel: of what each has shown, the scene is
what goes on from its neighbours, since a part ends at an outline; after Colombari and Fusiello, "Patch-based background
initialization in heavily cluttered video" (IEEE Trans. Image Processing 19, 2010).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn_device.frames import Frame, Image

Plane = NDArray[np.float32]
# Levels within which two frames show the same, before noise; the share of frames that have to; how large a neighbourhood is.
_ALIKE, _NOISES, _MOST_NOISE, _SEEN = 12.0, 4.0, 6.0, 0.05
_KERNEL = np.ones((3, 3), np.uint8)
_NEIGHBOURS = (5, 5)
_FEW = 0.02  # of a picture that never changes: too little to go on from
_MODE = 4  # where nothing continues: the shortest interval of so small a part of the frames
_MOST_SAMPLES = 48
# What the corners of a picture have to move by to be told from noise, and how many must.
_STEP, _LEAST_STEP, _FEWEST = 2.0, 1.0, 3
_CORNERS, _QUALITY, _APART, _WINDOW, _BACK = 60, 0.05, 5, (15, 15), 0.5
_LOST_FRAMES = 10  # after so many without motion the corners are looked for anew
_MOST_HELD, _MOST_TRACKED_S, _IDLE_S, _REST_S = 240, 12.0, 2.0, 1.0
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 97)


def empty_scene(level: Plane) -> tuple[Plane, Plane]:
    """Return the mean `(h, w, 3)` and the spread `(h, w)` of what is behind the parts in `level` `(n, h, w, 3)`."""
    ordered = np.sort(level, axis=0)
    steps = np.abs(np.diff(level, axis=0))
    alike = _ALIKE + _NOISES * min(_MOST_NOISE, float(np.median(steps)))
    outliers = 1 if len(level) > 4 else 0
    known = (ordered[-1 - outliers] - ordered[outliers]).max(axis=2) < alike
    mean = ordered[len(level) // 2].copy()
    if known.mean() >= _FEW:
        _continue(level, mean, known, alike)
    mean[~known] = _mode(ordered)[~known]
    away = np.abs(level - mean).max(axis=3)
    shown = np.maximum(1, np.count_nonzero(away < alike, axis=0))
    spread = np.sqrt(np.where(away < alike, away**2, 0).sum(axis=0) / shown)
    return mean, np.asarray(spread, np.float32)


def _continue(level: Plane, mean: Plane, known: NDArray[np.bool_], alike: float) -> None:
    """Write into `mean` and `known` what goes on from what is known."""
    least = max(2, round(_SEEN * len(level)))
    while True:
        frontier = cv2.dilate(known.astype(np.uint8), _KERNEL).astype(bool) & ~known
        places = np.nonzero(frontier)
        if not len(places[0]):
            return
        weights = known.astype(np.float32)
        sums = cv2.blur(mean * weights[..., None], _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT)
        expected = sums[places] / cv2.blur(weights, _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT)[places][:, None]
        shown = level[:, places[0], places[1]]
        near = np.abs(shown - expected).max(axis=2) < alike
        goes_on = np.count_nonzero(near, axis=0) >= least
        if not goes_on.any():
            return
        agreeing = np.where(near[..., None], shown, np.nan)[:, goes_on]
        rows, columns = places[0][goes_on], places[1][goes_on]
        mean[rows, columns] = np.nanmedian(agreeing, axis=0)
        known[rows, columns] = True


def _mode(ordered: Plane) -> Plane:
    """Return the middle of the shortest interval of a part of each pixel's values (Robertson and Cryer, JASA 69, 1974)."""
    part = max(2, len(ordered) // _MODE)
    width = ordered[part - 1 :] - ordered[: len(ordered) + 1 - part]
    place = width.max(axis=3).argmin(axis=0)[None, ..., None]
    return np.asarray(np.take_along_axis(ordered, place + part // 2, axis=0)[0], np.float32)


@dataclass(frozen=True, eq=False)
class Held:
    """A frame that is looked at later: `small` `(h, w, 3)`, shrunk by `factor`; `packed` is its picture as JPEG, or None."""

    small: Image
    factor: int
    frame: Frame
    now_s: float
    packed: NDArray[np.uint8] | None = None

    @classmethod
    def keep(cls, small: Image, factor: int, frame: Frame, now_s: float, *, picture: bool) -> Held:
        """Hold a frame, with its `picture` or without."""
        packed = cv2.imencode(".jpg", frame.image_bgr, _JPEG)[1] if picture else None
        return cls(small, factor, replace(frame, image_bgr=small), now_s, packed)

    def unpacked(self) -> Frame | None:
        """Return the frame as it was, None without its picture."""
        if self.packed is None:
            return None
        image = cv2.imdecode(self.packed, cv2.IMREAD_COLOR)
        assert image is not None
        return replace(self.frame, image_bgr=np.asarray(image, np.uint8))


@dataclass(eq=False)
class Gathering:
    """Frames from the first motion on until everything in view has moved by the length of the view."""

    held: list[Held] = field(default_factory=list)
    _anchor: Image | None = None
    _way: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    _began_s: float | None = None
    _moved_s: float = 0.0
    _unmoved: int = 0

    def add(self, held: Held) -> None:
        """Take the next frame."""
        if self._began_s is None:
            self._began_s = self._moved_s = held.now_s
        self._follow(held)
        if held.now_s - self._moved_s <= _REST_S:
            self.held.append(held)
        if len(self.held) > _MOST_HELD:  # a slow belt
            del self.held[1::2]

    @property
    def is_over(self) -> bool:
        """Whether all has moved on, or has moved for so long that it should have."""
        if self._began_s is None or not self.held:
            return False
        height, width = self.held[0].small.shape[:2]
        has_passed = abs(self._way[0]) >= width or abs(self._way[1]) >= height
        return has_passed or self._moved_s - self._began_s >= _MOST_TRACKED_S

    def is_idle(self, now_s: float) -> bool:
        """Tell whether nothing has moved for a while."""
        return self._began_s is not None and now_s - self._moved_s > _IDLE_S

    def smalls(self) -> list[Image]:
        """Return shrunk frames between which things have moved evenly."""
        places = np.unique(np.linspace(0, len(self.held) - 1, _MOST_SAMPLES).astype(int))
        return [self.held[place].small for place in places]

    def _follow(self, held: Held) -> None:
        """Add the way of what has moved since the frame in which that was last told."""
        light = held.small.max(axis=2)  # also of what has the gray of the belt, and another colour
        if self._anchor is None:
            self._anchor = light
        way = _way(self._anchor, light)
        self._unmoved += 1
        if way is not None:
            self._way += way
            self._moved_s = held.now_s
        if way is not None or self._unmoved > _LOST_FRAMES:
            self._anchor, self._unmoved = light, 0


def _way(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """Return how far most corners that move have moved, in pixels; None where that is hardly anything.

    Corners are followed by Lucas and Kanade (1981), there and back again: those that do not come back are noise (Kalal et al.,
    ICPR 2010).
    """
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, _QUALITY, _APART)
    if corners is None:
        return None
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.empty_like(corners), winSize=_WINDOW, maxLevel=3)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, np.empty_like(there), winSize=_WINDOW, maxLevel=3)
    is_sure = (np.abs(back - corners).max(axis=2) < _BACK).ravel() & (found.ravel() == 1) & (returned.ravel() == 1)
    ways = (there - corners).reshape(-1, 2)[is_sure]
    moving = ways[np.abs(ways).max(axis=1) > _LEAST_STEP]
    if len(moving) < _FEWEST:
        return None
    way = np.median(moving, axis=0)
    return np.asarray(way, np.float64) if np.hypot(*way) >= _STEP else None
