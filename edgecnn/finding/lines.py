"""Taking ruled lines, grids and table edges out of the ink while the strokes that cross them stay whole."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

# The longest strokes of digits (the tail of a 9 drawn with a fine pen) are some 35 times as long as wide; a rule is longer.
SLENDERNESS = 45.0
# The pieces that lines are put together from, and the shortest line, as shares of the picture's longer side.
_PIECE = 1 / 40
_SHORTEST = 1 / 8


def without_lines(mask: NDArray[np.uint8], stains: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the ink mask `(h, w)` uint8 (0 or 255) less its lines, horizontal and vertical, tilted up to some 15 degrees.

    Lines are looked for in `stains` `(h, w)` uint8 (0 or 255), all that stands out of the paper, where pale ones are whole.
    """
    long_pieces = _long_components(stains)
    if not long_pieces.any():
        return mask
    horizontal = _horizontal_lines(long_pieces, mask)
    vertical = _horizontal_lines(np.ascontiguousarray(long_pieces.T), np.ascontiguousarray(mask.T)).T
    return np.asarray(cv2.subtract(mask, cv2.max(horizontal, np.ascontiguousarray(vertical))), np.uint8)


def _long_components(stains: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the components that are long enough to hold a line."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(stains, connectivity=8)
    extent = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    is_long = extent > _SHORTEST / 2 * max(stains.shape)
    is_long[0] = False
    return np.where(is_long, 255, 0).astype(np.uint8)[labels] if is_long.any() else np.zeros_like(stains)


def _horizontal_lines(stains: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pixels of near-horizontal lines that belong to no stroke across them."""
    piece = max(9, round(_PIECE * max(mask.shape)))
    # A line of slope s and height t holds level runs of t / s: thickened, a tilted line still holds a whole piece.
    thick = cv2.dilate(stains, np.ones((2 * round(piece / 8) + 1, 1), np.uint8))
    pieces = cv2.min(cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones((1, piece), np.uint8), borderValue=0), stains)
    gap = max(3, piece // 3) | 1
    if not cv2.countNonZero(pieces):
        return np.zeros_like(mask)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(pieces, np.ones((3, gap), np.uint8)), connectivity=8)
    lines = np.zeros_like(mask)
    for index in range(1, count):
        left, top, width, height, _area = (int(value) for value in stats[index])
        length = width - gap + 1
        if length < _SHORTEST * max(mask.shape):
            continue
        window = np.s_[top : top + height, left : left + width]
        line = np.where(labels[window] == index, pieces[window], 0).astype(np.uint8)
        thickness = cv2.countNonZero(line) / length
        if length >= SLENDERNESS * thickness:
            run = math.ceil(2 * thickness) + 1
            strokes = cv2.morphologyEx(mask[window], cv2.MORPH_OPEN, np.ones((run, 1), np.uint8), borderValue=0)
            lines[window] = cv2.max(lines[window], cv2.subtract(line, strokes))
    return lines
