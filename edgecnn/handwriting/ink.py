"""From a photograph to ink: the light is taken out, what is darker (or lighter) than the paper around it stays.

Whole frames meet only the few OpenCV operations that take a fraction of a nanosecond a pixel; all else is done for the places
where there is ink.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

# Lengths are shares of the picture's longer side and contrasts shares of the paper's brightness, so that neither the
# camera's resolution nor its exposure changes what is found.
WINDOW = 1 / 5
_BACKGROUND_SIDE = 100
_EVEN = 0.06
# Five standard deviations of the paper's own texture, and never under a contrast that an eye would call a stain.
_NOISE_FACTOR = 5.0
_FAINTEST = 0.10 * 255
_STRONGEST = 0.25 * 255
_FADING = 0.6
# A stroke's edge lies halfway between paper and ink.
_EDGE_LEVEL = 0.45
# Under a tenth of full brightness there is no paper to write on, only noise that a division would blow up. Chalk is a share of
# what a board is darker than white, and of half of that at least: on bright paper a share of the rest would be noise.
_DARKEST_PAPER, _BRIGHTEST_BOARD = 26, 128
# The paper's texture is judged by every fourth row, and there by neighbours three pixels apart.
_TEXTURE_ROWS, _TEXTURE_APART = 4, 3
_AROUND = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Ink:
    """What is written on a picture of `(h, w)`.

    `stains` `(h, w)` int32 numbers the connected pieces of what may stand out of the paper's texture (0 is paper), `contrasts`
    `(n,)` uint8 is how far each of them does: 0 for those that are no ink after all. `stained` `(h, w)` uint8 is not 0 where
    the others are, and `near` `(h, w)` uint8 neither there nor a pixel around. `mask` `(h, w)` uint8 (0 or 255) is the strokes
    and `level` `(h, w)` uint8 their ink: 0 paper, 128 a stroke's edge, 255 ink.
    """

    stains: NDArray[np.int32]
    contrasts: NDArray[np.uint8]
    stained: NDArray[np.uint8]
    near: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    level: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Paper:
    """The paper under the ink, from afar: `small` `(h, w)` uint8 is its brightness, at most 100 pixels a side.

    `light_over_dark` tells how much more of what stands out of it is lighter than it (chalk on a board) than darker (ink).
    """

    small: NDArray[np.uint8]
    light_over_dark: float

    def within(self, window: tuple[int, int, int, int], frame_hw: tuple[int, int]) -> Paper:
        """Return the paper in a window `(x, y, width, height)` of the frame."""
        x, y, width, height = window
        whole = np.asarray(cv2.resize(self.small, frame_hw[::-1], interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
        return replace(self, small=np.ascontiguousarray(whole[y : y + height, x : x + width]))


def find_paper(image_gray: NDArray[np.uint8], *, flatten: bool = True) -> Paper:
    """Find the paper of a gray picture `(h, w)` uint8.

    Its brightness at a place is the median of a window around it: strokes are thin, so most of the window is paper, and a
    median keeps the edge of a shadow sharp. With `flatten` False the paper is taken to be one gray everywhere.

    Lighter or darker is looked at only where the paper's own brightness is even (the edge of a sheet on a dark table stands
    out more than any ink); squares let strong ink speak.
    """
    gray = _halved(image_gray)
    median = _median(gray)
    window = 2 * round(max(gray.shape) * WINDOW / 2) + 1
    paper = np.asarray(cv2.medianBlur(gray, window), np.uint8) if flatten else np.full_like(gray, median)
    step = cv2.subtract(cv2.dilate(paper, _AROUND), cv2.erode(paper, _AROUND))
    even = cv2.threshold(step, _EVEN * max(median, 1), 255, cv2.THRESH_BINARY_INV)[1]
    lighter, darker = (cv2.norm(gray, bound(gray, paper), mask=even) for bound in (cv2.min, cv2.max))
    return Paper(paper, lighter / max(darker, 1e-9))


def find_ink(
    image_gray: NDArray[np.uint8],
    paper: Paper,
    *,
    light: bool = False,
    enlarged: float = 1.0,
    seen: NDArray[np.uint8] | None = None,
) -> Ink:
    """Find the ink in a gray picture `(h, w)` uint8, darker than its paper, or with `light` lighter.

    `enlarged` is how many times as large the picture is as the camera took it: between its pixels there is no texture.

    What stands out of the paper's texture is divided into connected pieces, and each is cut again at half of its own
    contrast: so strokes keep their width whatever pen drew them, and pale rules fall away from the dark strokes on them.
    By hysteresis, as in Canny (1986), a piece must stand out by its darker half, and reaches as far as it is stronger than a
    share of that: so a faint pen's strokes stay whole.
    """
    gray = np.asarray(cv2.GaussianBlur(image_gray, (3, 3), 0.6), np.uint8)
    around = np.asarray(cv2.resize(paper.small, gray.shape[::-1], interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
    if light:
        gray, around = np.asarray(cv2.bitwise_not(gray), np.uint8), np.asarray(cv2.bitwise_not(around), np.uint8)
    darker = np.asarray(cv2.subtract(around, gray), np.uint8)
    least = np.full_like(around, 255 - _BRIGHTEST_BOARD if light else _DARKEST_PAPER)
    around = np.asarray(cv2.max(around, least), np.uint8)
    noise = _noise_level(darker, around, round(_TEXTURE_APART * max(enlarged, 1.0)))
    above = cv2.compare(darker, cv2.LUT(around, _limits(int(_FADING * noise))), cv2.CMP_GT)
    if seen is not None:
        above = cv2.min(above, seen)
    count, stains = cv2.connectedComponents(above, connectivity=8)
    places = np.flatnonzero(np.asarray(above, np.uint8).view(np.bool_))
    piece, value = (
        np.asarray(stains.ravel().take(places), np.intp),
        _contrast(darker.ravel().take(places), around.ravel().take(places)),
    )
    contrasts = _contrasts(piece, value, count)
    contrasts *= contrasts > noise
    stained = np.zeros(gray.shape, np.uint8)
    stained.ravel()[places] = np.round(_EDGE_LEVEL * contrasts).astype(np.uint8)[piece]
    # Just outside a piece its neighbour's cut still holds: the strokes' flanks are needed for an edge between pixels.
    near = np.asarray(cv2.dilate(stained, _AROUND), np.uint8)
    level = _levels(darker, around, near)
    mask = np.asarray(cv2.threshold(level, 127, 255, cv2.THRESH_BINARY)[1], np.uint8)
    return Ink(np.asarray(stains, np.int32), np.round(contrasts).astype(np.uint8), stained, near, mask, level)


def _ratio(numbers: NDArray[np.uint8], wholes: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """Return so many times the ratio of numbers, rounded, 255 at most; OpenCV's own division differs between x86 and ARM."""
    ratio = numbers * np.float32(times)
    ratio /= wholes
    ratio += np.float32(0.5)
    return np.asarray(np.minimum(ratio, np.float32(255), out=ratio), np.uint8)


