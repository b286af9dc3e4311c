"""From a photograph to the places where a digit may stand, each with its MNIST form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ShapeError
from edgecnn.handwriting.components import (
    WIDEST,
    Component,
    find_components,
    is_digit_shaped,
    strip_of,
)
from edgecnn.handwriting.ink import Paper, find_ink, find_paper
from edgecnn.handwriting.ruled_lines import without_lines
from edgecnn.handwriting.steps import ALL_STEPS, Steps
from edgecnn.mnist_form import ink_forms
from edgecnn.preprocessing import resize

# Larger photographs are worked at this longer side: a digit a hundredth of it high is still 16 pixels.
WORKING_SIDE = 1600
# Lower writing than this many pixels is worked at up to three times its size: its strokes are about a pixel wide, and a mask of
# such pixels breaks them.
LOW_WRITING = 24
MOST_ENLARGED = 3.0


Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Setting:
    """How a picture is worked: pixels of the frame per working pixel, chalk (`light`) or ink, and by how much it is turned.

    `windows` are the parts of the frame that are looked at, `(x, y, width, height)` in its pixels; without any it is all of it.
    """

    scale: float
    light: bool
    turn_deg: float = 0.0
    windows: tuple[Box, ...] = ()

    @property
    def window(self) -> Box | None:
        """The box round all windows."""
        if not self.windows:
            return None
        x, y, width, height = np.array(self.windows).T
        left, top = int(x.min()), int(y.min())
        return left, top, int((x + width).max()) - left, int((y + height).max()) - top

    @property
    def corner(self) -> tuple[int, int]:
        """The place `(x, y)` in the frame of what is looked at."""
        window = self.window
        return (0, 0) if window is None else window[:2]


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
    """A photograph taken apart into components of a picture `width` pixels wide.

    `candidates` may be digits as they stand, `fragments` only parts of one; `ink` is all ink in pixels, with that which
    the border cuts off. Each component is turned as the setting says, counter-clockwise, before its form is made.
    """

    candidates: list[Component]
    fragments: list[Component]
    ink: int
    paper: Paper
    width: int
    frame_hw: tuple[int, int]
    setting: Setting
    steps: Steps

    @property
    def is_blank(self) -> bool:
        """Whether nothing on it may be so much as a part of a digit."""
        return not self.candidates and not self.fragments

    def turned(self, degrees: float) -> Sheet:
        """Return the sheet with its components turned by so many degrees."""
        return replace(self, setting=replace(self.setting, turn_deg=degrees))

    def regions(self, components: Sequence[Component]) -> list[DigitRegion]:
        """Return components as regions of the frame."""
        forms = ink_forms(strip_of(components, self.width), self.steps.form, self.setting.turn_deg)
        return [
            DigitRegion(self._frame_box(part), form, part.stroke * self.setting.scale, part.contrast)
            for part, form in zip(components, forms, strict=True)
        ]

    def _frame_box(self, component: Component) -> tuple[int, int, int, int]:
        x, y, width, height = component.box
        scale, (across, down) = self.setting.scale, self.setting.corner
        left, top = across + int(x * scale), down + int(y * scale)
        right = min(across + round((x + width) * scale), self.frame_hw[1])
        bottom = min(down + round((y + height) * scale), self.frame_hw[0])
        return left, top, max(right - left, 1), max(bottom - top, 1)


def find_digits(image_bgr: NDArray[np.uint8], steps: Steps = ALL_STEPS) -> list[DigitRegion]:
    """Return where digits may stand in a picture `(h, w, 3)` uint8 BGR, from top to bottom.

    By shape alone: what only a classifier can tell (a letter from a digit, two digits that touch, a stroke that belongs to
    its neighbour) is left to `edgecnn.handwriting.reader.read_digits`. Raises ShapeError for another array.
    """
    gray = gray_of(image_bgr)
    base = max(1.0, max(gray.shape) / WORKING_SIDE)
    paper = find_paper(gray, flatten=steps.illumination)
    sheet = take_apart(gray, paper, Setting(base, paper.light_over_dark >= 1), steps)
    if steps.scale and writing_height(sheet) < LOW_WRITING * base:
        sheet = take_apart(gray, paper, replace(sheet.setting, scale=base / MOST_ENLARGED), steps)
    regions = sheet.regions([candidate for candidate in sheet.candidates if candidate.aspect <= WIDEST])
    return sorted(regions, key=lambda region: (region.box[1], region.box[0]))


def gray_of(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture `(h, w, 3)` uint8 BGR in gray `(h, w)`; ShapeError for another array."""
    if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8 or image_bgr.size == 0:
        raise ShapeError(f"expected a picture (h, w, 3) uint8 BGR, got {image_bgr.shape} {image_bgr.dtype}")
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), np.uint8)


def take_apart(image_gray: NDArray[np.uint8], paper: Paper, setting: Setting, steps: Steps = ALL_STEPS) -> Sheet:
    """Take a gray picture `(h, w)` uint8 apart into the components that may be digits or parts of digits."""
    frame_hw = image_gray.shape[0], image_gray.shape[1]
    here, window = paper, setting.window
    if window is not None:
        x, y, width, height = window
        image_gray = np.ascontiguousarray(image_gray[y : y + height, x : x + width])
        here = paper.within(window, frame_hw)
    image_gray = _scaled(image_gray, setting.scale)
    seen = _seen(setting, image_gray.shape) if len(setting.windows) > 1 else None
    ink = find_ink(image_gray, here, light=setting.light, enlarged=1 / setting.scale, seen=seen)
    mask, level = (without_lines(ink, max(frame_hw) / setting.scale) if steps.lines else ink.mask), ink.level
    if mask is not ink.mask:
        level = np.where(mask < ink.mask, 0, level).astype(np.uint8)
    found = find_components(mask, level, ink.stains, ink.contrasts, seen)
    candidates = [part for part in found if is_digit_shaped(part)]
    fragments = [part for part in found if not is_digit_shaped(part)]
    return Sheet(candidates, fragments, cv2.countNonZero(mask), paper, image_gray.shape[1], frame_hw, setting, steps)


def _seen(setting: Setting, size_hw: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return where a picture of the box round the windows `(h, w)` is looked at: 255 there."""
    seen = np.zeros(size_hw, np.uint8)
    for x, y, width, height in setting.windows:
        left, top, right, bottom = (
            round((at - corner) / setting.scale)
            for at, corner in zip((x, y, x + width, y + height), 2 * setting.corner, strict=True)
        )
        seen[top:bottom, left:right] = 255
    return seen


def _scaled(image_gray: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Return a picture `(h, w)` at `scale` of its pixels per pixel; halving, the usual case, averages squares."""
    height, width = image_gray.shape
    size_hw = max(1, round(height / scale)), max(1, round(width / scale))
    while min(image_gray.shape) > 1 and scale >= 2:
        half_wh = max(1, image_gray.shape[1] // 2), max(1, image_gray.shape[0] // 2)
        image_gray = np.asarray(cv2.resize(image_gray, half_wh, interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
        scale /= 2
    return image_gray if scale == 1 else resize(image_gray, size_hw)


def writing_height(sheet: Sheet) -> float:
    """Return the height in pixels of the frame under which a quarter of the candidates' ink lies; infinite without any."""
    if not sheet.candidates:
        return np.inf
    height, area = np.array([(part.height, part.area) for part in sheet.candidates], np.int64).T
    order = np.argsort(height, kind="stable")
    quarter = int(np.searchsorted(np.cumsum(area[order]), area.sum() / 4))
    return float(height[order][quarter]) * sheet.setting.scale
