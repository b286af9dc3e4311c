"""From an ink mask to strokes that hang together, and what of them has the shape of a digit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.mnist_form import EDGE, GAP, InkStrip

# All of these are ratios, but for the smallest height: under 9 pixels a 3 x 3 pixel convolution sees no digit.
SMALLEST_HEIGHT = 9
WIDEST = 1.5  # width / height; a wide 2 or 4 has 1.1
_THICKEST = 0.42  # stroke width / height: that of a disc is 0.5
_THINNEST = 1 / 60
_FULLEST = 0.8  # ink / box, of what is not an upright stroke
_NARROW = 0.45  # width / height of an upright stroke
_MOST = 600  # components that are looked at, the largest first: what has more is not a sheet of digits
_SMALLEST_SIDE = 4
# Digits of one hand differ by less than this factor in height, in their strokes' width and in contrast.
_SAME_HAND = 1.8
# Labels must fit sixteen bits, in which they are sorted and spread to a stroke's flanks.
_MOST_LABELS = 2**16 - 1
_CROSS = np.asarray(cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), np.uint8)


@dataclass(frozen=True, eq=False)
class Component:
    """Strokes that hang together.

    `box` is `(x, y, width, height)` of its strokes in pixels of the picture, `places` `(n,)` are the flat indices of its pixels
    there and `levels` `(n,)` uint8 their ink: 128 and more in its strokes, less in their flanks. `area` is the strokes' ink in
    pixels, `stroke` their mean width in pixels, `contrast` how far they stand out of the paper, 0 to 1.
    """

    box: tuple[int, int, int, int]
    places: NDArray[np.int64]
    levels: NDArray[np.uint8]
    area: int
    stroke: float
    contrast: float

    @property
    def height(self) -> int:
        """The box's height in pixels."""
        return self.box[3]

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.box[2] / self.box[3]


def find_components(
    mask: NDArray[np.uint8],
    level: NDArray[np.uint8],
    stains: NDArray[np.int32],
    contrasts: NDArray[np.uint8],
    seen: NDArray[np.uint8] | None = None,
) -> list[Component]:
    """Return the connected components of a mask `(h, w)` uint8 (0 or 255) that the picture's border does not cut off.

    Neither must that of what is `seen` `(h, w)` uint8.

    `level` `(h, w)` uint8 is the ink's, 128 and more in the mask; `stains` `(h, w)` numbers its stains, each of which stands
    out by one of `contrasts` `(n,)` uint8. Components under 4 pixels are left out, and so are all but the 600 largest.
    """
    count, labels = cv2.connectedComponents(mask, connectivity=8)
    if not 1 < count <= _MOST_LABELS:
        return []
    near = np.asarray(cv2.dilate(labels.astype(np.uint16), np.ones((3, 3), np.uint8)), np.uint16)
    # What the border cuts off, and on a desk that is most of the ink, is left out of all that follows.
    whole = np.ones(count, np.bool_)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        whole[edge] = False
    if seen is not None:
        whole[labels[cv2.erode(seen, np.ones((3, 3), np.uint8)) < seen]] = False
    whole[0] = False
    places = np.flatnonzero(level.view(np.bool_))
    places = places[whole[near.ravel()[places]]]
    return _components(mask, level, stains, contrasts, near, places)


def _components(
    mask: NDArray[np.uint8],
    level: NDArray[np.uint8],
    stains: NDArray[np.int32],
    contrasts: NDArray[np.uint8],
    near: NDArray[np.uint16],
    places: NDArray[np.int64],
) -> list[Component]:
    label = near.ravel()[places]
    order = np.argsort(label, kind="stable")
    label, places = label[order], places[order]
    levels = level.ravel()[places]
    own = np.flatnonzero(levels >= EDGE)
    strokes = places[own]
    first = np.flatnonzero(np.diff(label[own], prepend=0))
    y, x = np.divmod(strokes, mask.shape[1])
    left, top = (np.minimum.reduceat(values, first) for values in (x, y))
    right, bottom = (np.maximum.reduceat(values, first) + 1 for values in (x, y))
    inner = cv2.erode(mask, _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0).ravel()[strokes]
    area = np.diff(first, append=len(own))
    inside = np.add.reduceat(inner > 0, first, dtype=np.int64)
    shades = np.add.reduceat(contrasts[stains.ravel()[strokes]], first, dtype=np.int64)
    chosen = np.flatnonzero(np.maximum(right - left, bottom - top) >= _SMALLEST_SIDE)
    chosen = np.sort(chosen[np.argsort(-area[chosen], kind="stable")][:_MOST])
    ends = np.searchsorted(label, label[own][first], side="right")
    starts = np.append(0, ends[:-1])
    stroke = 2.0 * area / np.maximum(area - inside, 1)
    return [
        Component((x, y, w, h), places[start:end], levels[start:end], size, width, shade / (255.0 * size))
        for x, y, w, h, start, end, size, width, shade in zip(
            *(v[chosen].tolist() for v in (left, top, right - left, bottom - top, starts, ends, area, stroke, shades)),
            strict=True,
        )
    ]


