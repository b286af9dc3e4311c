"""Simulated photographs of handwriting with the truth about every digit: what the reader is developed and measured on.

Real photographs are few and are kept for judging. Here one writer fills a sheet with one pen - digits apart, numbers whose
digits may touch, the cells of a sudoku, or a note on an untidy desk - and a camera takes it in uneven light, out of focus and
with noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.camera_digits import redraw
from edgecnn.datasets.synthetic.clutter import draw_desk, draw_marks, draw_print
from edgecnn.datasets.synthetic.school_digits import draw_handwritten
from edgecnn.errors import InputError
from edgecnn.handwriting.evaluation import PRINTED, TrueBox

Rng = np.random.Generator
Layout = Literal["digits", "numbers", "sudoku", "desk"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
# A box of its own kind for each way of writing, as `edgecnn.handwriting.evaluation` counts them.
_KINDS = {"digits": "digit", "numbers": "digit", "sudoku": "handwritten_cell", "desk": "digit"}
_SMALLEST, _LARGEST = 10.0, 120.0
_MOST = 80  # digits on a sheet whose number is not given
_PEN = (1.4, 4.0)  # widths at MNIST's scale, where a digit is 20 pixels high


@dataclass(frozen=True, eq=False)
class SimulatedSheet:
    """A simulated photograph `(h, w, 3)` uint8 BGR and the box of every digit on it."""

    image_bgr: NDArray[np.uint8]
    boxes: tuple[TrueBox, ...]


Digits = Callable[[int, Rng], NDArray[np.uint8]]
"""Draws a digit of a class, light on black `(s, s)` uint8: a picture of MNIST, or a drawing."""


def pick_digits(images: NDArray[np.uint8], class_ids: NDArray[np.int64], *, drawn: float = 0.3) -> Digits:
    """Return digits of a data set, `images` `(n, 28, 28)` uint8; a share of `drawn` are drawings of other schools instead."""
    by_class = [images[class_ids == class_id] for class_id in range(10)]
    if not all(map(len, by_class)):
        raise InputError("expected pictures of all ten digits")

    def pick(class_id: int, rng: Rng) -> NDArray[np.uint8]:
        if rng.random() < drawn:
            return draw_handwritten(class_id, rng)
        return np.asarray(by_class[class_id][int(rng.integers(len(by_class[class_id])))], np.uint8)

    return pick


def simulate_sheet(
    layout: Layout,
    rng: Rng,
    *,
    digits: Digits = draw_handwritten,
    size_hw: tuple[int, int] = (480, 640),
    count: int | None = None,
    height: float | None = None,
    turn_deg: float | None = None,
) -> SimulatedSheet:
    """Photograph a sheet on which up to `count` digits of about `height` pixels stand; what is None is drawn from `rng`.

    `turn_deg` turns the sheet counter-clockwise; by default it lies nearly straight. Raises InputError for an unknown layout.
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    page = _Page(size_hw, _some_turn(rng) if turn_deg is None else turn_deg)
    hand = _Hand(digits, float(rng.uniform(*_PEN)), rng)
    fill = {"digits": _fill_digits, "numbers": _fill_numbers, "sudoku": _fill_sudoku, "desk": _fill_note}[layout]
    fill(page, hand, count, height)
    image = _photograph(page, rng, light_on_dark=layout in ("digits", "numbers") and rng.random() < 0.1)
    return SimulatedSheet(image, tuple(page.boxes))


class _Hand:
    """One writer with one pen."""

    def __init__(self, digits: Digits, pen: float, rng: Rng) -> None:
        self.rng = rng
        self._digits = digits
        self._pen = pen

    def digit(self, class_id: int) -> NDArray[np.uint8]:
        """Return a digit's strokes, cropped: `(h, w)` uint8, ink 255."""
        strokes = redraw(self._digits(class_id, self.rng), self.rng, pen=self._pen * float(self.rng.uniform(0.9, 1.1)))
        left, top, width, height = cv2.boundingRect(strokes)
        return strokes[top : top + height, left : left + width]


