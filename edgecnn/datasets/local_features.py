"""Local features of gray pictures, and the background that pictures of different classes share.

Features are SIFT (Lowe, IJCV 60, 2004) on pictures whose light was normalised: gradients survive another exposure, orientation
and scale make them independent of how a part lies. Each becomes DIMENSIONS bytes, so that those of 100,000 pictures fit into
memory. A mirrored picture's descriptor is the same numbers in another order; along axes that are either even or odd under that
order it differs in signs alone, so that nothing is looked for or kept twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.progress import on_all_cores

SIDE = 160  # pixels of the longer side that features are looked for in
MOST_FEATURES = 120  # per picture
FEATURE_BUDGET = 6_000_000  # of all pictures: half a gigabyte
DIMENSIONS = 32
_SAMPLE = 64  # pictures whose descriptors give the axes
_SCALE = 160.0  # of the components of a unit vector as bytes; none of 32 is near 127 / 160

SCENERY_SAMPLE = 64  # pictures of either half of the classes
LEAST_SAMPLE = 6
WINDOW = 15  # pixels per side in which pictures are compared with the background
SCENERY_CORRELATION = 0.6


@dataclass(frozen=True, eq=False)
class Features:
    """The features of many pictures, those of picture `i` at `starts[i]:starts[i + 1]`.

    `places` `(n, 2)` float32 are x and y from the picture's centre in pixels, `sizes` and `angles` `(n,)` float32 their scale
    (pixels) and orientation (radians, clockwise from x). `vectors` `(n, DIMENSIONS)` int8 have unit length times a constant;
    times `mirror_signs` `(DIMENSIONS,)` int8 they are what they would be in the picture's mirror image.
    """

    places: NDArray[np.float32]
    sizes: NDArray[np.float32]
    angles: NDArray[np.float32]
    vectors: NDArray[np.int8]
    mirror_signs: NDArray[np.int8]
    starts: NDArray[np.int64]

    @cached_property
    def owners(self) -> NDArray[np.int32]:
        """The picture `(n,)` of each feature."""
        return np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))


def even_light(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a picture, shrunk to at most SIDE a side, without slow changes of light, its local contrast about 1."""
    image = _shrunk(picture).astype(np.float32)
    high = np.asarray(image - cv2.GaussianBlur(image, (0, 0), 6), np.float32)
    contrast = np.sqrt(cv2.GaussianBlur(high * high, (0, 0), 8)) + 2  # 2 gray levels: noise of an even surface stays small
    return np.asarray(high / contrast, np.float32)


def _shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = SIDE / max(picture.shape)
    if scale >= 1:
        return picture
    height, width = (max(1, round(side * scale)) for side in picture.shape)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True, eq=False)
