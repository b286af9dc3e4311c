"""Synthetic photographs of handwritten sheets: digits on paper under uneven light, and where each of them stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.digits import draw_digit
from edgecnn.errors import InputError

Paper = Literal["plain", "ruled", "squared"]
Bgr = tuple[int, int, int]
BLUE_PEN: Bgr = (150, 60, 30)
WHITE_PAPER: Bgr = (225, 232, 235)


@dataclass(frozen=True, eq=False)
class DrawnSheet:
    """A drawn photograph `(h, w, 3)` uint8 BGR, and of each digit on it the box `(x, y, width, height)` and the class."""

    image_bgr: NDArray[np.uint8]
    boxes: tuple[tuple[int, int, int, int], ...]
    class_ids: tuple[int, ...]


def draw_sheet(
    seed: int,
    *,
    size_hw: tuple[int, int] = (480, 640),
    digit_height: int = 48,
    paper: Paper = "plain",
    pen_bgr: Bgr = BLUE_PEN,
    paper_bgr: Bgr = WHITE_PAPER,
    darkest: float = 0.6,
    noise: float = 3.0,
    count: int = 24,
) -> DrawnSheet:
    """Draw up to `count` digits of about `digit_height` pixels, apart from each other, on a sheet that fills the picture.

    `darkest` is the light in the darkest corner as a share of the brightest one's, `noise` the sensor's standard deviation in
    gray levels. Raises InputError for a sheet too small for one digit.
    """
    height, width = size_hw
    step = round(1.8 * digit_height)
    if paper not in get_args(Paper):
        raise InputError(f"unknown paper {paper!r}; known: {', '.join(get_args(Paper))}")
    if height < 2 * step or width < 2 * step or digit_height < 12:
        raise InputError(f"no digit of {digit_height} pixels fits on a sheet of {height} x {width}")
    rng = np.random.default_rng(seed)
    ink = np.zeros(size_hw, np.uint8)
    boxes, class_ids = [], []
    places = [(y, x) for y in range(step // 2, height - step, step) for x in range(step // 2, width - step, step)]
    for index in sorted(rng.permutation(len(places))[:count]):
        class_id = int(rng.integers(10))
        size = round(digit_height / 0.75 * rng.uniform(0.85, 1.15))
        digit = draw_digit(class_id, rng, max(size, 16))
        y, x = places[int(index)]
        target = ink[y : y + digit.shape[0], x : x + digit.shape[1]]
        np.maximum(target, digit[: target.shape[0], : target.shape[1]], out=target)
        left, top, w, h = cv2.boundingRect(digit)
        boxes.append((x + left, y + top, w, h))
        class_ids.append(class_id)
    image = _photograph(_paper(size_hw, paper, paper_bgr, digit_height), ink, pen_bgr, darkest, noise, rng)
    return DrawnSheet(image, tuple(boxes), tuple(class_ids))


def _paper(size_hw: tuple[int, int], paper: Paper, paper_bgr: Bgr, digit_height: int) -> NDArray[np.float64]:
    """Return paper `(h, w, 3)` with pale rules, two to a digit's height on squared paper."""
    sheet = np.full((*size_hw, 3), paper_bgr, np.float64)
    spacing = max(12, round(digit_height * (1.8 if paper == "ruled" else 0.9)))
    rule = np.array(paper_bgr) * np.array([0.85, 0.72, 0.65])
    if paper != "plain":
        for y in range(spacing, size_hw[0], spacing):
            sheet[y : y + max(1, digit_height // 40)] = rule
    if paper == "squared":
        for x in range(spacing, size_hw[1], spacing):
            sheet[:, x : x + max(1, digit_height // 40)] = rule
    return sheet


def _photograph(
    paper: NDArray[np.float64], ink: NDArray[np.uint8], pen_bgr: Bgr, darkest: float, noise: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    cover = (ink.astype(np.float64) / 255)[..., None]
    sheet = paper * (1 - cover) + np.array(pen_bgr, np.float64) * cover
    rows, columns = (np.linspace(0, 1, side) for side in ink.shape)
    light = 1 - (1 - darkest) * (rows[:, None] + columns[None, :]) / 2
    seen = cv2.GaussianBlur(sheet * light[..., None], (0, 0), 0.7)
    return np.asarray(np.clip(seen + rng.normal(0, noise, seen.shape), 0, 255), np.uint8)
