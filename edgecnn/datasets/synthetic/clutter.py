"""What stands in a photograph beside handwriting: print, other marks of a pen, and the things on a desk."""

from __future__ import annotations

import math
import string

import cv2
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Box = tuple[int, int, int, int]
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
)
# Among them letters that nobody can tell from a digit without the word they stand in.
_LETTERS = list(string.ascii_letters)
_WOODS = ((60, 95, 140), (110, 140, 170), (170, 185, 200), (70, 75, 80), (40, 50, 65), (150, 150, 145))


def draw_print(cover: NDArray[np.uint8], text: str, centre: tuple[float, float], height: float, rng: Rng) -> Box:
    """Print text of about `height` pixels round a place of `cover` `(h, w)`; return its box."""
    font = _FONTS[int(rng.integers(len(_FONTS)))]
    scale = height / 21.0
    thickness = max(1, round(scale * rng.uniform(1.5, 3.0)))
    (width, tall), _ = cv2.getTextSize(text, font, scale, thickness)
    origin = round(centre[0] - width / 2), round(centre[1] + tall / 2)
    cv2.putText(cover, text, origin, font, scale, 255, thickness, cv2.LINE_AA)
    return origin[0], origin[1] - tall, width, tall


def draw_marks(ink: NDArray[np.uint8], taken: list[Box], height: float, rng: Rng) -> None:
    """Draw a few marks that are no digits with the same pen, where nothing stands: words, scribbles, ticks, strokes through."""
    for _ in range(int(rng.integers(1, 4))):
        width, tall = height * rng.uniform(0.8, 4.0), height * rng.uniform(0.6, 1.2)
        x, y = rng.uniform(0, max(ink.shape[1] - width, 1)), rng.uniform(0, max(ink.shape[0] - tall, 1))
        apart = all(x > b[0] + b[2] + 6 or x + width < b[0] - 6 or y > b[1] + b[3] + 6 or y + tall < b[1] - 6 for b in taken)
        if apart:
            draw = (_word, _scribble, _tick)[int(rng.integers(3))]
            draw(ink, (x, y, width, tall), max(1, round(height * rng.uniform(0.05, 0.12))), rng)


def _word(ink: NDArray[np.uint8], box: tuple[float, float, float, float], pen: int, rng: Rng) -> None:
    x, y, width, tall = box
    text = "".join(rng.choice(_LETTERS, int(np.clip(width / tall * 1.5, 3, 9))))
    text = text.upper() if rng.random() < 0.3 else text.lower() if rng.random() < 0.8 else text
    font = cv2.FONT_HERSHEY_SCRIPT_SIMPLEX if rng.random() < 0.5 else cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(ink, text, (round(x), round(y + tall)), font, tall / 25.0, 255, pen, cv2.LINE_AA)


def _scribble(ink: NDArray[np.uint8], box: tuple[float, float, float, float], pen: int, rng: Rng) -> None:
    x, y, width, tall = box
    points = rng.uniform((x, y), (x + width, y + tall), (int(rng.integers(5, 16)), 2)).astype(np.int32)
    cv2.polylines(ink, [points], False, 255, pen, cv2.LINE_AA)


def _tick(ink: NDArray[np.uint8], box: tuple[float, float, float, float], pen: int, rng: Rng) -> None:
    x, y, _, tall = box
    corner, up = rng.uniform(0.25, 0.5), rng.uniform(0.4, 1.0)
    points = np.array([[x, y + 0.6 * tall], [x + corner * tall, y + tall], [x + (corner + up) * tall, y]]).astype(np.int32)
    cv2.polylines(ink, [points], False, 255, pen, cv2.LINE_AA)


def draw_desk(size_hw: tuple[int, int], sheet: NDArray[np.uint8], rng: Rng) -> NDArray[np.float32]:
    """Draw a desk `(h, w, 3)` float32 BGR: its surface, a few things on it, and the shadow of a sheet `(h, w)` uint8."""
    desk = _surface(size_hw, rng)
    things = (_keyboard, _page_of_print, _cable, _pen, _box, _mug, _box, _cable)
    for index in rng.integers(0, len(things), int(rng.integers(3, 9))):
        things[int(index)](desk, rng)
    shadow = cv2.GaussianBlur(sheet, (0, 0), 6).astype(np.float32) / np.float32(255)
    return np.asarray(desk.astype(np.float32) * (1 - np.float32(rng.uniform(0, 0.5)) * shadow)[..., None], np.float32)


def _surface(size_hw: tuple[int, int], rng: Rng) -> NDArray[np.uint8]:
    colour = np.array(_WOODS[int(rng.integers(len(_WOODS)))], np.float32)
    noise = rng.standard_normal(size_hw, np.float32)
    grain = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigmaX=rng.uniform(2, 60), sigmaY=rng.uniform(0.8, 3)), np.float32)
    grain = grain / np.float32(max(float(np.abs(grain).max()), 1e-6))
    return np.clip(colour * (1 + np.float32(rng.uniform(0.02, 0.5)) * grain)[..., None], 0, 255).astype(np.uint8)


