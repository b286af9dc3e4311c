"""Pictures that show the same physical thing: exact duplicates, near-duplicates, and overlapping crops of one larger picture.

A picture of a material is often cut from a larger one, and neighbouring cuts overlap. When such a pair stands on both sides of
a split, the test measures memory. Found here are shifted copies (no rotation, no other scale), in two steps:

1. *Candidates.* Phase correlation (Kuglin and Hines, 1975) of all pairs over all shifts on 64 x 64 whitened high-pass pictures.
   A pair is a candidate when its peak is higher than 99 % of the peaks between pictures of different classes.
2. *Check.* Phase correlation at full resolution gives the shift to the pixel; the overlapping parts are cut into tiles, and the
   median over the tiles of the correlation of their finest structure (below 2 pixels) is the pair's score. Two scratches that
   look alike agree in the tiles they cross and nowhere else; two crops of one picture agree in all.

A pair overlaps when its score is at least 0.5 (the value of two copies that each carry as much noise as signal) and six robust
standard deviations above the scores of different classes. Pictures below 64 pixels per side (digits on black) have no texture
for this: among them only duplicates are found.
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

from edgecnn.progress import on_all_cores, report

COARSE = 64  # pixels per side for the search over all pairs
MAX_SIDE = 256  # larger pictures are shrunk to this for the check
TILE = 16  # pixels per side: enough for a correlation, small beside a scratch
MIN_TILES = 8  # a line crosses half of fewer, and two lines always correlate
MIN_TILE_VARIANCE = 0.3  # gray levels squared; below it a tile holds rounding noise (saturated, empty)
LET_THROUGH = 0.01  # share of unrelated pairs that become candidates
NULL_PAIRS = 4000  # pairs of different classes that tell what chance does, and
NULL_SCORES = 300  # as many of them for the score
MIN_SCORE = 0.5
NULL_DEVIATIONS = 6.0
DUPLICATE_RMS = 3.0  # gray levels of 255: what saving as JPEG again changes
SCENERY_RATE, SCENERY_PAIRS = 0.1, 20  # see `_without_scenery`
_BLOCK = 128  # pairs a batch of FFTs: fits the cache of a small processor


@dataclass(frozen=True)
class Overlap:
    """Two pictures (indices `first` < `second`) that share pixels.

    Pixel `(y, x)` of the second shows what `(y, x) + shift_yx` of the first shows, in pixels of the size they were compared
    at. `share` is the part of the area that both show, `score` the correlation there (1.0 = the same pixels).
    """

    first: int
    second: int
    kind: Literal["duplicate", "overlap"]
    shift_yx: tuple[int, int]
    share: float
    score: float


@dataclass(frozen=True, eq=False)
class Overlaps:
    """What `find_overlaps` found: `pairs`, and `groups` `(n,)` int64, equal where a chain of pairs connects two pictures.

    `threshold` is the score that a pair needed. `scenery` tells that pictures of different classes share so much (one
    background behind everything) that only duplicates were counted.
    """

    pairs: tuple[Overlap, ...]
    groups: NDArray[np.int64]
    threshold: float
    scenery: bool = False


def find_overlaps(
    images_gray: Sequence[NDArray[np.uint8]],
    class_ids: NDArray[np.int64],
    *,
    seed: int = 0,
) -> Overlaps:
    """Find duplicates and overlapping crops among gray pictures `(h, w)` uint8 with classes `(n,)`.

    Pictures of different sizes are compared after stretching to their median size; shifted overlaps are then reported only
    between pictures of one size, duplicates between all. `seed` draws the pairs that the null distribution is measured on.
    Progress is reported through `edgecnn.progress`.
    """
    sizes = [image.shape for image in images_gray]
    common = _common_size(sizes)
    forms = [_resized(image, common) for image in images_gray]
    copies = _exact_duplicates(forms, sizes)
    unique = np.setdiff1d(np.arange(len(forms)), [pair.second for pair in copies])
    pictures = [forms[i] for i in unique]
    if min(common) < COARSE:
        threshold, scenery, found = MIN_SCORE, False, _near_duplicates(pictures)
    else:
        threshold, scenery, found = _search(pictures, class_ids[unique], seed)
    found = [_renumbered(pair, unique) for pair in found]
    kept = [p for p in found if p.kind == "duplicate" or sizes[p.first] == sizes[p.second]]
    pairs = tuple(sorted(copies + kept, key=lambda p: (p.first, p.second)))
    return Overlaps(pairs, connected(len(forms), ((p.first, p.second) for p in pairs)), threshold, scenery)


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


def _common_size(sizes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Return the median height and width, shrunk so that the longer side is at most MAX_SIDE."""
    if not sizes:
        return COARSE, COARSE
    height, width = (float(np.median([size[axis] for size in sizes])) for axis in (0, 1))
    scale = min(1.0, MAX_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resized(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape == size_hw:
        return image
    height, width = size_hw
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _renumbered(pair: Overlap, numbers: NDArray[np.int64]) -> Overlap:
    return Overlap(int(numbers[pair.first]), int(numbers[pair.second]), pair.kind, pair.shift_yx, pair.share, pair.score)


def _exact_duplicates(forms: Sequence[NDArray[np.uint8]], sizes: Sequence[tuple[int, ...]]) -> list[Overlap]:
    """Join each picture with the first one that has the same pixels and size."""
    first_with: dict[tuple[object, bytes], int] = {}
    pairs = []
    for i, (form, size) in enumerate(zip(forms, sizes, strict=True)):
        first = first_with.setdefault((size, hashlib.sha256(np.ascontiguousarray(form).data).digest()), i)
        if first != i:
            pairs.append(Overlap(first, i, "duplicate", (0, 0), 1.0, 1.0))
    return pairs


def _near_duplicates(pictures: Sequence[NDArray[np.uint8]]) -> list[Overlap]:
    """Find pictures of one size whose pixels differ by at most DUPLICATE_RMS gray levels (root mean square)."""
    if not pictures:
        return []
    flat = np.stack(pictures).reshape(len(pictures), -1).astype(np.float32)
    energy = (flat**2).sum(axis=1)
    limit = DUPLICATE_RMS**2 * flat.shape[1]
    pairs = []
    for start in range(0, len(flat), 512):
        block = slice(start, min(start + 512, len(flat)))
        squared = energy[block, None] + energy[None, start:] - 2 * flat[block] @ flat[start:].T
        for row, column in np.argwhere(squared <= limit):
            if column > row:
                score = 1 - float(max(squared[row, column], 0.0)) / (255.0**2 * flat.shape[1])
                pairs.append(Overlap(start + int(row), start + int(column), "duplicate", (0, 0), 1.0, score))
        report("comparing pictures", block.stop, len(flat))
    return pairs


def _search(
    pictures: Sequence[NDArray[np.uint8]], class_ids: NDArray[np.int64], seed: int
) -> tuple[float, bool, list[Overlap]]:
    """Return the score threshold, whether scenery was recognised, and the overlapping pairs (indices into `pictures`)."""
    if len(pictures) < 2:
        return MIN_SCORE, False, []
    unrelated = _unrelated_pairs(class_ids, seed)
    spectra = np.stack([_coarse_spectrum(picture) for picture in pictures])
    candidates = _candidates(spectra, _candidate_peak(spectra, unrelated))
    threshold = _score_threshold(_scored(pictures, sorted(unrelated[:NULL_SCORES]), "sampling unrelated pairs"))
    scored = _scored(pictures, candidates, "checking likely overlaps")
    found = [pair for pair in scored if pair.score >= threshold or pair.kind == "duplicate"]
    return threshold, *_without_scenery(found, threshold, class_ids)


def _unrelated_pairs(class_ids: NDArray[np.int64], seed: int) -> list[tuple[int, int]]:
    """Draw up to NULL_PAIRS pairs of different classes, the lower index first."""
    first, second = np.sort(np.random.default_rng(seed).integers(0, len(class_ids), (2, 8 * NULL_PAIRS)), axis=0)
    differ = class_ids[first] != class_ids[second]
    drawn = dict.fromkeys(zip(first[differ].tolist(), second[differ].tolist(), strict=True))
    return list(itertools.islice(drawn, NULL_PAIRS))


def _coarse_spectrum(picture: NDArray[np.uint8]) -> NDArray[np.complex64]:
    flat = _high_pass(picture, 6.0)
    return _whitened(np.asarray(cv2.resize(flat, (COARSE, COARSE), interpolation=cv2.INTER_AREA), np.float32), 0.25)


def _high_pass(picture: NDArray[np.uint8], sigma: float) -> NDArray[np.float32]:
    image = picture.astype(np.float32)
    return np.asarray(image - cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def _whitened(image: NDArray[np.float32], band: float) -> NDArray[np.complex64]:
    """Return the half spectrum with equal power below `band` (cycles per pixel, Gaussian), scaled to autocorrelation 1 at 0."""
    spectrum = np.fft.rfft2(image)
    magnitude = np.abs(spectrum)
    frequency_y, frequency_x = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])[None]
    spectrum *= np.exp(-(frequency_y**2 + frequency_x**2) / (2 * band**2)) / (magnitude + 1e-3 * magnitude.mean() + 1e-9)
    spectrum[0, 0] = 0
    power = float(np.fft.irfft2(np.abs(spectrum) ** 2, s=image.shape)[0, 0])
    return (spectrum / math.sqrt(max(power, 1e-12))).astype(np.complex64)


def _peaks(left: NDArray[np.complex64], right: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Return the highest correlation over all shifts for each pair of coarse spectra `(n, 64, 33)`."""
    surface = np.fft.irfft2(left * right.conj(), s=(COARSE, COARSE))
    return np.asarray(surface.reshape(len(surface), -1).max(axis=1), np.float32)


def _candidate_peak(spectra: NDArray[np.complex64], unrelated: Sequence[tuple[int, int]]) -> float:
    """Return the peak that LET_THROUGH of the unrelated pairs exceed.

    The highest of many correlations follows a Gumbel distribution; it is fitted to the quartiles of the unrelated pairs, since
    true overlaps under two labels would spoil the upper end of a small sample.
    """
    if not unrelated:
        return 0.0
    pairs = np.array(unrelated)
    peaks = [_peaks(spectra[part[:, 0]], spectra[part[:, 1]]) for part in np.array_split(pairs, math.ceil(len(pairs) / _BLOCK))]
    lower, median, upper = np.quantile(np.concatenate(peaks), (0.25, 0.5, 0.75))
    scale = (upper - lower) / (_gumbel(0.75) - _gumbel(0.25))
    return float(median + scale * (_gumbel(1 - LET_THROUGH) - _gumbel(0.5)))


def _gumbel(probability: float) -> float:
    """Return the quantile of the standard Gumbel distribution."""
    return -math.log(-math.log(probability))


def _candidates(spectra: NDArray[np.complex64], least_peak: float) -> list[tuple[int, int]]:
    """List the pairs whose coarse correlation reaches `least_peak`."""

    def row(first: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for start in range(first + 1, len(spectra), _BLOCK):
            peaks = _peaks(spectra[first : first + 1], spectra[start : start + _BLOCK])
            found.extend((first, start + int(k)) for k in np.flatnonzero(peaks >= least_peak))
        return found

    return list(itertools.chain.from_iterable(on_all_cores(row, range(len(spectra)), "comparing pictures")))


def _scored(pictures: Sequence[NDArray[np.uint8]], candidates: Sequence[tuple[int, int]], stage: str) -> list[Overlap]:
    """Check candidates at full resolution, those of one first picture together."""
    by_first = [(first, [pair[1] for pair in pairs]) for first, pairs in itertools.groupby(candidates, key=lambda p: p[0])]

    def row(item: tuple[int, list[int]]) -> list[Overlap]:
        first, seconds = item
        spectrum = _whitened(_high_pass(pictures[first], 6.0), 0.15)
        scored = [_check(pictures[first], spectrum, pictures[second]) for second in seconds]
        return [Overlap(first, second, *result) for second, result in zip(seconds, scored, strict=True) if result is not None]

    return list(itertools.chain.from_iterable(on_all_cores(row, by_first, stage)))


_Checked = tuple[Literal["duplicate", "overlap"], tuple[int, int], float, float]


def _check(first: NDArray[np.uint8], spectrum: NDArray[np.complex64], second: NDArray[np.uint8]) -> _Checked | None:
    """Find the best shift of two pictures `(h, w)` and score it; None when no shift leaves enough structure in common."""
    surface = np.fft.irfft2(spectrum * _whitened(_high_pass(second, 6.0), 0.15).conj(), s=first.shape)
    peak_y, peak_x = divmod(int(surface.argmax()), first.shape[1])
    best: tuple[float, _Checked] | None = None
    # The correlation is circular: a peak at y stands for the shift y and for y - height.
    for shift in itertools.product((peak_y, peak_y - first.shape[0]), (peak_x, peak_x - first.shape[1])):
        part_first, part_second = _common_parts(first, second, shift)
        if min(part_first.shape) < TILE:
            continue
        correlations = _tile_correlations(part_first, part_second)
        if len(correlations) < MIN_TILES or len(correlations) < part_first.size / TILE**2 / 4:
            continue
        score = float(np.median(correlations))
        weight = score * math.sqrt(len(correlations))
        if best is None or weight > best[0]:
            kind: Literal["duplicate", "overlap"] = "overlap"
            if shift == (0, 0) and _rms(first, second) <= DUPLICATE_RMS:
                kind = "duplicate"
            best = weight, (kind, shift, part_first.size / first.size, score)
    return None if best is None else best[1]


def _common_parts(
    first: NDArray[np.uint8], second: NDArray[np.uint8], shift_yx: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut what both show, `second[y, x]` lying on `first[y + shift_y, x + shift_x]`."""
    (height, width), (shift_y, shift_x) = first.shape, shift_yx
    rows, columns = height - abs(shift_y), width - abs(shift_x)
    top, left = max(shift_y, 0), max(shift_x, 0)
    top_second, left_second = max(-shift_y, 0), max(-shift_x, 0)
    return (
        first[top : top + rows, left : left + columns],
        second[top_second : top_second + rows, left_second : left_second + columns],
    )


def _tile_correlations(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Correlate the fine structure of two pictures `(h, w)` tile by tile; tiles without structure are left out."""
    tiles_xy = first.shape[1] // TILE, first.shape[0] // TILE

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(cv2.resize(values, tiles_xy, interpolation=cv2.INTER_AREA), np.float32)

    a, b = _high_pass(first, 2.0), _high_pass(second, 2.0)
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    structured = (variance_a > MIN_TILE_VARIANCE) & (variance_b > MIN_TILE_VARIANCE)
    covariance = mean(a * b) - mean_a * mean_b
    return np.asarray(covariance[structured] / np.sqrt(variance_a[structured] * variance_b[structured]), np.float32)


def _rms(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float(np.sqrt(np.mean((first.astype(np.float32) - second.astype(np.float32)) ** 2)))


def _score_threshold(unrelated: Sequence[Overlap]) -> float:
    """Return MIN_SCORE, or more where the scores of pictures of different classes reach up to it.

    Median and median absolute deviation: true overlaps under two labels among them must not lift the threshold.
    """
    if len(unrelated) < 2:
        return MIN_SCORE
    scores = np.array([pair.score for pair in unrelated])
    centre = float(np.median(scores))
    return max(MIN_SCORE, centre + NULL_DEVIATIONS * 1.4826 * float(np.median(np.abs(scores - centre))))


def _without_scenery(found: list[Overlap], threshold: float, class_ids: NDArray[np.int64]) -> tuple[bool, list[Overlap]]:
    """Keep only duplicates when overlaps across classes are more than a tenth as frequent as overlaps within one.

    Crops of one picture mostly have one label. Where overlaps hardly care about the label, the pictures share a background
    (a fixed camera above a belt), and joining all that share it would leave nothing to split. The same holds where pictures of
    different classes agree so much that no score can stand out from them.
    """
    duplicates = [pair for pair in found if pair.kind == "duplicate"]
    if threshold > 1:
        return True, duplicates
    across = [class_ids[pair.first] != class_ids[pair.second] for pair in found if pair.kind == "overlap"]
    same = float(((np.bincount(class_ids) / len(class_ids)) ** 2).sum())  # chance that two random pictures share a class
    rate_across, rate_within = sum(across) / max(1 - same, 1e-9), (len(across) - sum(across)) / same
    if sum(across) < SCENERY_PAIRS or rate_across <= SCENERY_RATE * rate_within:
        return False, found
    return True, duplicates
