"""Cutting digits apart that touch, along paths that cross as little ink as possible."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.components import Component
from edgecnn.preprocessing import resize

# A path through ink costs this much more than one through paper; a cut may cross about two strokes.
_INK_COST = 12.0
_ASIDE = 0.4
_MOST_STROKES = 2.5
_MOST_CUTS = 8
# A path is the cheapest within this share of the height to both sides.
_SPACING = 0.12
# Two cuts are the same if they differ by less ink than a dot of the pen, this many stroke widths square.
_DOT = 2.0
# A waist is at most this share as high as the lower belly beside it.
_WAIST = 0.7
# Paths are searched in about this many rows, however large the digits are.
_ROWS = 40


def slices(component: Component) -> list[Component]:
    """Cut a component at every place where digits may touch; return the slices from left to right.

    One slice, the component itself, when there is no such place. Over-segmentation, as in LeCun et al. (1998), section
    IV: the classifier says which slices together are a digit.
    """
    paths = _cuts(component)
    if not paths:
        return [component]
    _, _, width, height = component.box
    columns = np.arange(width)
    borders = [np.zeros(height, np.int64), *paths, np.full(height, width)]
    parts = []
    for left, right in itertools.pairwise(borders):
        inside = (columns >= left[:, None]) & (columns < right[:, None])
        if part := _part(component, np.where(inside, component.mask, 0).astype(np.uint8)):
            parts.append(part)
    return parts


def _cuts(component: Component) -> list[NDArray[np.int64]]:
    """Return paths from top to bottom `(height,)`: the first column right of the cut in each row."""
    _, _, width, height = component.box
    step = max(1, round(height / _ROWS))
    if width < 8 * step:
        return []
    small = resize(component.mask, (math.ceil(height / step), math.ceil(width / step)))
    cost = 1.0 + (_INK_COST / 255) * small.astype(np.float64)
    down, up = _accumulated(cost), _accumulated(cost[::-1])[::-1]
    rows, columns = cost.shape
    most = rows + _INK_COST * _MOST_STROKES * component.stroke / step
    found: list[tuple[float, NDArray[np.int64]]] = []
    for row in (rows // 3, rows // 2, (2 * rows) // 3):
        through = down[row] + up[row] - cost[row]
        for column in _valleys(through, max(2, round(_SPACING * rows))):
            if through[column] <= most and 0.1 * columns <= column <= 0.9 * columns:
                found.append((float(through[column]), _path(down, up, row, column)))
    for column in _waists(small > 127, max(2, round(_SPACING * rows))):
        found.append((float(cost[:, column].sum()), np.full(rows, column, np.int64)))
    paths = _distinct(found, small > 127, component.stroke / step)
    return [np.repeat(path * step, step)[:height] for path in paths]


def _waists(ink: NDArray[np.bool_], reach: int) -> list[int]:
    """Return the columns where the outline `(h, w)` is narrowest between two bellies: there two round digits touch.

    Their strokes merge into a thick one, which no path of little ink crosses.
    """
    written = ink.any(axis=0)
    height = np.where(written, len(ink) - ink[::-1].argmax(axis=0) - ink.argmax(axis=0), 0).astype(np.float64)
    bellies = np.minimum(np.maximum.accumulate(height), np.maximum.accumulate(height[::-1])[::-1])
    return [column for column in _valleys(height, reach) if 0 < height[column] <= _WAIST * bellies[column]]


def _accumulated(cost: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cost of the cheapest path from the first row to each pixel, one column aside a row at most."""
    total = np.full((cost.shape[0], cost.shape[1] + 2), np.inf)
    total[:, 1:-1] = cost
    for above, here in itertools.pairwise(total):
        aside = np.minimum(above[:-2], above[2:]) + _ASIDE
        here[1:-1] += np.minimum(aside, above[1:-1])
    return total[:, 1:-1]


def _path(down: NDArray[np.float64], up: NDArray[np.float64], row: int, column: int) -> NDArray[np.int64]:
    """Follow the cheapest path through a pixel up and down."""
    upwards = _descent(down[row::-1], column)
    downwards = _descent(up[row:], column)
    return np.array([*upwards[::-1], *downwards[1:]], np.int64)


def _descent(total: NDArray[np.float64], column: int) -> list[int]:
    path = [column]
    for costs in total[1:].tolist():
        column = min(
            range(max(column - 1, 0), min(column + 2, len(costs))),
            key=lambda c: costs[c] + (_ASIDE if c != path[-1] else 0.0),  # called at once
        )
        path.append(column)
    return path


def _valleys(values: NDArray[np.float64], reach: int) -> list[int]:
    """Return the columns where `values` is smallest within `reach` columns, the middle one of equals."""
    padded = np.pad(values, reach, constant_values=np.inf)
    lowest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    at = np.flatnonzero(values <= lowest)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    return [int(run[len(run) // 2]) for run in runs if run.size]


def _distinct(found: list[tuple[float, NDArray[np.int64]]], ink: NDArray[np.bool_], stroke: float) -> list[NDArray[np.int64]]:
    """Keep the cheapest of cuts that divide the ink `(h, w)` nearly alike, from left to right."""
    columns = np.arange(ink.shape[1])
    kept: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []
    for _, path in sorted(found, key=lambda item: item[0]):
        left = ink & (columns < path[:, None])
        others = (int(np.count_nonzero(left ^ other)) for _, other in kept)
        if len(kept) < _MOST_CUTS and all(differing > _DOT * stroke**2 for differing in others):
            kept.append((path, left))
    return [path for path, _ in sorted(kept, key=lambda item: float(item[0].mean()))]


def _part(component: Component, mask: NDArray[np.uint8]) -> Component | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    own = np.ascontiguousarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    box = (component.box[0] + int(columns[0]), component.box[1] + int(rows[0]), own.shape[1], own.shape[0])
    return Component(box, own, int(np.count_nonzero(own)), component.stroke)