class _Page:
    """What is on a sheet, in pixels of the frame: ink, print, rules and sheet are shares of cover, 0 to 255."""

    def __init__(self, size_hw: tuple[int, int], turn_deg: float) -> None:
        self.height, self.width = size_hw
        self.ink, self.print, self.rules = (np.zeros(size_hw, np.uint8) for _ in range(3))
        self.sheet: NDArray[np.uint8] | None = None  # where paper lies on a desk; None where it fills the frame
        self.boxes: list[TrueBox] = []
        self.place: tuple[float, float, float, float] = (0.0, 0.0, float(self.width), float(self.height))
        self._turn = cv2.getRotationMatrix2D(((self.width - 1) / 2, (self.height - 1) / 2), turn_deg, 1.0)

    def write(self, strokes: NDArray[np.uint8], left: float, top: float, height: float, label: str, kind: str) -> bool:
        """Write strokes `(h, w)` so high at a place of the sheet; False, and nothing is written, where they leave the frame."""
        scale = height / strokes.shape[0]
        sigma = 0.5 * math.sqrt(max(1 / scale**2 - 1, 0.04))
        margin = math.ceil(3 * sigma) + 1
        padded = cv2.copyMakeBorder(strokes, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
        matrix = self._turn @ np.array([[scale, 0, left - scale * margin], [0, scale, top - scale * margin], [0, 0, 1]])
        corners = np.array([[0, 0, 1], [padded.shape[1], 0, 1], [0, padded.shape[0], 1], [padded.shape[1], padded.shape[0], 1]])
        mapped = corners @ matrix.T
        x, y = (int(v) for v in np.floor(mapped.min(axis=0)))
        w, h = (int(v) for v in np.ceil(mapped.max(axis=0)) - (x, y) + 1)
        matrix[:, 2] -= x, y
        drawn = np.asarray(cv2.warpAffine(cv2.GaussianBlur(padded, (0, 0), sigma), matrix, (w, h)), np.uint8)
        own = cv2.boundingRect(np.where(drawn > 100, 255, 0).astype(np.uint8))
        inside = x + own[0] > 2 and y + own[1] > 2 and x + own[0] + own[2] < self.width - 2
        if own[2] == 0 or not (inside and y + own[1] + own[3] < self.height - 2):
            return False
        top_row, left_column = max(y, 0), max(x, 0)
        window = self.ink[top_row : y + h, left_column : x + w]
        part = drawn[top_row - y :, left_column - x :]
        np.maximum(window, part[: window.shape[0], : window.shape[1]], out=window)
        self.boxes.append(TrueBox(x + own[0], y + own[1], own[2], own[3], label, kind))
        return True

    def rule(self, start: tuple[float, float], end: tuple[float, float], thickness: int, cover: int) -> None:
        """Draw a straight rule between two places of the sheet."""
        first, last = (np.round(16 * (self._turn @ np.array([*point, 1.0]))).astype(int).tolist() for point in (start, end))
        cv2.line(self.rules, first, last, cover, thickness, cv2.LINE_AA, shift=4)


def _fill_digits(page: _Page, hand: _Hand, count: int | None, height: float | None) -> None:
    """Digits apart from each other, all over the sheet."""
    rng = hand.rng
    height = _some_height(rng, page) if height is None else height
    _ruled(page, height, rng)
    left, top, right, bottom = page.place
    step_x, step_y = height * rng.uniform(1.15, 1.7), height * rng.uniform(1.35, 1.9)
    places = [
        (x, y)
        for y in np.arange(top + 0.3 * height, bottom - 1.3 * height, step_y).tolist()
        for x in np.arange(left + 0.2 * height, right - height, step_x).tolist()
    ]
    wanted = len(places) if count is None else count
    chosen = rng.permutation(len(places))
    chosen = chosen[: min(round(len(places) * rng.uniform(0.3, 1.0)), _MOST)] if count is None else chosen
    written = 0
    for index in chosen:
        if written == wanted:
            break
        class_id = int(rng.integers(10))
        x, y = places[int(index)]
        own = height * math.exp(rng.normal(0, 0.1))
        x, y = x + rng.uniform(0, 0.2) * height, y + rng.uniform(-0.1, 0.1) * height
        written += page.write(hand.digit(class_id), x, y, own, str(class_id), "digit")
    if count is None and rng.random() < 0.6:
        draw_marks(page.ink, [(b.x, b.y, b.w, b.h) for b in page.boxes], height, rng)


def _fill_numbers(page: _Page, hand: _Hand, count: int | None, height: float | None) -> None:
    """Numbers in rows, whose digits may touch."""
    rng = hand.rng
    height = _some_height(rng, page) if height is None else height
    _ruled(page, height, rng)
    left, top, right, bottom = page.place
    spacing = rng.uniform(1.5, 2.2) * height
    gap = float(rng.choice([-0.04, 0.02, 0.08, 0.2, 0.4]))
    wanted = _MOST if count is None else count
    written = 0
    for y in np.arange(top + 0.4 * height, bottom - 1.4 * height, spacing).tolist():
        x = left + height * rng.uniform(0.2, 1.5) + rng.uniform(0, 0.4) * (right - left)
        slope = rng.normal(0, 0.02)
        start = x
        for _ in range(int(rng.integers(3, 14))):
            if rng.random() < 0.06:
                x += height * rng.uniform(0.5, 1.5)
            class_id = int(rng.integers(10))
            strokes = hand.digit(class_id)
            own = height * math.exp(rng.normal(0, 0.08))
            if written == wanted or x + own > right:
                break
            at = y + (x - start) * slope + rng.normal(0, 0.05) * height + (height - own) / 2
            written += page.write(strokes, x, at, own, str(class_id), "digit")
            x += own * strokes.shape[1] / strokes.shape[0] + gap * height + abs(rng.normal(0, 0.06)) * height
    if count is None and rng.random() < 0.4:
        draw_marks(page.ink, [(b.x, b.y, b.w, b.h) for b in page.boxes], height, rng)


def _fill_sudoku(page: _Page, hand: _Hand, count: int | None, height: float | None) -> None:
    """A sudoku: printed digits, and the other cells filled in by hand."""
    rng = hand.rng
    cell = min(page.height, page.width) * rng.uniform(0.086, 0.105) if height is None else 1.7 * height
    left, top = (page.width - 9 * cell) / 2, (page.height - 9 * cell) / 2
    thin, thick, cover = max(1, round(cell / 40)), max(1, round(cell / 18)), int(rng.integers(120, 255))
    for number in range(10):
        thickness, at = (thick if number % 3 == 0 else thin), number * cell
        page.rule((left, top + at), (left + 9 * cell, top + at), thickness, cover)
        page.rule((left + at, top), (left + at, top + 9 * cell), thickness, cover)
    cells = rng.permutation(81)
    by_hand = round(81 * rng.uniform(0.5, 0.8)) if count is None else count
    printed = cells[by_hand:] if count is None else cells[by_hand : by_hand + 27]
    for index in cells[:by_hand]:
        x, y = left + (index % 9) * cell, top + (index // 9) * cell
        class_id = 1 + int(rng.integers(9))
        strokes = hand.digit(class_id)
        own = cell * rng.uniform(0.5, 0.78)
        width = own * strokes.shape[1] / strokes.shape[0]
        left_of, top_of = x + (cell - width) * rng.uniform(0.2, 0.8), y + (cell - own) * rng.uniform(0.25, 0.75)
        page.write(strokes, left_of, top_of, own, str(class_id), "handwritten_cell")
    for index in printed:
        x, y = left + (index % 9) * cell, top + (index // 9) * cell
        class_id = 1 + int(rng.integers(9))
        box = draw_print(page.print, str(class_id), (x + cell / 2, y + cell / 2), 0.55 * cell, rng)
        page.boxes.append(TrueBox(*box, str(class_id), PRINTED))


def _fill_note(page: _Page, hand: _Hand, count: int | None, height: float | None) -> None:
    """A note with a few digits, askew among other things on a desk."""
    rng = hand.rng
    if count == 0:
        page.sheet = np.zeros((page.height, page.width), np.uint8)
        return
    width, high = page.width * rng.uniform(0.35, 0.8), page.height * rng.uniform(0.3, 0.75)
    left, top = rng.uniform(0.05, 0.95) * (page.width - width), rng.uniform(0.05, 0.95) * (page.height - high)
    corners = np.array([[left, top, 1], [left + width, top, 1], [left + width, top + high, 1], [left, top + high, 1]])
    page.sheet = np.zeros((page.height, page.width), np.uint8)
    cv2.fillConvexPoly(page.sheet, np.round(corners @ page._turn.T).astype(np.int32), 255, cv2.LINE_AA)
    page.place = (left, top, left + width, top + high)
    tall = high * rng.uniform(0.12, 0.4) if height is None else height
    few = int(rng.integers(1, 9)) if count is None else count
    (_fill_numbers if rng.random() < 0.5 else _fill_digits)(page, hand, few, max(tall, 14.0))


def _some_height(rng: Rng, page: _Page) -> float:
    largest = min(_LARGEST, 0.3 * min(page.height, page.width))
    return math.exp(rng.uniform(math.log(_SMALLEST), math.log(max(largest, 1.2 * _SMALLEST))))


def _some_turn(rng: Rng) -> float:
    """Return an angle in degrees: most sheets lie nearly straight, some askew."""
    return float(rng.normal(0, 2.0) if rng.random() < 0.9 else rng.uniform(-40, 40))


def _ruled(page: _Page, height: float, rng: Rng) -> None:
    """Rule some sheets: with lines or squares."""
    kind = rng.random()
    if kind < 0.55:
        return
    spacing = height * (rng.uniform(1.4, 2.2) if kind < 0.8 else rng.uniform(0.5, 1.1))
    spacing, cover, thickness = max(spacing, 10.0), int(rng.integers(30, 160)), max(1, round(height / 45))
    for y in np.arange(rng.uniform(0, spacing), page.height, spacing).tolist():
        page.rule((-page.width, y), (2 * page.width, y), thickness, cover)
    if kind >= 0.8:
        for x in np.arange(rng.uniform(0, spacing), page.width, spacing).tolist():
            page.rule((x, -page.height), (x, 2 * page.height), thickness, cover)


_PENS = np.array([[130, 55, 30], [60, 50, 45], [30, 30, 160], [50, 90, 40], [110, 110, 110]], np.float32)


def _photograph(page: _Page, rng: Rng, *, light_on_dark: bool) -> NDArray[np.uint8]:
    """Photograph what is on a page: `(h, w, 3)` uint8 BGR."""
    size = (page.height, page.width)
    white = np.clip(rng.uniform(170, 250) + rng.normal(0, 8, 3), 120, 255).astype(np.float32)
    pen, rule = _PENS[int(rng.integers(len(_PENS)))], white * rng.uniform(0.6, 0.9, 3).astype(np.float32)
    if light_on_dark:
        white, pen = np.float32(255) - white, np.float32(255) - pen
    uneven = np.clip(1 + rng.uniform(0, 1.0) * _smooth_noise(size, rng, 40), 0.6, 1.15) * np.float32(rng.uniform(0.45, 1.0))
    scene = np.broadcast_to(white, (*size, 3)).astype(np.float32)
    scene *= (1 + np.float32(rng.uniform(0, 0.02)) * _smooth_noise(size, rng, 3))[..., None]
    for cover, colour in ((page.rules, rule), (page.print, np.full(3, 40, np.float32)), (page.ink, pen)):
        share = cover.astype(np.float32) / np.float32(255) * (uneven if colour is pen else np.float32(1))
        scene += share[..., None] * (colour - scene)
    if page.sheet is not None:
        away = (1 - page.sheet.astype(np.float32) / np.float32(255))[..., None]
        scene += away * (draw_desk(size, page.sheet, rng) - scene)
    return _taken(scene * _light(size, rng)[..., None], page, rng)


def _taken(scene: NDArray[np.float32], page: _Page, rng: Rng) -> NDArray[np.uint8]:
    """Let a camera take a scene `(h, w, 3)`: out of focus by no more than its writing bears, with noise and compression."""
    writing = float(np.median([box.h for box in page.boxes])) if page.boxes else 40.0
    soft = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.3, min(max(0.045 * writing, 0.5), 2.0)))
    noise = np.float32(rng.uniform(0.3, 5.0)) * rng.standard_normal(scene.shape, np.float32)
    if rng.random() < 0.5:
        noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), 0.7), np.float32)
    image = np.clip(soft + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 96))])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return image


def _light(size: tuple[int, int], rng: Rng) -> NDArray[np.float32]:
    """Return the light on a scene as a share `(h, w)`: falling off to one side, sometimes with a shadow's soft edge."""
    rows, columns = (np.linspace(-0.5, 0.5, side, dtype=np.float32) for side in size)
    slope_y, slope_x = rng.uniform(-0.5, 0.5, 2).astype(np.float32)
    light = 1 - np.abs(slope_x) / 2 - np.abs(slope_y) / 2 + slope_x * columns + slope_y * rows[:, None]
    if rng.random() < 0.35:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4)
        away = np.float32(math.cos(angle)) * columns + np.float32(math.sin(angle)) * rows[:, None] - np.float32(offset)
        edge = np.clip(away / np.float32(rng.uniform(0.01, 0.2)) + np.float32(0.5), 0, 1)
        light = light * (1 - np.float32(rng.uniform(0.15, 0.55)) * edge)
    return np.asarray(light, np.float32)


def _smooth_noise(size: tuple[int, int], rng: Rng, grain: int) -> NDArray[np.float32]:
    small = rng.standard_normal((size[0] // grain + 2, size[1] // grain + 2), np.float32)
    return np.asarray(cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)
