"""A camera without hardware: a strip of procedural steel that moves, or a sheet of drawn digits under a drifting camera."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn_device.frames import Frame, Image

USUAL_SIZE_WH = (640, 480)
NAMES = {"strip": "synthetic steel strip", "sheet": "synthetic sheet of digits"}
_DEFECT_SIDE = 200
_STRIP_FRAMES = 6
_ROWS_PER_FRAME = 8
_DRIFT_S, _DRIFT_PART = 12.0, 0.25


def play_strip(size_wh: tuple[int, int] = USUAL_SIZE_WH, *, seed: int = 0) -> Iterator[Frame]:
    """Yield views `(h, w, 3)` of a strip of steel that passes under the camera, forever; here and there it is damaged."""
    width, height = size_wh
    strip = np.asarray(cv2.cvtColor(_damaged_strip(height, width, np.random.default_rng(seed)), cv2.COLOR_GRAY2BGR), np.uint8)
    length = strip.shape[0] - height
    for number in itertools.count():
        top = length - 1 - (number * _ROWS_PER_FRAME) % length
        yield _frame(strip[top : top + height], number, NAMES["strip"])


def play_sheet(size_wh: tuple[int, int] = USUAL_SIZE_WH, *, seed: int = 0, fps: float = 30.0) -> Iterator[Frame]:
    """Yield views `(h, w, 3)` of a sheet of handwritten digits under a camera that drifts, forever."""
    width, height = size_wh
    margin_x, margin_y = round(width * _DRIFT_PART), round(height * _DRIFT_PART)
    sheet = _sheet(height + margin_y, width + margin_x, np.random.default_rng(seed))
    for number in itertools.count():
        angle = 2 * math.pi * number / (fps * _DRIFT_S)
        # Two incommensurable periods: the path does not repeat itself soon.
        left = round(margin_x * (0.5 + 0.5 * math.sin(angle)))
        top = round(margin_y * (0.5 + 0.5 * math.sin(angle * 0.618)))
        yield _frame(np.ascontiguousarray(sheet[top : top + height, left : left + width]), number, NAMES["sheet"])


def _frame(image_bgr: Image, number: int, name: str) -> Frame:
    return Frame(image_bgr, number, name, datetime.now(UTC), time.monotonic())


def _damaged_strip(height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a strip of several frames' height, `(h, w)`; its end continues at its beginning, mirrored."""
    from edgecnn.datasets.neu import TASK
    from edgecnn.datasets.synthetic import paste_defect, steel_strip

    rows = max(_STRIP_FRAMES * height // 2, 2 * _DEFECT_SIDE)
    strip = steel_strip(rows, max(width, _DEFECT_SIDE), rng)
    for number, top in enumerate(range(0, rows - _DEFECT_SIDE, round(1.5 * _DEFECT_SIDE))):
        left = int(rng.integers(strip.shape[1] - _DEFECT_SIDE + 1))
        strip = paste_defect(strip, TASK.labels[number % len(TASK.labels)], top, left, rng)
    strip = strip[:, :width]
    return np.concatenate([strip, strip[::-1], strip[:height]])


def _sheet(height: int, width: int, rng: np.random.Generator) -> Image:
    """Return paper `(h, w, 3)` with digits in rows, lit from one side."""
    from edgecnn.datasets.synthetic import draw_digit

    ink = np.zeros((height, width), np.uint8)
    cell = max(32, height // 5)
    for row, top in enumerate(range(cell // 4, height - cell, round(1.3 * cell))):
        for column, left in enumerate(range(cell // 4, width - cell, round(1.2 * cell))):
            size = round(cell * rng.uniform(0.75, 1.0))
            mask = draw_digit((row * 7 + column) % 10, rng, size)
            np.maximum(ink[top : top + size, left : left + size], mask, out=ink[top : top + size, left : left + size])
    soft = cv2.GaussianBlur(ink, (0, 0), 0.8).astype(np.float32)[:, :, None] / 255
    light = np.linspace(235, 165, width, dtype=np.float32)[None, :, None] * np.linspace(1, 0.9, height)[:, None, None]
    paper = light * np.array([0.97, 0.99, 1.0])
    pen = np.array([95.0, 50.0, 40.0])
    grain = rng.normal(0, 2.5, (height, width, 1))
    return np.asarray(np.clip(paper * (1 - soft) + pen * soft + grain, 0, 255), np.uint8)
