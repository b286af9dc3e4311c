"""From a photograph to the places where a digit may stand, each with its MNIST form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ShapeError
from edgecnn.handwriting.components import (
    WIDEST,
    Component,
    find_components,
    is_cut_off,
    is_digit_shaped,
    joined,
    may_belong_together,
)
from edgecnn.handwriting.ink import Ink, cut_ink, ink_contrast
from edgecnn.handwriting.ruled_lines import without_lines
from edgecnn.handwriting.steps import ALL_STEPS, Steps
from edgecnn.mnist_form import EDGE, ink_form
from edgecnn.preprocessing import resize

# Larger photographs are worked at this longer side: a digit a hundredth of it high is still 16 pixels.
WORKING_SIDE = 1600
# Photographs with lower writing than this many pixels are worked at up to twice their size: its strokes are about a pixel wide,
# and a mask of such pixels breaks them.
_LOW_WRITING = 24
_LEAST_ENLARGED, _MOST_ENLARGED = 1.25, 2.0


@dataclass(frozen=True, eq=False)
class DigitRegion:
    """A place where a digit may stand.

    `box` is `(x, y, width, height)` in pixels of the frame, `form` `(28, 28)` uint8 what the model will see. `stroke` is the
    pen's width in pixels of the frame, `contrast` how far the ink stands out of the paper, 0 to 1.
    """

    box: tuple[int, int, int, int]
    form: NDArray[np.uint8]
    stroke: float
    contrast: float


@dataclass(frozen=True, eq=False)
class Sheet:
    """A photograph taken apart: its components, the ink they were cut from and its level `(h, w)` uint8 without lines.

    `candidates` may be digits as they stand, `fragments` only parts of one. `scale` is frame pixels per working pixel. Each
    component is turned by `turn_deg` degrees, counter-clockwise, before its form is made.
    """

    candidates: list[Component]
    fragments: list[Component]
    ink: Ink
    level: NDArray[np.uint8]
    scale: float
    frame_hw: tuple[int, int]
    steps: Steps
    turn_deg: float = 0.0

    def region(self, component: Component) -> DigitRegion:
        """Return a component as a region of the frame."""
        stroke, contrast = component.stroke * self.scale, self._contrast(component)
        return DigitRegion(self._frame_box(component), self._form(component), stroke, contrast)

    def _contrast(self, component: Component) -> float:
        x, y, width, height = component.box
        stains = self.ink.stains[y : y + height, x : x + width][component.mask > 0]
        return float(self.ink.contrasts[stains].mean()) / 255

    def _form(self, component: Component) -> NDArray[np.uint8]:
        x, y, width, height = component.box
        # One pixel more all round (no component touches the border): the strokes' flanks place their edges between pixels.
        level = self.level[y - 1 : y + height + 1, x - 1 : x + width + 1]
        own = cv2.copyMakeBorder(component.mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        flanks = (cv2.dilate(own, np.ones((3, 3), np.uint8)) > 0) & (level < EDGE)
        ink = np.where(own > 0, np.maximum(level, EDGE), np.where(flanks, level, 0))
        return ink_form(_turned(ink.astype(np.uint8), self.turn_deg), self.steps.form)

    def _frame_box(self, component: Component) -> tuple[int, int, int, int]:
        x, y, width, height = component.box
        left, top = int(x * self.scale), int(y * self.scale)
        right = min(round((x + width) * self.scale), self.frame_hw[1])
        bottom = min(round((y + height) * self.scale), self.frame_hw[0])
        return left, top, max(right - left, 1), max(bottom - top, 1)


def find_digits(image_bgr: NDArray[np.uint8], steps: Steps = ALL_STEPS) -> list[DigitRegion]:
    """Return where digits may stand in a picture `(h, w, 3)` uint8 BGR, from top to bottom.

    By shape alone: what only a classifier can tell (a letter from a digit, two digits that touch, a stroke that belongs to
    its neighbour) is left to `edgecnn.handwriting.reader.read_digits`. Raises ShapeError for another array.
    """
    sheet = take_apart(image_bgr, steps)
    regions = [sheet.region(candidate) for candidate in sheet.candidates if candidate.aspect <= WIDEST]
    return sorted(regions, key=lambda region: (region.box[1], region.box[0]))


def take_apart(image_bgr: NDArray[np.uint8], steps: Steps = ALL_STEPS) -> Sheet:
    """Take a picture `(h, w, 3)` uint8 BGR apart into the components that may be digits or parts of digits."""
    if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8 or image_bgr.size == 0:
        raise ShapeError(f"expected a picture (h, w, 3) uint8 BGR, got {image_bgr.shape} {image_bgr.dtype}")
    side = max(image_bgr.shape[:2])
    sheet = _taken_apart(image_bgr, max(1.0, side / WORKING_SIDE), steps)
    larger = min(_MOST_ENLARGED, WORKING_SIDE / side)
    if steps.enlarging and larger >= _LEAST_ENLARGED and _writing_height(sheet) < _LOW_WRITING:
        return _taken_apart(image_bgr, 1 / larger, steps)
    return sheet


def _taken_apart(image_bgr: NDArray[np.uint8], scale: float, steps: Steps) -> Sheet:
    height, width = image_bgr.shape[:2]
    if scale != 1:
        image_bgr = resize(image_bgr, (max(1, round(height / scale)), max(1, round(width / scale))))
    ink = cut_ink(ink_contrast(image_bgr, flatten=steps.illumination))
    mask = without_lines(ink) if steps.lines else ink.mask
    level = np.where(mask < ink.mask, 0, ink.level).astype(np.uint8)
    whole = [part for part in find_components(mask) if not is_cut_off(part, mask.shape)]
    candidates = [part for part in whole if is_digit_shaped(part)]
    fragments = [part for part in whole if not is_digit_shaped(part)]
    return Sheet(candidates, fragments, ink, level, scale, (height, width), steps)


def _turned(ink: NDArray[np.uint8], degrees: float) -> NDArray[np.uint8]:
    if degrees == 0:
        return ink
    height, width = ink.shape
    side = math.ceil(math.hypot(height, width)) + 2
    matrix = np.asarray(cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0), np.float64)
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    return np.asarray(cv2.warpAffine(ink, matrix, (side, side), flags=cv2.INTER_LINEAR), np.uint8)


def _writing_height(sheet: Sheet) -> float:
    """Return the height in pixels of the frame under which half of the candidates' ink lies; infinite without any."""
    if not sheet.candidates:
        return np.inf
    height, area = np.array([(part.height, part.area) for part in sheet.candidates], np.float64).T
    order = np.argsort(height, kind="stable")
    middle = int(np.searchsorted(np.cumsum(area[order]), area.sum() / 2))
    return float(height[order][middle]) * sheet.scale


def joinable(sheet: Sheet) -> list[tuple[list[Component], Component]]:
    """Return what may be one digit in several pieces: the pieces, and all of them as one component."""
    pieces = sheet.candidates + sheet.fragments
    boxes = np.array([piece.box for piece in pieces], np.float64).reshape(-1, 4)
    unions = []
    for index, main in enumerate(sheet.candidates):
        x, y, width, height = main.box
        reach = 0.2 * height + 2 * main.stroke + 2
        near = (boxes[:, 0] <= x + width + reach) & (boxes[:, 0] + boxes[:, 2] >= x - reach)
        near &= (boxes[:, 1] <= y + height + reach) & (boxes[:, 1] + boxes[:, 3] >= y - reach)
        others = [pieces[i] for i in np.flatnonzero(near) if i != index]
        others = [part for part in others if part.area <= main.area and may_belong_together(main, part)]
        groups = [[main, part] for part in others[:6]]
        if 1 < len(others) <= 4:
            groups.append([main, *others])
        unions += [(group, joined(group)) for group in groups]
    return [(group, union) for group, union in unions if is_digit_shaped(union)]
