"""Taking ruled lines, grids and table edges out of the ink while the strokes that cross them stay whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
# To see where lines may be, so many columns of a piece are looked at, and two rows as one.
_SEEN = 4
_SQUARE = 3
# Strokes on a line make it look thicker from afar, by no more than this factor.
_ROUGHLY = 4
Window = tuple[slice, slice]


def without_lines(ink: Ink, longer: float) -> NDArray[np.uint8]:
    """Return the ink's mask `(h, w)` uint8 (0 or 255) less its lines, horizontal and vertical, tilted up to some 15 degrees.

    `longer` is the longer side in pixels of the whole picture. Lines are looked for in the stains, where pale ones are whole.
    The mask itself where there is none.
    """
    mask = ink.mask
    for region in _long_stains(ink.near, longer):
        for upright in (False, True):
            if upright not in region.upright:
                continue
            stains, strokes = (part[region.window] for part in (ink.stained, ink.mask))
            if upright:
                stains, strokes = stains.T, strokes.T
            for window, own in _windows(stains, longer):
                line = _line_in(stains, strokes, window, own, longer)
                if line is not None:
                    mask = mask.copy() if mask is ink.mask else mask
                    part = mask[region.window]
                    (part.T if upright else part)[window][line > 0] = 0
    return mask


@dataclass(frozen=True)
class _Region:
    """Where a stain long enough to hold lines lies, and whether it is wide (False), tall (True), or both."""

    window: Window
    upright: tuple[bool, ...]


def _long_stains(near: NDArray[np.uint8], longer: float) -> list[_Region]:
    # Every pixel of `near` is of a square of three around one: every third tells of them all.
    seen = np.ascontiguousarray(near[1::_SQUARE, 1::_SQUARE])
    if seen.size == 0:
        return []
    shortest = _SHORTEST * longer
    _, _, stats, _ = cv2.connectedComponentsWithStats(seen, connectivity=8, ltype=cv2.CV_16U)
    regions = []
    for left, top, width, height in stats[1:, :4].tolist():
        upright = tuple(is_upright for is_upright, side in ((False, width), (True, height)) if _SQUARE * side >= shortest)
        if upright:
            rows = slice(max(_SQUARE * top - 1, 0), _SQUARE * (top + height) + 1)
            regions.append(_Region((rows, slice(max(_SQUARE * left - 1, 0), _SQUARE * (left + width) + 1)), upright))
    return regions


def _windows(stains: NDArray[np.uint8], longer: float) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
    """Yield where near-horizontal lines may be in stains `(h, w)` uint8 of a picture with that longer side.

    They are looked at with every few columns only.

    With each window comes what of it `(h, w)` may belong to its line, and not to another that it reaches into.
    """
    step = max(1, round(_PIECE * longer / _SEEN))
    seen = np.ascontiguousarray(stains[:, ::step])
    pieces = _level_pieces(seen, round(_PIECE * longer), _SEEN + 1)
    if not cv2.countNonZero(pieces):
        return
    # Thickened to three pixels, every second one is enough to see what hangs together.
    gap = 3
    coarse = np.ascontiguousarray(cv2.dilate(pieces, np.ones((3, gap), np.uint8))[::2])
    _, labels, stats, _ = cv2.connectedComponentsWithStats(coarse, connectivity=8, ltype=cv2.CV_16U)
    for index, (left, top, width, height, area) in enumerate(stats[1:].tolist(), 1):
        length, thickness = step * (width - gap + 1), 2 * (area / width - 1)
        if length >= _SHORTEST * longer and thickness * SLENDERNESS <= _ROUGHLY * length:
            own = labels[top : top + height, left : left + width] == index
            window = slice(2 * top, 2 * (top + height)), slice(step * left, step * (left + width))
            yield window, own.repeat(2, axis=0).repeat(step, axis=1)[: len(stains) - 2 * top, : stains.shape[1] - step * left]


def _level_pieces(stains: NDArray[np.uint8], piece: int, columns: int) -> NDArray[np.uint8]:
    """Return what of stains `(h, w)` uint8 lies on near-horizontal pieces of so many columns."""
    # A line of slope s and height t holds level runs of t / s: thickened, a tilted line still holds a whole piece.
    thick = cv2.dilate(stains, np.ones((2 * round(piece / 8) + 1, 1), np.uint8))
    level = cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones((1, columns), np.uint8), borderValue=0)
    return np.asarray(cv2.min(level, stains), np.uint8)


def _line_in(
    stains: NDArray[np.uint8], mask: NDArray[np.uint8], window: Window, own: NDArray[np.bool_], longer: float
) -> NDArray[np.uint8] | None:
    """Return the pixels `(h, w)` of a window that are of a line and belong to no stroke across it; None without a line."""
    piece = max(9, round(_PIECE * longer))
    rows, columns = window
    reach = round(piece / 8)
    around = slice(max(rows.start - reach, 0), rows.stop + reach)
    pieces = _level_pieces(np.ascontiguousarray(stains[around, columns]), piece, piece)
    pieces = pieces[rows.start - around.start :][: min(rows.stop, len(stains)) - rows.start]
    line = _line((pieces > 0) & own, _SHORTEST * longer)
    if line is None:
        return None
    return np.asarray(cv2.subtract(line.mask, _crossing(mask, window, math.ceil(2 * line.thickness) + 1)), np.uint8)


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
    y, x = np.nonzero(pieces)
    thin = covered[counts[covered] <= 2 * thickness]
    middles = np.bincount(x, y, len(counts))[thin] / counts[thin]
    path = np.interp(np.arange(pieces.shape[1]), thin, middles)
    near = np.abs(y - path[x]) <= thickness / 2 + 1
    mask = np.zeros(pieces.shape, np.uint8)
    mask[y[near], x[near]] = 255
    return _Line(mask, thickness)


def _crossing(mask: NDArray[np.uint8], window: Window, run: int) -> NDArray[np.uint8]:
    """Return the ink in a window of the mask that is part of an upright run of at least `run` pixels."""
    rows, columns = window
    top = max(rows.start - run, 0)
    around = np.ascontiguousarray(mask[top : rows.stop + run, columns])
    strokes = cv2.morphologyEx(around, cv2.MORPH_OPEN, np.ones((run, 1), np.uint8), borderValue=0)
    return np.asarray(strokes[rows.start - top :][: min(rows.stop, len(mask)) - rows.start], np.uint8)
