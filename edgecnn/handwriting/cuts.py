"""Cutting digits apart that touch, along paths that cross as little ink as possible."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.components import Component
from edgecnn.mnist_form import EDGE
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
_NARROWEST = 8
# Ink so much stronger than a stroke's edge may leave out where strokes touch; a part is at least this share of the whole.
_STRONGER, _LEAST_PART = (168, 208), 0.1


@dataclass(frozen=True, eq=False)
class Slices:
    """A component cut where digits may touch: `numbers` `(n,)` is the slice of each of its pixels, from the left."""

    component: Component
    numbers: NDArray[np.int64]
    count: int

    def part(self, start: int, end: int, width: int) -> Component | None:
        """Return slices `start` to `end` as one component of a picture `width` pixels wide; None where no stroke is in them."""
        inside = (self.numbers >= start) & (self.numbers < end)
        places, levels = self.component.places[inside], self.component.levels[inside]
        y, x = np.divmod(places, width)
        own = levels >= EDGE
        if not own.any():
            return None
        left, top, right, bottom = (int(v) for v in (x[own].min(), y[own].min(), x[own].max() + 1, y[own].max() + 1))
        near = (x >= left - 1) & (x <= right) & (y >= top - 1) & (y <= bottom)
        box, area = (left, top, right - left, bottom - top), int(np.count_nonzero(own))
        return Component(box, places[near], levels[near], area, self.component.stroke, self.component.contrast)


def slices(components: Sequence[Component], width: int) -> list[Slices]:
    """Cut components of a picture `width` pixels wide at every place where digits may touch.

    Over-segmentation, as in LeCun et al. (1998), section IV: the classifier says which slices together are a digit. One slice,
    the component itself, where there is no such place.
    """
    grids = [_grid(component, width) for component in components]
    paths = _paths(components, grids)
    return [_sliced(component, own, width) for component, own in zip(components, paths, strict=True)]


def parted(component: Component, width: int) -> Slices | None:
    """Divide a component of a picture `width` pixels wide into what hangs together in stronger ink alone; None where all does.

    Where two strokes just touch, out of focus, the ink between them is paler than theirs.
    """
    left, top, w, h = component.box
    y, x = np.divmod(component.places, width)
    y, x = y - top + 1, x - left + 1
    level = np.zeros((h + 2, w + 2), np.uint8)
    level[y, x] = component.levels
    for edge in _STRONGER:
        count, labels = cv2.connectedComponents(cv2.threshold(level, edge - 1, 255, cv2.THRESH_BINARY)[1], connectivity=8)
        area = np.bincount(labels.ravel(), minlength=count)[1:]
        large = np.flatnonzero(area >= _LEAST_PART * component.area)
        if len(large) > 1:
            middles = [np.flatnonzero((labels == part + 1).any(axis=0)).mean() for part in large]
            numbers = np.zeros(count, np.uint8)
            numbers[large[np.argsort(middles, kind="stable")] + 1] = np.arange(1, len(large) + 1)
            return Slices(component, _grown(numbers[labels], level)[y, x].astype(np.int64) - 1, len(large))
    return None


def _grown(parts: NDArray[np.uint8], level: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Let numbered parts `(h, w)` uint8 take the ink around them, pixel by pixel, until all of it is theirs."""
    while True:
        near = cv2.min(cv2.dilate(parts, np.ones((3, 3), np.uint8)), cv2.threshold(level, 0, 255, cv2.THRESH_BINARY)[1])
        grown = np.where(parts > 0, parts, near).astype(np.uint8)
        if np.array_equal(grown, parts):
            return parts
        parts = grown


@dataclass(frozen=True, eq=False)
class _Grid:
    """A component's strokes `(rows, columns)` uint8, 255 in ink, `step` pixels of the picture to a cell."""

    ink: NDArray[np.uint8]
    step: int


def _grid(component: Component, width: int) -> _Grid:
    left, top, w, h = component.box
    mask = np.zeros((h, w), np.uint8)
    y, x = np.divmod(component.places[component.levels >= EDGE], width)
    mask[y - top, x - left] = 255
    step = max(1, round(h / _ROWS))
    return _Grid(mask if step == 1 else resize(mask, (math.ceil(h / step), math.ceil(w / step))), step)


def _sliced(component: Component, paths: list[NDArray[np.int64]], width: int) -> Slices:
    """Divide a component's pixels by paths from top to bottom, each the first column right of the cut in each row."""
    left, top, _, height = component.box
    y, x = np.divmod(component.places, width)
    row = np.clip(y - top, 0, height - 1)
    numbers = np.zeros(len(y), np.int64)
    for path in paths:
        numbers += x - left >= path[row]
    return Slices(component, numbers, len(paths) + 1)


