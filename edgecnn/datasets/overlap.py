"""Pictures that show the same physical thing: copies, overlapping crops of one larger picture, and the same part again.

When two such pictures stand on both sides of a split, the test measures memory. They are found in three steps:

1. *Candidates.* Local features that match and agree on one similarity: a shift, a turn, a scale, with or without mirroring
   (`edgecnn.datasets.feature_matches`). What pictures of different classes show at the same place (a fixed camera's background)
   has no features. Copies are found by a product of small versions of all pictures.
2. *Proof.* One picture is laid on the other, and the median over the tiles of what both show of the correlation of their
   structure between 1 and 4 pixels is the pair's score. Two scratches, logos or edges that look alike agree in the tiles they
   cross and nowhere else; two pictures of one part agree in all, whatever the exposure. The background does not count. And they
   must agree where they lie far better than BESIDE it: the streaks of any two surfaces agree all along their length.
3. *Threshold.* A pair needs a score of at least MIN_SCORE. Pictures of different classes hardly ever show the same part: pairs
   across classes estimate how many within are false, and the threshold rises until that share is at most FALSE_PAIRS. Where no
   threshold reaches it, everything looks like everything, and only copies count.

Where most pictures of a class would be one part only because they agree under turns or other light, that is what the class
looks like (a printed package), and such pairs of it do not count. Pictures below 64 pixels per side (digits on black) have no
texture for this: among them only copies are found.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.feature_matches import Candidates, find_candidates
from edgecnn.datasets.local_features import Scenery, extract_features, find_scenery
from edgecnn.progress import on_all_cores, report

Kind = Literal["duplicate", "overlap", "again"]

MAX_SIDE = 256  # larger pictures are shrunk to this
LEAST_SIDE = 64  # of the median picture; smaller ones have no texture
TILE = 16  # pixels per side: enough for a correlation, small beside a scratch
MIN_TILES = 8  # a line crosses half of fewer, and two lines always correlate
MIN_TILE_VARIANCE = 0.3  # gray levels squared; below it a tile holds rounding noise (saturated, empty)
BAND = (1.0, 4.0)  # pixels: finer is the noise of one exposure, coarser is the light
MIN_SCORE = 0.75  # of NEU's recorded overlaps that have eight matches 99 % reach more
BESIDE = 4  # pixels, where structure in BAND is another one
UNEXPLAINED = 0.5  # share of what is unexplained beside the place that may be so at it; a tile again has at most 0.28
FALSE_PAIRS = 0.05  # share of the pairs within classes that may be false, as those across classes tell
LEAST_ACROSS = 6  # pairs across classes that are no accident: fewer are wrong labels
CLASS_LOOK, CLASS_PICTURES = 0.5, 20  # a group of this share of a class, if it has so many pictures, is what it looks like
DUPLICATE_RMS = 3.0  # gray levels of 255: what saving as JPEG again changes
DUPLICATE_SHARE = 0.5  # of the variance of a tile may differ (another part changes more), or
DUPLICATE_NOISE = 2.0  # so many gray levels
_THUMBNAIL = 16  # pixels per side; means of areas, so that it differs by no more than the pictures do
_NEAREST_COPIES = 16
_SHIFT_TURN, _SHIFT_SCALE = 0.01, 0.01  # radians and share: below, one picture is a shifted copy of the other
_ROWS, _COLUMNS = 512, 8192  # of a matrix product


@dataclass(frozen=True)
class Overlap:
    """Two pictures (indices `first` < `second`) that show the same thing.

    `kind` is `duplicate` (the same pixels, saved again), `overlap` (shifted, the light unchanged) or `again` (turned, mirrored,
    in another scale or light). Pixel `(y, x)` of the second of an overlap shows what `(y, x) + shift_yx` of the first shows; of
    other kinds it is 0. `share` is the part of the first's area that both show, `score` the correlation there (1.0 = the same
    pixels).
    """

    first: int
    second: int
    kind: Kind
    shift_yx: tuple[int, int]
    share: float
    score: float


@dataclass(frozen=True, eq=False)
class Overlaps:
    """What `find_overlaps` found: `pairs`, and `groups` `(n,)` int64, equal where a chain of pairs connects two pictures.

    `threshold` is the score that a pair needed. `scenery` tells that pictures of different classes look so much alike that
    only duplicates were counted. `looks` are the classes most of whose pictures look like one part, which was not counted.
    """

    pairs: tuple[Overlap, ...]
    groups: NDArray[np.int64]
    threshold: float
    scenery: bool = False
    looks: tuple[int, ...] = ()


def find_overlaps(images_gray: Sequence[NDArray[np.uint8]], class_ids: NDArray[np.int64]) -> Overlaps:
    """Find copies, overlapping crops and the same parts among gray pictures `(h, w)` uint8 with classes `(n,)`.

    Each picture is asked for a few times and never kept, so that a sequence may read them from a disk. Progress is reported
    through `edgecnn.progress`.
    """
    looked_at = _look_at(images_gray)
    copies = _exact_duplicates(looked_at.digests)
    unique = np.setdiff1d(np.arange(len(class_ids)), [pair.second for pair in copies])
    pictures = _Chosen(images_gray, unique)
    sizes = looked_at.sizes[unique]
    threshold, scenery = MIN_SCORE, False
    looks: tuple[int, ...] = ()
    found: list[Overlap] = []
    if len(unique) > 1 and np.median(sizes, axis=0).min() < LEAST_SIDE:
        found = _small_duplicates(pictures, sizes)
    elif len(unique) > 1:
        found = _near_duplicates(pictures, looked_at.thumbnails[unique])
        del looked_at  # a kilobyte a picture
        threshold, scenery, looks, again = _search(pictures, class_ids[unique], {(p.first, p.second) for p in found})
        found += again
    pairs = tuple(sorted(copies + [_renumbered(pair, unique) for pair in found], key=lambda p: (p.first, p.second)))
    groups = connected(len(class_ids), ((p.first, p.second) for p in pairs))
    return Overlaps(pairs, groups, threshold, scenery, looks)


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Number the connected components of `count` nodes `(n,)` from 0, in the order of their first nodes (union-find)."""
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    roots = np.array([root(node) for node in range(count)], np.int64)
    return np.unique(roots, return_inverse=True)[1].reshape(-1).astype(np.int64)