class Scenery:
    """What pictures of `size_hw` of different classes show at the same place: `light` as `even_light`, where `shared`."""

    size_hw: tuple[int, ...]
    light: NDArray[np.float32]
    shared: NDArray[np.bool_]

    def hides(self, picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return where a picture `(h, w)` shows the scenery; nowhere, where it has another size."""
        if picture.shape != self.size_hw:
            return np.zeros(picture.shape, bool)
        hidden = self.hides_light(even_light(picture)).astype(np.uint8)
        return np.asarray(cv2.resize(hidden, picture.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0)

    def hides_light(self, light: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return where a picture of this size, as `even_light`, shows the scenery."""
        return self.shared & (_agreement(light, self.light) > SCENERY_CORRELATION)


def find_scenery(pictures: Sequence[NDArray[np.uint8]], class_ids: NDArray[np.int64]) -> Scenery | None:
    """Find the background that a fixed camera sees behind every part; None where there is none.

    The median picture of one half of the classes is compared with that of the other half: where both agree, they show no part.
    """
    halves = [_sample(pictures, np.flatnonzero(class_ids % 2 == half)) for half in (0, 1)]
    size = Counter(picture.shape for half in halves for picture in half).most_common(1)[0][0]
    medians = [_median_light([picture for picture in half if picture.shape == size]) for half in halves]
    if medians[0] is None or medians[1] is None:
        return None
    shared = _agreement(medians[0], medians[1]) > SCENERY_CORRELATION
    return Scenery(size, np.asarray((medians[0] + medians[1]) / 2, np.float32), shared) if shared.any() else None


def _sample(pictures: Sequence[NDArray[np.uint8]], members: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
    """Return up to SCENERY_SAMPLE of the `members`, from all over them."""
    return [pictures[i] for i in members[np.linspace(0, len(members) - 1, min(len(members), SCENERY_SAMPLE)).astype(int)]]


def _median_light(alike: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32] | None:
    """Return the median of pictures of one size; None where there are too few."""
    if len(alike) < LEAST_SAMPLE:
        return None
    return np.asarray(np.median([even_light(picture) for picture in alike], axis=0), np.float32)


def _agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Correlate two pictures `(h, w)` in the window around each pixel; 0 where either is even."""

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.blur(values, (WINDOW, WINDOW)), np.float32)

    mean_first, mean_second = mean(first), mean(second)
    covariance = mean(first * second) - mean_first * mean_second
    variances = (mean(first * first) - mean_first**2) * (mean(second * second) - mean_second**2)
    return np.asarray(np.where(variances > 1e-4, covariance / np.sqrt(np.maximum(variances, 1e-4)), 0), np.float32)


def extract_features(pictures: Sequence[NDArray[np.uint8]], scenery: Scenery | None = None) -> Features:
    """Find the features of pictures `(h, w)`, each looked at once and none kept; those of the scenery are left out."""
    most = min(MOST_FEATURES, FEATURE_BUDGET // max(len(pictures), 1))
    axes = _axes(pictures, most, scenery)

    def work(index: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        keys, descriptors = _sift(pictures[index], most, scenery)
        return keys, _as_bytes((descriptors - axes.mean) @ axes.directions)

    room = most * len(pictures)  # what is not filled takes no memory
    keys, vectors = np.empty((room, 4), np.float32), np.empty((room, DIMENSIONS), np.int8)
    starts = np.zeros(len(pictures) + 1, np.int64)
    for i, (own_keys, own_vectors) in enumerate(on_all_cores(work, range(len(pictures)), "looking for features")):
        starts[i + 1] = starts[i] + len(own_keys)
        keys[starts[i] : starts[i + 1]], vectors[starts[i] : starts[i + 1]] = own_keys, own_vectors
    filled = slice(int(starts[-1]))
    return Features(keys[filled, :2], keys[filled, 2], keys[filled, 3], vectors[filled], axes.mirror_signs, starts)


# OpenCV's descriptor is (row, column, orientation) in a frame that lies along the keypoint; mirroring turns rows round and
# orientations back.
_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].reshape(-1)


def _sift(picture: NDArray[np.uint8], most: int, scenery: Scenery | None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return x, y, size and angle `(n, 4)` of up to `most` features and their descriptors `(n, 128)`, as square roots.

    Square roots of shares: Arandjelović and Zisserman, "Three things everyone should know", CVPR 2012.
    """
    light = even_light(picture)
    mask = None
    if scenery is not None and picture.shape == scenery.size_hw:
        mask = (~scenery.hides_light(light)).astype(np.uint8)
    scale = max(picture.shape) / max(light.shape)
    gray = np.clip(128 + 42 * light, 0, 255).astype(np.uint8)
    finder = cv2.SIFT_create(nfeatures=most, contrastThreshold=0.01, edgeThreshold=20, nOctaveLayers=2)  # type: ignore[attr-defined]
    keypoints, descriptors = finder.detectAndCompute(gray, mask)
    if descriptors is None:
        return np.zeros((0, 4), np.float32), np.zeros((0, 128), np.float32)
    by_strength = sorted(range(len(keypoints)), key=lambda i: -keypoints[i].response)[:most]
    keys = [(*keypoints[i].pt, keypoints[i].size, keypoints[i].angle) for i in by_strength]
    found = np.array(keys, np.float32)
    found[:, :2] -= ((light.shape[1] - 1) / 2, (light.shape[0] - 1) / 2)
    found *= np.array([scale, scale, scale, np.pi / 180], np.float32)
    shares = np.asarray(descriptors, np.float32)[by_strength]
    return found, np.sqrt(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-6))


@dataclass(frozen=True, eq=False)
class _Axes:
    """The `mean` `(128,)` of descriptors, `directions` `(128, DIMENSIONS)`, and their sign in a mirror image."""

    mean: NDArray[np.float32]
    directions: NDArray[np.float32]
    mirror_signs: NDArray[np.int8]


def _axes(pictures: Sequence[NDArray[np.uint8]], most: int, scenery: Scenery | None) -> _Axes:
    """Return the principal axes of the descriptors of some of the pictures and of their mirror images.

    With both, the covariance commutes with mirroring, so that its axes are those of its even half and those of its odd half.
    """
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), _SAMPLE)).astype(int))
    seen = np.concatenate([_sift(pictures[i], most, scenery)[1] for i in chosen])
    seen = np.concatenate([seen, seen[:, _MIRROR]])
    mean = seen.mean(axis=0) if len(seen) else np.zeros(128, np.float32)
    covariance = (seen - mean).T @ (seen - mean)
    mirroring = np.eye(128)[_MIRROR]
    spreads, directions = [], []
    for sign in (1, -1):
        half = (np.eye(128) + sign * mirroring) / 2
        spread, axes = np.linalg.eigh(half @ covariance @ half)
        spreads.append(spread)
        directions.append(half @ axes)
    widest = np.argsort(-np.concatenate(spreads), kind="stable")[:DIMENSIONS]
    signs = np.where(widest < 128, 1, -1).astype(np.int8)
    return _Axes(mean, np.concatenate(directions, axis=1)[:, widest].astype(np.float32), signs)


def _as_bytes(vectors: NDArray[np.floating]) -> NDArray[np.int8]:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return np.asarray(np.clip(np.rint(unit * _SCALE), -127, 127), np.int8)


def as_units(vectors: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return vectors `(n, DIMENSIONS)` of `Features` with unit length."""
    return np.asarray(vectors, np.float32) / np.float32(_SCALE)
