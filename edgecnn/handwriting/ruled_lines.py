"""Taking ruled lines, grids and table edges out of the ink while the strokes that cross them stay whole."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.ink import Ink

# The longest strokes of digits (the tail of a 9 drawn with a fine pen) are some 35 times as long as wide; a rule is longer.
SLENDERNESS = 45.0
# The pieces that lines are put together from, and the shortest line, as shares of the picture's longer side.
_PIECE = 1 / 40
_SHORTEST = 1 / 8


def without_lines(ink: Ink) -> NDArray[np.uint8]:
    """Return the ink's mask `(h, w)` uint8 (0 or 255) less its lines, horizontal and vertical, tilted up to some 15 degrees.

    Lines are looked for in the stains, where pale ones are whole.
    """
    shortest = _SHORTEST * max(ink.mask.shape)
    wide, tall = (ink.extents[:, side] >= shortest for side in (0, 1))
    wide[0] = tall[0] = False
    lines = np.zeros_like(ink.mask)
    if wide.any():
        lines = _horizontal_lines(_pieces(ink, wide), ink.mask)
    if tall.any():
        turned = _horizontal_lines(np.ascontiguousarray(_pieces(ink, tall).T), np.ascontiguousarray(ink.mask.T))
        lines = np.maximum(lines, turned.T)
    return np.asarray(cv2.subtract(ink.mask, lines), np.uint8)


def _pieces(ink: Ink, chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(chosen, 255, 0).astype(np.uint8)[ink.stains]


def _horizontal_lines(stains: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels of near-horizontal lines that belong to no stroke across them."""
    piece = max(9, round(_PIECE * max(mask.shape)))
    # A line of slope s and height t holds level runs of t / s: thickened, a tilted line still holds a whole piece.
    thick = cv2.dilate(stains, np.ones((2 * round(piece / 8) + 1, 1), np.uint8))
    pieces = cv2.min(cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones((1, piece), np.uint8), borderValue=0), stains)
    lines = np.zeros_like(mask)
    if not cv2.countNonZero(pieces):
        return lines
    gap = max(3, piece // 3) | 1
    # Thickened to three pixels, every second one is enough to see what hangs together.
    coarse = np.ascontiguousarray(cv2.dilate(pieces, np.ones((3, gap), np.uint8))[::2, ::2])
    count, labels, stats, _ = cv2.connectedComponentsWithStats(coarse, connectivity=8)
    for index in range(1, count):
        left, top, width, height = (int(value) for value in stats[index, :4])
        if 2 * width - gap + 1 < _SHORTEST * max(mask.shape):
            continue
        window = np.s_[2 * top : 2 * (top + height), 2 * left : 2 * (left + width)]
        own = (labels[top : top + height, left : left + width] == index).repeat(2, axis=0).repeat(2, axis=1)
        found = np.asarray(pieces[window], np.uint8)
        line = _line(own[: found.shape[0], : found.shape[1]] & (found > 0), _SHORTEST * max(mask.shape))
        if line is not None:
            kept = _crossing(mask, window, math.ceil(2 * line.thickness) + 1)
            lines[window] = cv2.max(lines[window], cv2.subtract(line.mask, kept))
    return lines


@dataclass(frozen=True, eq=False)
class _Line:
    mask: NDArray[np.uint8]
    thickness: float


def _line(pieces: NDArray[np.bool_], shortest: float) -> _Line | None:
    """Follow the line that near-horizontal pieces `(h, w)` make up; None when they are too short or too thick for one.

    Strokes that lie on the line belong to the pieces too: where a column holds more than twice the usual, the line's height is
    taken from its neighbours.
    """
    counts = np.count_nonzero(pieces, axis=0)
    covered = np.flatnonzero(counts)
    if covered.size < shortest / 2:
        return None
    thickness = float(np.median(counts[covered]))
    if covered[-1] - covered[0] + 1 < max(shortest, SLENDERNESS * thickness):
        return None
    rows = np.arange(len(pieces))
    thin = covered[counts[covered] <= 2 * thickness]
    middles = (pieces[:, thin] * rows[:, None]).sum(axis=0) / counts[thin]
    path = np.interp(np.arange(pieces.shape[1]), thin, middles)
    near = np.abs(rows[:, None] - path) <= thickness / 2 + 1
    return _Line(np.where(near & pieces, 255, 0).astype(np.uint8), thickness)


def _crossing(mask: NDArray[np.uint8], window: tuple[slice, slice], run: int) -> NDArray[np.uint8]:
    """Return the ink in a window of the mask that is part of an upright run of at least `run` pixels."""
    rows, columns = window
    top = max(rows.start - run, 0)
    strokes = cv2.morphologyEx(mask[top : rows.stop + run, columns], cv2.MORPH_OPEN, np.ones((run, 1), np.uint8), borderValue=0)
    return np.asarray(strokes[rows.start - top :][: min(rows.stop, len(mask)) - rows.start], np.uint8)
