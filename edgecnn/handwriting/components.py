"""From an ink mask to strokes that hang together, and what of them has the shape of a digit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# All of these are ratios, but for the smallest height: under 9 pixels a 3 x 3 pixel convolution sees no digit.
SMALLEST_HEIGHT = 9
WIDEST = 1.5  # width / height; a wide 2 or 4 has 1.1
_THICKEST = 0.42  # stroke width / height: that of a disc is 0.5
_THINNEST = 1 / 60
_FULLEST = 0.8  # ink / box, of what is not an upright stroke
_NARROW = 0.45  # width / height of an upright stroke
_MOST = 600  # components that are looked at, the largest first: what has more is not a sheet of digits


@dataclass(frozen=True, eq=False)
class Component:
    """Strokes that hang together.

    `box` is `(x, y, width, height)` in pixels of the mask, `mask` `(height, width)` uint8 (0 or 255) its own ink only, `area`
    its ink in pixels, `stroke` the mean width of its strokes in pixels.
    """

    box: tuple[int, int, int, int]
    mask: NDArray[np.uint8]
    area: int
    stroke: float

    @property
    def height(self) -> int:
        """The box's height in pixels."""
        return self.box[3]

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.box[2] / self.box[3]


def find_components(mask: NDArray[np.uint8]) -> list[Component]:
    """Return the connected components of a mask `(h, w)` uint8 (0 or 255), 4 pixels or more along their longer side."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    eroded = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), borderValue=0)
    edge = np.bincount(labels[(mask > 0) & (eroded == 0)], minlength=count)
    extent = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    wanted = np.flatnonzero(extent >= 4)[1:] if extent[0] >= 4 else np.flatnonzero(extent >= 4)
    wanted = wanted[np.argsort(-stats[wanted, cv2.CC_STAT_AREA], kind="stable")][:_MOST]
    found = []
    for index in sorted(int(i) for i in wanted):
        left, top, width, height, area = (int(value) for value in stats[index])
        own = np.where(labels[top : top + height, left : left + width] == index, 255, 0).astype(np.uint8)
        found.append(Component((left, top, width, height), own, area, 2.0 * area / max(int(edge[index]), 1)))
    return found


def is_cut_off(component: Component, shape: tuple[int, ...]) -> bool:
    """Tell whether a component touches the border of a picture of `shape` (h, w): its rest is out of sight."""
    left, top, width, height = component.box
    return left <= 0 or top <= 0 or left + width >= shape[1] or top + height >= shape[0]


def is_digit_shaped(component: Component) -> bool:
    """Tell whether height, stroke width, aspect and fullness allow a digit (or several side by side)."""
    _, _, width, height = component.box
    if height < SMALLEST_HEIGHT or not _THINNEST <= component.stroke / height <= _THICKEST:
        return False
    return component.area <= _FULLEST * width * height or component.aspect <= _NARROW


def may_belong_together(first: Component, second: Component) -> bool:
    """Tell whether two components may be strokes of one digit: near each other, of one pen, in one digit's box."""
    thin, thick = sorted((first.stroke, second.stroke))
    if thick > 2.5 * thin:
        return False
    gap_x, gap_y = (_gap(first, second, axis) for axis in (0, 1))
    tall = max(max(part.box[2:]) for part in (first, second))
    near = max(2 * thick, 0.2 * tall)
    _, _, width, height = joined_box([first, second])
    return gap_x <= near and gap_y <= near and height <= 2 * tall and width <= 1.2 * height


def joined(components: list[Component]) -> Component:
    """Return several components as one."""
    left, top, width, height = joined_box(components)
    mask = np.zeros((height, width), np.uint8)
    for part in components:
        x, y, w, h = part.box
        window = mask[y - top : y - top + h, x - left : x - left + w]
        np.maximum(window, part.mask, out=window)
    area = sum(part.area for part in components)
    stroke = sum(part.stroke * part.area for part in components) / max(area, 1)
    return Component((left, top, width, height), mask, area, stroke)


def joined_box(components: list[Component]) -> tuple[int, int, int, int]:
    """Return the box `(x, y, width, height)` round several components."""
    left = min(part.box[0] for part in components)
    top = min(part.box[1] for part in components)
    right = max(part.box[0] + part.box[2] for part in components)
    bottom = max(part.box[1] + part.box[3] for part in components)
    return left, top, right - left, bottom - top


def _gap(first: Component, second: Component, axis: int) -> float:
    start = max(first.box[axis], second.box[axis])
    end = min(first.box[axis] + first.box[axis + 2], second.box[axis] + second.box[axis + 2])
    return float(start - end)
