"""From a photograph to ink: the light is taken out, what is darker (or lighter) than the paper around it stays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.preprocessing import resize

# Lengths are shares of the picture's longer side and contrasts shares of the paper's brightness, so that neither the
# camera's resolution nor its exposure changes what is found.
WINDOW = 1 / 5
_BACKGROUND_SIDE = 160
_EVEN = 0.06
# Five standard deviations of the paper's own texture, and never under a contrast that an eye would call a stain.
_NOISE_FACTOR = 5.0
_FAINTEST = 0.10 * 255
_STRONGEST = 0.25 * 255
_FADING = 0.6
# A stroke's edge lies halfway between paper and ink.
_EDGE_LEVEL = 0.45


def ink_contrast(image_bgr: NDArray[np.uint8], *, flatten: bool = True) -> NDArray[np.uint8]:
    """Map a picture `(h, w, 3)` uint8 BGR to its ink's contrast against the paper `(h, w)` uint8: 0 paper, 255 black.

    The paper's brightness at a pixel is the median of a window around it: strokes are thin, so most of the window is paper,
    and a median keeps the edge of a shadow sharp. Dark ink on light paper or light ink on a dark board is what most of the
    picture's contrast says. With `flatten` False the paper is taken to be one gray everywhere.
    """
    gray = np.asarray(cv2.GaussianBlur(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), (0, 0), 0.6), np.uint8)
    paper = _paper(gray) if flatten else np.full_like(gray, round(float(np.median(gray))))
    if _is_light_on_dark(gray, paper):
        gray, paper = np.asarray(cv2.bitwise_not(gray), np.uint8), np.asarray(cv2.bitwise_not(paper), np.uint8)
    return _relative(np.asarray(cv2.subtract(paper, gray), np.uint8), paper)


@dataclass(frozen=True, eq=False)
class Ink:
    """What is written on a picture of `(h, w)`.

    `stains` `(h, w)` int32 numbers the connected pieces of all that stands out of the paper's texture (0 is paper);
    `extents` `(n, 2)` int32 is their width and height, `contrasts` `(n,)` float64 how far they stand out, 0 to 255.
    `mask` `(h, w)` uint8 (0 or 255) is the strokes and `level` `(h, w)` uint8 their ink: 0 paper, 128 a stroke's edge, 255 ink.
    """

    stains: NDArray[np.int32]
    extents: NDArray[np.int32]
    contrasts: NDArray[np.float64]
    mask: NDArray[np.uint8]
    level: NDArray[np.uint8]


def cut_ink(contrast: NDArray[np.uint8]) -> Ink:
    """Cut ink from paper by its contrast `(h, w)` uint8.

    What stands out of the paper's texture is divided into connected pieces, and each is cut again at half of its own
    contrast: so strokes keep their width whatever pen drew them, and pale rules fall away from the dark strokes on them.
    """
    labels, extents = _stains(contrast)
    if len(extents) == 1:
        return Ink(labels, extents, np.zeros(1), np.zeros_like(contrast), np.zeros_like(contrast))
    contrasts = _piece_contrasts(contrast, labels, len(extents))
    cuts = np.round(_EDGE_LEVEL * contrasts).astype(np.uint8)
    # Just outside a piece its neighbour's cut still holds: the strokes' flanks are needed for an edge between pixels.
    near = np.asarray(cv2.dilate(cuts[labels], np.ones((3, 3), np.uint8)), np.uint8)
    ratio = contrast.astype(np.float32) * np.float32(128) / np.maximum(near, 1).astype(np.float32)
    level = np.where(near > 0, np.minimum(ratio, np.float32(255)), 0).astype(np.uint8)
    mask = np.asarray(cv2.threshold(level, 127, 255, cv2.THRESH_BINARY)[1], np.uint8)
    return Ink(labels, extents, contrasts, mask, level)


def _stains(contrast: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Number the connected pieces that stand out of the paper's texture; also return each one's width and height `(n, 2)`.

    By hysteresis, as in Canny (1986): a piece must stand out somewhere, and reaches as far as it is still stronger than a share
    of that. So a faint pen's strokes stay whole.
    """
    level = _noise_level(contrast)
    above = cv2.threshold(contrast, _FADING * level, 255, cv2.THRESH_BINARY)[1]
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    outstanding = np.zeros(count, np.bool_)
    outstanding[pieces[contrast > level]] = True
    numbers = np.where(outstanding, np.cumsum(outstanding), 0).astype(np.int32)
    kept = np.append(0, np.flatnonzero(outstanding))
    return numbers[pieces], np.asarray(stats[kept][:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]], np.int32)


def _piece_contrasts(contrast: NDArray[np.uint8], labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Return the mean contrast of each piece's darker half `(count,)`; 0 for the paper."""
    inside = np.flatnonzero(labels)
    piece, value = labels.ravel()[inside], contrast.ravel()[inside].astype(np.float64)
    mean = np.bincount(piece, value, count) / np.maximum(np.bincount(piece, minlength=count), 1)
    darker = value >= mean[piece]
    total = np.bincount(piece[darker], value[darker], count)
    return np.asarray(total / np.maximum(np.bincount(piece[darker], minlength=count), 1), np.float64)


def _paper(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = gray.shape
    factor = max(height, width) / _BACKGROUND_SIDE
    small = resize(gray, (max(1, round(height / factor)), max(1, round(width / factor))))
    side = 2 * round(_BACKGROUND_SIDE * WINDOW / 2) + 1
    return resize(np.asarray(cv2.medianBlur(small, side), np.uint8), (height, width))


def _is_light_on_dark(gray: NDArray[np.uint8], paper: NDArray[np.uint8]) -> bool:
    """Tell whether what stands out of the paper is rather lighter than it: chalk, not pencil.

    Looked at only where the paper's own brightness is even (the edge of a sheet on a dark table stands out more than any
    ink); squares let strong ink speak.
    """
    reach = 2 * round(max(gray.shape) / _BACKGROUND_SIDE) + 1
    around = np.ones((reach, reach), np.uint8)
    step = cv2.subtract(cv2.dilate(paper, around), cv2.erode(paper, around))
    even = np.where(step <= _EVEN * max(float(np.median(paper)), 1.0), 255, 0).astype(np.uint8)
    return float(cv2.norm(gray, cv2.max(gray, paper), mask=even)) < float(cv2.norm(gray, cv2.min(gray, paper), mask=even))


def _relative(difference: NDArray[np.uint8], whole: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # Under a tenth of full brightness there is no paper to write on, only noise that a division would blow up.
    share = difference.astype(np.float32) * np.float32(255) / np.maximum(whole, 26).astype(np.float32)
    return np.minimum(share, np.float32(255)).astype(np.uint8)


def _noise_level(contrast: NDArray[np.uint8]) -> float:
    """Return the contrast that the paper's own texture does not reach."""
    # Neighbours three pixels apart differ by sqrt(2) standard deviations; where both are 0 the contrast was cut off.
    left, right = contrast[:, :-3], contrast[:, 3:]
    difference = cv2.absdiff(left, right)[cv2.max(left, right) > 0] if left.size else np.zeros(0, np.uint8)
    if difference.size == 0:
        return _FAINTEST
    counts = np.bincount(difference, minlength=256)
    median = int(np.searchsorted(np.cumsum(counts), difference.size / 2))
    return min(max(_FAINTEST, _NOISE_FACTOR * median / (0.6745 * math.sqrt(2))), _STRONGEST)
