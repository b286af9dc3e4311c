"""What stands out of one frame as parts may: pieces of one part are joined, and parts that touch are told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn_device.frames import Box

# What is thinner than this part of the longer side, or emptier than this part of its box, is no part.
_MIN_SIDE, _MIN_FILLED = 0.045, 0.2
MOST_PARTS = 16
# Boxes of one part overlap by this part of the smaller, or lie this near (of the longer side) and one is that much smaller.
_OVERLAP, _NEAR, _CRUMB = 0.05, 0.05, 0.3
# Once a usual size is known: a piece is smaller than this part of it, all together no larger than so many times it, and not
# farther apart than this part of the longer side.
_PIECE, _MOST_JOINED, _MOST_SPACE = 0.6, 1.1, 0.08
# Parts that touch are told apart where they are so alike in length, and lie beside each other by so little of their width.
_UNEVEN, _MOST_OFFSET = 0.15, 1.6

Axis = Literal[0, 1]
Point = tuple[float, float]


@dataclass(frozen=True)
class Span:
    """Where something is along an axis, and whether it is cut by the picture's border there."""

    low: float
    high: float
    cut_low: bool
    cut_high: bool

    @property
    def length(self) -> float:
        """How long what can be seen of it is."""
        return self.high - self.low

    @property
    def is_cut(self) -> bool:
        """Whether one end is out of view; with both ends there is no more of it to see along this axis."""
        return self.cut_low != self.cut_high

    def middle(self, length: float) -> float:
        """Return the middle of something that is `length` long where it is whole."""
        if not self.is_cut:
            return (self.low + self.high) / 2
        half = max(length, self.length) / 2
        return self.high - half if self.cut_low else self.low + half

    def way_to(self, later: Span, length: float) -> float:
        """Return how far it has moved, by the ends that can be seen in both."""
        low = not (self.cut_low or later.cut_low)
        high = not (self.cut_high or later.cut_high)
        if low and high:
            return (later.low - self.low + later.high - self.high) / 2
        if low or high:
            return later.low - self.low if low else later.high - self.high
        return later.middle(length) - self.middle(length)


Blob = tuple[Span, Span]


def find_blobs(mask: NDArray[np.uint8], usual: Point | None = None, axis: Axis | None = None) -> list[Blob]:
    """Return what is large enough to be a part, the largest first; pieces are joined, and parts that touch are told apart."""
    height, width = mask.shape
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    least = _MIN_SIDE * max(width, height)
    boxes = [(x, y, w, h) for x, y, w, h, area in stats[1:].tolist() if min(w, h) >= least and area >= _MIN_FILLED * w * h]
    boxes = _joined(sorted(boxes, key=area, reverse=True)[:MOST_PARTS], usual, max(width, height))
    if usual is not None and axis is not None:
        told = [told_apart(box, usual, axis, (width, height)[axis]) for box in boxes]
        boxes = [each for parts in told for each in (parts if len(parts) < 2 else [_trimmed(mask, part) for part in parts])]
    return [(_span(x, w, width), _span(y, h, height)) for x, y, w, h in boxes]


def _joined(boxes: list[Box], usual: Point | None, longest: int) -> list[Box]:
    """Join the pieces into which a part falls whose gray is here and there that of the belt."""
    pairs = combinations(range(len(boxes)), 2)
    found = next(((i, j) for i, j in pairs if _belong_together(boxes[i], boxes[j], usual, longest)), None)
    if found is None:
        return boxes
    rest = [box for place, box in enumerate(boxes) if place not in found]
    return _joined([_union(boxes[found[0]], boxes[found[1]]), *rest], usual, longest)


def told_apart(box: Box, usual: Point, axis: Axis, size: int) -> list[Box]:
    """Return the parts that touch one another along `axis`, each of the `usual` size; one that may be a single part as it is.

    What is cut by the border of a picture of `size` is counted from its other end.
    """
    start, length, own = box[axis], box[2 + axis], usual[axis]
    cut_low, cut_high = start <= 1, start + length >= size - 1
    if (cut_low and cut_high) or box[3 - axis] > _MOST_OFFSET * usual[1 - axis]:
        return [box]
    parts = length / own
    count = math.floor(parts + _UNEVEN) if cut_low or cut_high else round(parts)
    is_more = parts - count > _UNEVEN and (cut_low or cut_high)  # of one that is not whole in view yet
    if count < 1 or count + is_more < 2 or (not is_more and abs(parts - count) > _UNEVEN * count):
        return [box]
    step = own if is_more else length / count
    edges = [round(step * number) for number in range(count + is_more)] + [length]
    if cut_low:
        edges = [length - edge for edge in reversed(edges)]
    spans = [(start + low, high - low) for low, high in pairwise(edges)]
    return [(low, box[1], own, box[3]) if axis == 0 else (box[0], low, box[2], own) for low, own in spans]


def _trimmed(mask: NDArray[np.uint8], box: Box) -> Box:
    """Return the part of a box that has anything of the mask."""
    x, y, w, h = box
    left, top, across, down = cv2.boundingRect(mask[y : y + h, x : x + w])
    return (x + left, y + top, across, down) if across and down else box


def _belong_together(one: Box, other: Box, usual: Point | None, longest: int) -> bool:
    """Tell whether two boxes overlap, or are near each other and one is far smaller than the other, or than a part.

    In the last case they are together no larger than a part of the `usual` size.
    """
    _, _, w, h = _union(one, other)
    over_w, over_h = one[2] + other[2] - w, one[3] + other[3] - h
    smaller, larger = sorted((area(one), area(other)))
    if min(over_w, over_h) > 0:
        return over_w * over_h > _OVERLAP * smaller
    space = -min(over_w, over_h) / longest
    if space <= _NEAR and smaller < _CRUMB * larger:
        return True
    fits = usual is not None and w <= _MOST_JOINED * usual[0] + 2 and h <= _MOST_JOINED * usual[1] + 2
    return usual is not None and fits and space <= _MOST_SPACE and smaller < _PIECE * usual[0] * usual[1]


def only(mask: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Return a mask with what it has in a box, and nothing else."""
    x, y, w, h = box
    own = np.zeros_like(mask)
    own[y : y + h, x : x + w] = mask[y : y + h, x : x + w]
    return own


def shared(one: Box, other: Box) -> int:
    """Return how many pixels two boxes have in common."""
    _, _, w, h = _union(one, other)
    return max(0, one[2] + other[2] - w) * max(0, one[3] + other[3] - h)


def area(box: Box) -> int:
    """Return how many pixels a box has."""
    return box[2] * box[3]


def _union(one: Box, other: Box) -> Box:
    x, y = min(one[0], other[0]), min(one[1], other[1])
    right, bottom = max(one[0] + one[2], other[0] + other[2]), max(one[1] + one[3], other[1] + other[3])
    return x, y, right - x, bottom - y


def _span(start: int, length: int, size: int) -> Span:
    return Span(start, start + length, start <= 1, start + length >= size - 1)


def box_of(blob: Blob) -> Box:
    """Return the box round what can be seen of a blob."""
    x, y = blob
    return round(x.low), round(y.low), round(x.length), round(y.length)