def _contrast(darker: NDArray[np.uint8], paper: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return by how much pixels are darker than their paper, as shares of it: 0 to 255."""
    return _ratio(darker, paper, 255)


def _limits(contrast: int) -> NDArray[np.uint8]:
    """Return for each brightness of paper `(256,)` by how much darker a pixel may be and not exceed a contrast."""
    whole = np.arange(256)
    return np.asarray(np.minimum(((contrast + 1) * whole - whole // 2 - 1) // 255, 255), np.uint8)


def _levels(darker: NDArray[np.uint8], paper: NDArray[np.uint8], edges: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the ink `(h, w)`: 128 where a pixel's contrast is that of the edge there, 0 where `edges` is 0."""
    places = np.flatnonzero(edges.view(np.bool_))
    contrast = _contrast(darker.ravel().take(places), paper.ravel().take(places))
    level = np.zeros(darker.shape, np.uint8)
    level.ravel()[places] = _ratio(contrast, edges.ravel().take(places), 128)
    return level


def _halved(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve a picture until no side is longer than 100 pixels: every pixel is the mean of a square."""
    while max(gray.shape) > _BACKGROUND_SIDE and min(gray.shape) > 1:
        gray = np.asarray(cv2.resize(gray, (gray.shape[1] // 2, gray.shape[0] // 2), interpolation=cv2.INTER_LINEAR_EXACT))
    return gray


def _contrasts(piece: NDArray[np.intp], value: NDArray[np.uint8], count: int) -> NDArray[np.float64]:
    """Return the mean contrast of each piece's darker half `(count,)`; 0 for what has no pixel."""
    mean = np.bincount(piece, value, count) / np.maximum(np.bincount(piece, minlength=count), 1)
    darker = value >= mean.take(piece)
    total = np.bincount(piece, value * darker, count)
    return np.asarray(total / np.maximum(np.bincount(piece, darker, count), 1), np.float64)


def _median(gray: NDArray[np.uint8]) -> int:
    counts = np.bincount(gray.ravel(), minlength=256)
    return int(np.searchsorted(np.cumsum(counts), gray.size / 2))


def _noise_level(darker: NDArray[np.uint8], paper: NDArray[np.uint8], apart: int) -> float:
    """Return the contrast that the paper's own texture does not reach."""
    rows = slice(None, None, _TEXTURE_ROWS if len(darker) > 100 else 1)
    contrast = _contrast(darker[rows], paper[rows])
    # Neighbours differ by sqrt(2) standard deviations; where both are 0 the contrast was cut off.
    left, right = np.ascontiguousarray(contrast[:, :-apart]), np.ascontiguousarray(contrast[:, apart:])
    if left.size == 0:
        return _FAINTEST
    seen = np.asarray(cv2.max(left, right), np.uint8)
    counts = cv2.calcHist([cv2.absdiff(left, right)], [0], seen, [256], [0, 256]).ravel()
    if not counts.any():
        return _FAINTEST
    median = int(np.searchsorted(np.cumsum(counts, dtype=np.float64), float(counts.sum(dtype=np.float64)) / 2))
    return min(max(_FAINTEST, _NOISE_FACTOR * median / (0.6745 * math.sqrt(2))), _STRONGEST)