def _paths(components: Sequence[Component], grids: list[_Grid]) -> list[list[NDArray[np.int64]]]:
    """Return for each component the paths `(height,)` along which to cut it."""
    wide = [i for i, grid in enumerate(grids) if grid.ink.shape[1] >= _NARROWEST]
    found: list[list[tuple[float, NDArray[np.int64]]]] = [[] for _ in grids]
    if wide:
        cost = _costs([grids[i].ink for i in wide])
        down, up = np.split(_accumulated(np.concatenate([cost, cost[:, ::-1]])), 2)
        up = up[:, ::-1]
        starts = []
        for k, i in enumerate(wide):
            rows, columns = grids[i].ink.shape
            most = rows + _INK_COST * _MOST_STROKES * components[i].stroke / grids[i].step
            for row in (rows // 3, rows // 2, (2 * rows) // 3):
                through = down[k, row, :columns] + up[k, row, :columns] - cost[k, row, :columns]
                for column in _valleys(through, max(2, round(_SPACING * rows))):
                    if through[column] <= most and 0.1 * columns <= column <= 0.9 * columns:
                        starts.append((k, row, column, float(through[column])))
        traced = _trace(down, up, np.array([start[:3] for start in starts], np.int64).reshape(-1, 3))
        for (k, _, _, value), path in zip(starts, traced, strict=True):
            found[wide[k]].append((value, path[: grids[wide[k]].ink.shape[0]]))
    return [_chosen(component, grid, own) for component, grid, own in zip(components, grids, found, strict=True)]


def _chosen(component: Component, grid: _Grid, found: list[tuple[float, NDArray[np.int64]]]) -> list[NDArray[np.int64]]:
    rows, columns = grid.ink.shape
    if columns < _NARROWEST:
        return []
    ink = grid.ink > 127
    reach = max(2, round(_SPACING * rows))
    for column in _waists(ink, reach):
        crossed = float(rows + _INK_COST / 255 * grid.ink[:, column].sum(dtype=np.int64))
        found.append((crossed, np.full(rows, column, np.int64)))
    paths = _distinct(found, ink, component.stroke / grid.step)
    return [np.repeat(path * grid.step, grid.step)[: component.height] for path in paths]


def _costs(inks: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return what it costs to pass each cell `(k, rows, columns)`; rows below an ink cost nothing, columns beside it all."""
    shape = tuple(max(ink.shape[axis] for ink in inks) for axis in (0, 1))
    cost = np.full((len(inks), *shape), np.inf)
    for own, ink in zip(cost, inks, strict=True):
        rows, columns = ink.shape
        own[:rows, :columns] = 1.0 + (_INK_COST / 255) * ink
        own[rows:, :columns] = 0.0
    return cost


def _waists(ink: NDArray[np.bool_], reach: int) -> list[int]:
    """Return the columns where the outline `(h, w)` is narrowest between two bellies: there two round digits touch.

    Their strokes merge into a thick one, which no path of little ink crosses.
    """
    written = ink.any(axis=0)
    height = np.where(written, len(ink) - ink[::-1].argmax(axis=0) - ink.argmax(axis=0), 0).astype(np.float64)
    bellies = np.minimum(np.maximum.accumulate(height), np.maximum.accumulate(height[::-1])[::-1])
    return [column for column in _valleys(height, reach) if 0 < height[column] <= _WAIST * bellies[column]]


def _accumulated(cost: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cost of the cheapest path from the top to each cell `(k, rows, columns)`, one column aside a row at most."""
    total = np.full((cost.shape[1], cost.shape[0], cost.shape[2] + 2), np.inf)
    total[:, :, 1:-1] = cost.transpose(1, 0, 2)
    for above, here in itertools.pairwise(total):
        aside = np.minimum(above[:, :-2], above[:, 2:])
        aside += _ASIDE
        here[:, 1:-1] += np.minimum(aside, above[:, 1:-1], out=aside)
    return total[:, :, 1:-1].transpose(1, 0, 2)


def _trace(down: NDArray[np.float64], up: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Follow the cheapest path through each start `(m, 3)` (component, row, column) up and down: columns `(m, rows)`."""
    rows = down.shape[1]
    paths = np.empty((len(starts), rows), np.int64)
    which, begin, at = starts.T
    padded = [np.pad(total, ((0, 0), (0, 0), (1, 1)), constant_values=np.inf) for total in (down, up)]
    aside = np.array([_ASIDE, 0.0, _ASIDE])
    for total, order, step in ((padded[0], range(rows - 1, -1, -1), 1), (padded[1], range(rows), -1)):
        column = at.copy()
        for row in order:
            moving = begin * step > row * step
            if moving.any():
                near = total[which[:, None], row, column[:, None] + np.arange(3)] + aside
                column = np.where(moving, column + near.argmin(axis=1) - 1, column)
            going = begin * step >= row * step
            paths[going, row] = column[going]
    return paths


def _valleys(values: NDArray[np.float64], reach: int) -> list[int]:
    """Return the columns where `values` is smallest within `reach` columns, the middle one of equals."""
    window = np.ones((1, 2 * reach + 1), np.uint8)
    lowest = cv2.erode(values[None], window, borderType=cv2.BORDER_CONSTANT, borderValue=np.inf)[0]
    at = np.flatnonzero(values <= lowest)
    ends = [*(np.flatnonzero(np.diff(at) > 1) + 1).tolist(), len(at)]
    return [int(at[start + (end - start) // 2]) for start, end in itertools.pairwise([0, *ends]) if end > start]


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