def is_digit_shaped(component: Component) -> bool:
    """Tell whether height, stroke width, aspect and fullness allow a digit (or several side by side)."""
    _, _, width, height = component.box
    if height < SMALLEST_HEIGHT or not _THINNEST <= component.stroke / height <= _THICKEST:
        return False
    return component.area <= _FULLEST * width * height or component.aspect <= _NARROW


def medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the medians along the last axis, as `np.median`, which takes ten times as long for a handful of numbers."""
    ordered, count = np.sort(values, axis=-1), values.shape[-1]
    return np.asarray((ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2, np.float64)


@dataclass(frozen=True)
class Hand:
    """How high, with how wide a pen and how strongly somebody writes: the medians of known digits."""

    height: float
    stroke: float
    contrast: float

    @classmethod
    def of(cls, components: Sequence[Component]) -> Hand:
        """Learn a hand from one or more digits."""
        measures = np.array([[part.height, part.stroke, part.contrast] for part in components], np.float64)
        return cls(*medians(measures.T).tolist())

    def wrote(self, component: Component, most: float = _SAME_HAND) -> bool:
        """Tell whether a component may be of this hand: its measures differ by less than a factor."""
        pairs = ((component.height, self.height), (component.stroke, self.stroke), (component.contrast, self.contrast))
        return all(own < most * usual and usual < most * own for own, usual in pairs)


def pairs(components: Sequence[Component], others: Sequence[Component]) -> NDArray[np.bool_]:
    """Tell which of the components `(n,)` may be strokes of one digit with which of the others `(m,)`, as `(n, m)`.

    They are near each other, of one pen, in one digit's box, and the other is the smaller one.
    """
    first, second = _measures(components)[:, :, None], _measures(others)[:, None, :]
    thin, thick = np.minimum(first[4], second[4]), np.maximum(first[4], second[4])
    left, top = np.minimum(first[0], second[0]), np.minimum(first[1], second[1])
    width, height = np.maximum(first[2], second[2]) - left, np.maximum(first[3], second[3]) - top
    gap_x = np.maximum(first[0], second[0]) - np.minimum(first[2], second[2])
    gap_y = np.maximum(first[1], second[1]) - np.minimum(first[3], second[3])
    tall = np.maximum(first[6], second[6])
    near = np.maximum(2 * thick, 0.2 * tall)
    near_enough = (gap_x <= near) & (gap_y <= near) & (height <= 2 * tall) & (width <= 1.2 * height)
    return np.asarray(near_enough & (thick <= 2.5 * thin) & (second[5] <= first[5]), np.bool_)


def _measures(components: Sequence[Component]) -> NDArray[np.float64]:
    """Return left, top, right, bottom, stroke, area and longer side of components `(7, n)`."""
    rows = [(x, y, x + w, y + h, part.stroke, part.area, max(w, h)) for part in components for x, y, w, h in [part.box]]
    return np.array(rows, np.float64).reshape(-1, 7).T


def joined(components: Sequence[Component]) -> Component:
    """Return several components as one."""
    area = sum(part.area for part in components)
    stroke, contrast = (
        sum(value * part.area for value, part in zip(values, components, strict=True)) / max(area, 1)
        for values in ([part.stroke for part in components], [part.contrast for part in components])
    )
    places, levels = (np.concatenate([getattr(part, name) for part in components]) for name in ("places", "levels"))
    return Component(joined_box(components), places, levels, area, stroke, contrast)


def joined_box(components: Sequence[Component]) -> tuple[int, int, int, int]:
    """Return the box `(x, y, width, height)` round several components."""
    left = min(part.box[0] for part in components)
    top = min(part.box[1] for part in components)
    right = max(part.box[0] + part.box[2] for part in components)
    bottom = max(part.box[1] + part.box[3] for part in components)
    return left, top, right - left, bottom - top


def strip_of(components: Sequence[Component], width: int) -> InkStrip:
    """Put the ink of components of a picture `width` pixels wide below each other, each without its neighbours'."""
    boxes = np.array([part.box for part in components], np.int64).reshape(-1, 4)
    # One pixel more all round: a stroke's flanks.
    tops = np.concatenate([[0], np.cumsum(boxes[:, 3] + 2 * (GAP + 1))])
    side = int(boxes[:, 2].max(initial=0)) + 2 * (GAP + 1)
    pixels = np.zeros((int(tops[-1]), side), np.uint8)
    if len(components):
        counts = [len(part.places) for part in components]
        shift = (tops[:-1] - boxes[:, 1] + GAP + 1) * side + GAP + 1 - boxes[:, 0]
        y, x = np.divmod(np.concatenate([part.places for part in components]), width)
        pixels.ravel()[y * side + x + np.repeat(shift, counts)] = np.concatenate([part.levels for part in components])
    return InkStrip(pixels, tops)


def slants(components: Sequence[Component], width: int) -> NDArray[np.float64]:
    """Return how the strokes of components of a picture `width` pixels wide lean: columns per row, by their second moments."""
    own = [part.places[part.levels >= EDGE] for part in components]
    first = np.cumsum([0, *map(len, own[:-1])])
    y, x = np.divmod(np.concatenate(own), width)
    area = np.diff(first, append=len(y))
    sx, sy, sxy, syy = (np.add.reduceat(values, first) for values in (x, y, x * y, y * y))
    return np.asarray((area * sxy - sx * sy) / np.maximum(area * syy - sy * sy, 1), np.float64)