class _Chosen(Sequence[NDArray[np.uint8]]):
    """Some of a sequence of pictures, at most MAX_SIDE a side; none is kept."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], indices: NDArray[np.int64]) -> None:
        self._pictures, self._indices = pictures, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # type: ignore[override]  # never asked for a slice
        return reduced(self._pictures[int(self._indices[index])])


def reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a picture to at most MAX_SIDE a side, which is what pictures are compared at."""
    scale = MAX_SIDE / max(image.shape)
    if scale >= 1:
        return image
    return _resized(image, (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))))


def _resized(image: NDArray[np.uint8], size_hw: tuple[int, ...]) -> NDArray[np.uint8]:
    if image.shape == size_hw:
        return image
    height, width = size_hw
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _renumbered(pair: Overlap, numbers: NDArray[np.int64]) -> Overlap:
    return Overlap(int(numbers[pair.first]), int(numbers[pair.second]), pair.kind, pair.shift_yx, pair.share, pair.score)


@dataclass(frozen=True, eq=False)
class _LookedAt:
    """Digests of size and pixels, sizes `(n, 2)`, and small versions `(n, 256)` float32 of all pictures."""

    digests: list[bytes]
    sizes: NDArray[np.int64]
    thumbnails: NDArray[np.float32]


def _look_at(pictures: Sequence[NDArray[np.uint8]]) -> _LookedAt:
    def work(index: int) -> tuple[bytes, tuple[int, ...], NDArray[np.float32]]:
        image = pictures[index]
        digest = hashlib.sha256(repr(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)
        small = cv2.resize(image.astype(np.float32), (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
        return digest.digest(), image.shape, np.asarray(small, np.float32).reshape(-1)

    digests, sizes = [], np.empty((len(pictures), 2), np.int64)
    thumbnails = np.empty((len(pictures), _THUMBNAIL**2), np.float32)
    for i, found in enumerate(on_all_cores(work, range(len(pictures)), "looking at pictures")):
        digests.append(found[0])
        sizes[i], thumbnails[i] = found[1:]
    return _LookedAt(digests, sizes, thumbnails)


def _exact_duplicates(digests: Sequence[bytes]) -> list[Overlap]:
    """Join each picture with the first one that has the same pixels and size."""
    first_with: dict[bytes, int] = {}
    pairs = []
    for i, digest in enumerate(digests):
        first = first_with.setdefault(digest, i)
        if first != i:
            pairs.append(Overlap(first, i, "duplicate", (0, 0), 1.0, 1.0))
    return pairs


def _small_duplicates(pictures: Sequence[NDArray[np.uint8]], sizes: NDArray[np.int64]) -> list[Overlap]:
    """Find pictures, stretched to their median size, whose pixels differ by at most DUPLICATE_RMS gray levels."""
    size = tuple(max(1, round(float(side))) for side in np.median(sizes, axis=0))
    flat = np.empty((len(pictures), math.prod(size)), np.uint8)
    for i in range(len(pictures)):
        flat[i] = _resized(pictures[i], size).reshape(-1)
    return [_duplicate(first, second, rms) for first, second, rms in _close(flat, len(flat))]


def _near_duplicates(pictures: Sequence[NDArray[np.uint8]], thumbnails: NDArray[np.float32]) -> list[Overlap]:
    """Find copies: pictures that differ by at most DUPLICATE_RMS gray levels, and in no tile by much of its structure."""
    candidates = [(first, second) for first, second, _ in _close(thumbnails, _NEAREST_COPIES)]

    def work(pair: tuple[int, int]) -> Overlap | None:
        first = pictures[pair[0]].astype(np.float32)
        difference = first - _resized(pictures[pair[1]], first.shape)
        tiles = max(1, first.shape[1] // TILE), max(1, first.shape[0] // TILE)
        squares, mean_square, mean = (
            np.asarray(cv2.resize(values, tiles, interpolation=cv2.INTER_AREA)) for values in (difference**2, first**2, first)
        )
        allowed = np.maximum(DUPLICATE_SHARE * (mean_square - mean**2), DUPLICATE_NOISE**2)
        rms = math.sqrt(float(squares.mean()))
        alike = rms <= min(DUPLICATE_RMS, DUPLICATE_SHARE * float(first.std())) and bool((squares <= allowed).all())
        return _duplicate(*pair, rms) if alike else None

    return [pair for pair in on_all_cores(work, candidates, "comparing likely copies") if pair is not None]


def _duplicate(first: int, second: int, rms: float) -> Overlap:
    return Overlap(first, second, "duplicate", (0, 0), 1.0, 1 - (rms / 255) ** 2)


def _close(flat: NDArray[np.uint8] | NDArray[np.float32], most: int) -> list[tuple[int, int, float]]:
    """List vectors `(n, d)` of gray levels that differ by at most DUPLICATE_RMS, with how much: for each its `most` nearest."""
    mean = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    limit = DUPLICATE_RMS**2 * flat.shape[1]
    found = []
    for start in range(0, len(flat), _ROWS):
        rows = flat[start : start + _ROWS] - mean  # smaller numbers: their squares keep the digits that count
        near: list[list[tuple[float, int]]] = [[] for _ in rows]
        for left in range(start, len(flat), _COLUMNS):
            squared = _squared_distances(rows, flat[left : left + _COLUMNS] - mean)
            for row, column in zip(*np.nonzero(squared <= limit), strict=True):
                if left + column > start + row:
                    near[row].append((float(squared[row, column]), int(left + column)))
        for first, others in enumerate(near, start):
            found += [(first, second, math.sqrt(max(square, 0.0) / flat.shape[1])) for square, second in sorted(others)[:most]]
        report("comparing pictures", min(start + _ROWS, len(flat)), len(flat))
    return found


def _squared_distances(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared distances `(m, n)` of vectors `(m, d)` and `(n, d)`."""
    energies = (rows**2).sum(axis=1)[:, None] + (columns**2).sum(axis=1)
    return np.asarray(energies - 2 * rows @ columns.T, np.float32)


def _search(
    pictures: Sequence[NDArray[np.uint8]], class_ids: NDArray[np.int64], known: set[tuple[int, int]]
) -> tuple[float, bool, tuple[int, ...], list[Overlap]]:
    """Return the threshold, whether everything looks alike, classes of one look, and pairs that are not `known` already."""
    scenery = find_scenery(pictures, class_ids)
    candidates = find_candidates(extract_features(pictures, scenery))
    new = np.array([pair not in known for pair in map(tuple, candidates.pairs.tolist())], bool)
    scored = _scored(pictures, candidates[new], scenery)
    threshold = _score_threshold(scored, class_ids)
    found = [pair for pair in scored if pair.score >= threshold]
    looks = _class_looks(found, class_ids)
    kept = [
        pair
        for pair in found
        if pair.kind == "overlap" or not {int(class_ids[pair.first]), int(class_ids[pair.second])} & looks
    ]
    return threshold, threshold > 1, tuple(sorted(looks)), kept


def _scored(pictures: Sequence[NDArray[np.uint8]], candidates: Candidates, scenery: Scenery | None) -> list[Overlap]:
    """Lay the pictures of each candidate on each other, those of one first picture together."""
    heads = np.flatnonzero(np.diff(candidates.pairs[:, 0], prepend=-1))
    ends = np.append(heads, len(candidates))

    def row(number: int) -> list[Overlap | None]:
        members = range(ends[number], ends[number + 1])
        first = _Structure.of(pictures[candidates.pairs[members[0], 0]], scenery)
        return [
            _check(first, _Structure.of(pictures[candidates.pairs[i, 1]], scenery), candidates.pairs[i], candidates.affines[i])
            for i in members
        ]

    rows = on_all_cores(row, range(len(heads)), "checking likely pairs")
    return [pair for pair in itertools.chain.from_iterable(rows) if pair is not None]


@dataclass(frozen=True, eq=False)
class _Structure:
    """A picture `(h, w)`, its structure in BAND, and where it shows a part (float32, 1 where it does)."""

    image: NDArray[np.uint8]
    band: NDArray[np.float32]
    part: NDArray[np.float32]

    @classmethod
    def of(cls, image: NDArray[np.uint8], scenery: Scenery | None) -> _Structure:
        fine, coarse = (cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma) for sigma in BAND)
        part = np.ones(image.shape, np.float32)
        if scenery is not None:
            part[scenery.hides(image)] = 0
        return cls(image, np.asarray(fine - coarse, np.float32), part)


def _check(first: _Structure, second: _Structure, pair: NDArray[np.int32], estimate: NDArray[np.float32]) -> Overlap | None:
    """Lay the second picture on the first, correct the shift below 3 pixels, and score the pair; None without structure."""
    affine = _from_corner(estimate.astype(np.float64), first.image.shape, second.image.shape)
    laid, part = _laid(second, affine, first)
    (x, y), _ = cv2.phaseCorrelate(laid * part, first.band * part)
    if max(abs(x), abs(y)) <= 3:
        affine = affine + np.array([[0, 0, x], [0, 0, y]])
        laid, part = _laid(second, affine, first)
    correlations, tiles = _tile_correlations(first.band, laid, part)
    if len(correlations) < max(MIN_TILES, tiles / 4):
        return None
    score = float(np.median(correlations))
    if score >= MIN_SCORE and 1 - score > UNEXPLAINED * (1 - _score_beside(first.band, laid, part)):
        return None
    kind = _kind(first, second, affine)
    shift = affine[:, 2] if kind == "overlap" else np.zeros(2)
    seen = cv2.warpAffine(np.ones_like(second.part), affine, first.image.shape[::-1])
    return Overlap(
        int(pair[0]),
        int(pair[1]),
        kind,
        (round(float(shift[1])), round(float(shift[0]))),
        float((seen > 0.5).mean()),
        score,
    )


def _score_beside(first: NDArray[np.float32], second: NDArray[np.float32], part: NDArray[np.float32]) -> float:
    """Return the best score of two pictures that lie BESIDE pixels beside each other; 0 where no tile tells."""
    best = 0.0
    for rows, columns in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here, there = (_moved(sign * BESIDE * rows, sign * BESIDE * columns, first.shape) for sign in (1, -1))
        correlations, _ = _tile_correlations(first[here], second[there], np.minimum(part[here], part[there]))
        best = max(best, float(np.median(correlations)) if len(correlations) else 0.0)
    return best


def _moved(rows: int, columns: int, size_hw: tuple[int, ...]) -> tuple[slice, slice]:
    """Return what of a picture lies in itself moved by so many rows and columns."""
    height, width = size_hw
    return slice(max(rows, 0), height + min(rows, 0)), slice(max(columns, 0), width + min(columns, 0))


def _from_corner(affine: NDArray[np.float64], first_hw: tuple[int, ...], second_hw: tuple[int, ...]) -> NDArray[np.float64]:
    """Make of a mapping between places from the centre one between pixels."""
    centre_first, centre_second = (np.array([(hw[1] - 1) / 2, (hw[0] - 1) / 2]) for hw in (first_hw, second_hw))
    moved = affine.copy()
    moved[:, 2] += centre_first - affine[:, :2] @ centre_second
    return moved


def _laid(
    second: _Structure, affine: NDArray[np.float64], first: _Structure
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the second picture's structure as it lies on the first, and where both show a part (1 or 0)."""
    size = first.image.shape[::-1]
    laid = cv2.warpAffine(second.band, affine, size, flags=cv2.INTER_CUBIC)
    both = (cv2.warpAffine(second.part, affine, size) > 0.999) & (first.part > 0)
    return np.asarray(laid, np.float32), both.astype(np.float32)


def _tile_correlations(
    first: NDArray[np.float32], second: NDArray[np.float32], part: NDArray[np.float32]
) -> tuple[NDArray[np.float32], int]:
    """Correlate two pictures `(h, w)` tile by tile where both show a part; return those with structure, and how many tiles."""
    tiles_xy = first.shape[1] // TILE, first.shape[0] // TILE
    if 0 in tiles_xy:
        return np.zeros(0, np.float32), 0
    area = slice(0, tiles_xy[1] * TILE), slice(0, tiles_xy[0] * TILE)

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(values[area], tiles_xy, interpolation=cv2.INTER_AREA), np.float32)

    whole = mean(part) > 0.999
    mean_first, mean_second = mean(first), mean(second)
    variance_first, variance_second = mean(first * first) - mean_first**2, mean(second * second) - mean_second**2
    structured = whole & (variance_first > MIN_TILE_VARIANCE) & (variance_second > MIN_TILE_VARIANCE)
    covariance = mean(first * second) - mean_first * mean_second
    scores = covariance[structured] / np.sqrt(variance_first[structured] * variance_second[structured])
    return np.asarray(scores, np.float32), int(whole.sum())


def _kind(first: _Structure, second: _Structure, affine: NDArray[np.float64]) -> Kind:
    """Tell a shifted copy in the same light from everything else."""
    if np.abs(affine[:, :2] - np.eye(2)).max() > max(_SHIFT_TURN, _SHIFT_SCALE):
        return "again"
    size = first.image.shape[::-1]
    seen = cv2.warpAffine(np.ones_like(second.part), affine, size) > 0.999
    laid = cv2.warpAffine(second.image.astype(np.float32), affine, size, flags=cv2.INTER_CUBIC)
    light = float(np.abs(first.image[seen].mean(dtype=np.float64) - laid[seen].mean(dtype=np.float64)))
    return "overlap" if light <= DUPLICATE_RMS else "again"


def _score_threshold(scored: Sequence[Overlap], class_ids: NDArray[np.int64]) -> float:
    """Return the lowest threshold, from MIN_SCORE, at which pairs across classes tell that few within are false; 2 if none.

    Target and decoy (Elias and Gygi, Nature Methods 4, 2007): unrelated pictures look alike across classes as they do within,
    so pairs across, scaled to the number of pairs that there are, count the false ones within.
    """
    scores = np.array([pair.score for pair in scored])
    across = np.array([class_ids[pair.first] != class_ids[pair.second] for pair in scored], bool)
    same = float(((np.bincount(class_ids) / len(class_ids)) ** 2).sum())  # chance that two random pictures share a class
    for threshold in np.arange(MIN_SCORE, 0.97, 0.05):
        above = scores >= threshold
        decoys, targets = int((above & across).sum()), int((above & ~across).sum())
        if decoys < LEAST_ACROSS or decoys * same / (1 - same) <= FALSE_PAIRS * targets:
            return float(threshold)
    return 2.0


def _class_looks(found: Sequence[Overlap], class_ids: NDArray[np.int64]) -> set[int]:
    """Return the classes most of whose pictures are one group only by pairs that are no overlaps: what they look like."""
    looks = set()
    groups = connected(len(class_ids), ((pair.first, pair.second) for pair in found))
    overlapping = connected(len(class_ids), ((pair.first, pair.second) for pair in found if pair.kind == "overlap"))
    for class_id in np.unique(class_ids):
        members = np.flatnonzero(class_ids == class_id)
        most = CLASS_LOOK * len(members)
        if (
            len(members) >= CLASS_PICTURES
            and np.bincount(overlapping[members]).max() <= most < np.bincount(groups[members]).max()
        ):
            looks.add(int(class_id))
    return looks