def _somewhere(desk: NDArray[np.uint8], rng: Rng) -> tuple[int, int]:
    return int(rng.integers(-desk.shape[1] // 8, desk.shape[1])), int(rng.integers(-desk.shape[0] // 8, desk.shape[0]))


def _shade(rng: Rng) -> tuple[float, float, float]:
    base = rng.uniform(15, 245)
    b, g, r = np.clip(base + rng.normal(0, 25, 3), 0, 255)
    return float(b), float(g), float(r)


def _keyboard(desk: NDArray[np.uint8], rng: Rng) -> None:
    left, top = _somewhere(desk, rng)
    key = int(rng.integers(14, 40))
    dark = rng.random() < 0.6
    body, caps, letters = ((40,) * 3, (25,) * 3, (210,) * 3) if dark else ((190,) * 3, (235,) * 3, (60,) * 3)
    cv2.rectangle(desk, (left, top), (left + 15 * key, top + 5 * key + 6), body, -1)
    for row in range(5):
        for column in range(14):
            x, y = left + 4 + column * key + row * key // 4, top + 4 + row * key
            cv2.rectangle(desk, (x, y), (x + key - 4, y + key - 4), caps, -1)
            letter = str(rng.choice(_LETTERS)).upper()
            cv2.putText(desk, letter, (x + 3, y + key // 2 + 2), _FONTS[0], key / 60, letters, 1, cv2.LINE_AA)


def _page_of_print(desk: NDArray[np.uint8], rng: Rng) -> None:
    left, top = _somewhere(desk, rng)
    width, tall, high = int(rng.integers(80, 320)), int(rng.integers(60, 260)), int(rng.integers(6, 18))
    cv2.rectangle(desk, (left, top), (left + width, top + tall), _paper_shade(rng), -1)
    for y in range(top + 2 * high, top + tall - high // 2, round(1.8 * high)):
        count = max(2, int((width - 2 * high) / (0.75 * high)))
        text = "".join(rng.choice([*_LETTERS, " ", " ", " ", " "], count))
        cv2.putText(desk, text, (left + high, y), _FONTS[int(rng.integers(4))], high / 26, (50, 50, 50), 1, cv2.LINE_AA)


def _paper_shade(rng: Rng) -> tuple[float, float, float]:
    value = float(rng.uniform(170, 245))
    return value, value, value


def _cable(desk: NDArray[np.uint8], rng: Rng) -> None:
    points = rng.uniform((-50, -50), (desk.shape[1] + 50, desk.shape[0] + 50), (4, 2))
    t = np.linspace(0, 1, 60)[:, None]
    curve = (1 - t) ** 3 * points[0] + 3 * t * (1 - t) ** 2 * points[1] + 3 * t**2 * (1 - t) * points[2] + t**3 * points[3]
    thickness, colour = int(rng.integers(3, 14)), np.array(_shade(rng))
    pixels = [curve.astype(np.int32)]
    cv2.polylines(desk, pixels, False, tuple(0.6 * colour), thickness, cv2.LINE_AA)
    cv2.polylines(desk, pixels, False, tuple(colour), max(1, thickness // 2), cv2.LINE_AA)


def _pen(desk: NDArray[np.uint8], rng: Rng) -> None:
    x, y = _somewhere(desk, rng)
    angle, length, thickness = rng.uniform(0, 2 * math.pi), rng.uniform(80, 240), int(rng.integers(5, 14))
    tip = round(x + length * math.cos(angle)), round(y + length * math.sin(angle))
    cv2.line(desk, (x, y), tip, _shade(rng), thickness, cv2.LINE_AA)
    cv2.line(desk, (x, y), (round(0.7 * x + 0.3 * tip[0]), round(0.7 * y + 0.3 * tip[1])), _shade(rng), thickness, cv2.LINE_AA)


def _box(desk: NDArray[np.uint8], rng: Rng) -> None:
    x, y = _somewhere(desk, rng)
    size = rng.uniform(40, 260, 2)
    corners = cv2.boxPoints(((float(x), float(y)), (float(size[0]), float(size[1])), float(rng.uniform(0, 90))))
    cv2.fillConvexPoly(desk, np.round(corners).astype(np.int32), _shade(rng), cv2.LINE_AA)
    if rng.random() < 0.6:
        text = "".join(rng.choice(_LETTERS, int(rng.integers(3, 9))))
        cv2.putText(desk, text, (x - 50, y), _FONTS[int(rng.integers(4))], rng.uniform(0.5, 1.6), _shade(rng), 2, cv2.LINE_AA)


def _mug(desk: NDArray[np.uint8], rng: Rng) -> None:
    x, y = _somewhere(desk, rng)
    radius = int(rng.integers(25, 80))
    for share in (1.0, 0.85, 0.75):
        cv2.circle(desk, (x, y), round(radius * share), _shade(rng), -1, cv2.LINE_AA)
