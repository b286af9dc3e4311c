"""Drawn parts: stamped washers with six holes on a belt, as they should be or damaged. For the demo, the tutorial and tests.

They are nobody's parts: an accuracy measured on these pictures says that everything runs, not how well.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.synthetic.balanced import draw_balanced
from edgecnn.errors import InputError

LABELS = ("dent", "good", "missing_hole", "scratch")
SIDE = 128
_FINE = 3  # drawn so many times as large, and shrunk: no jagged edges
_HOLES = 6
_BELT, _METAL = np.array([52, 58, 54], np.float32), np.array([196, 190, 180], np.float32)  # RGB

Plane = NDArray[np.float32]


def generate_parts(count_per_class: int, seed: int) -> Dataset:
    """Draw `count_per_class` washers of each class `(n, 128, 128, 3)` uint8 RGB, in the order of LABELS."""
    return draw_balanced(LABELS, lambda class_id, rng: draw_part(LABELS[class_id], rng), count_per_class, seed)


def draw_part(label: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one washer `(128, 128, 3)` uint8 RGB: where it lies, how it is turned and lit differ from picture to picture."""
    if label not in LABELS:
        raise InputError(f"unknown washer {label!r}; known: {', '.join(LABELS)}")
    side = SIDE * _FINE
    centre, radius = rng.uniform(0.46, 0.54, 2) * side, rng.uniform(0.37, 0.43) * side
    angle = rng.uniform(0, 2 * math.pi)
    metal = _washer(side, centre, radius, angle, missing=label == "missing_hole")
    height = _dent(side, centre, radius, rng) if label == "dent" else np.zeros((side, side), np.float32)
    marks = _scratches(side, centre, radius, rng) if label == "scratch" else np.zeros((side, side), np.float32)
    return _photographed(metal, height, marks, rng)


def _washer(side: int, centre: NDArray[np.float64], radius: float, angle: float, *, missing: bool) -> Plane:
    """Return where there is metal, 0 or 1: a ring with holes, the last of which may be missing."""
    plane = np.zeros((side, side), np.float32)
    _disc(plane, centre, radius, 1)
    _disc(plane, centre, 0.36 * radius, 0)
    for hole in range(_HOLES - missing):
        _disc(plane, _at(centre, 0.69 * radius, angle + hole * 2 * math.pi / _HOLES), 0.1 * radius, 0)
    return plane


def _dent(side: int, centre: NDArray[np.float64], radius: float, rng: np.random.Generator) -> Plane:
    """Return the height of a smooth dent somewhere on the ring, 0 elsewhere."""
    place = _at(centre, rng.uniform(0.5, 0.9) * radius, rng.uniform(0, 2 * math.pi))
    plane = np.zeros((side, side), np.float32)
    axes = np.maximum(rng.uniform(0.08, 0.17, 2) * radius, 2).astype(int)
    cv2.ellipse(plane, place.astype(int).tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, -1.0, -1)
    deep = cv2.GaussianBlur(plane, (0, 0), 0.045 * radius) * rng.uniform(22, 45)
    return np.asarray(deep, np.float32)


def _scratches(side: int, centre: NDArray[np.float64], radius: float, rng: np.random.Generator) -> Plane:
    """Return how much brighter or darker one to three thin lines make the metal."""
    plane = np.zeros((side, side), np.float32)
    for _ in range(rng.integers(1, 4)):
        start = _at(centre, rng.uniform(0.45, 0.95) * radius, rng.uniform(0, 2 * math.pi))
        end = start + rng.uniform(0.35, 0.9) * radius * np.array(_direction(rng.uniform(0, 2 * math.pi)))
        middle = (start + end) / 2 + rng.normal(0, 0.05 * radius, 2)
        curve = np.stack([start, middle, end]).astype(np.int32)
        depth = float(rng.uniform(35, 70) * rng.choice([-1, 1]))
        cv2.polylines(plane, [curve], False, depth, int(rng.integers(2, 5)), cv2.LINE_AA)
    return plane


def _photographed(metal: Plane, height: Plane, marks: Plane, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Light the part from one side, put it on a belt with its shadow, and take a picture `(128, 128, 3)` of it."""
    side = len(metal)
    light = _direction(rng.uniform(0, 2 * math.pi))
    slope_y, slope_x = np.gradient(np.asarray(cv2.GaussianBlur(metal, (0, 0), 2.5) * 12 + height, np.float32))
    brushed = cv2.GaussianBlur(rng.normal(0, 1, (side, side)).astype(np.float32), (0, 0), sigmaX=9, sigmaY=0.8) * 22
    shade = 22 * (slope_x * light[0] + slope_y * light[1]) + brushed + marks
    shadow = cv2.GaussianBlur(np.roll(metal, (4, 4), (0, 1)), (0, 0), 5)
    belt = _BELT + rng.normal(0, 5, (side, side, 1)) - 25 * shadow[..., None]
    scene = metal[..., None] * (_METAL + shade[..., None]) + (1 - metal[..., None]) * belt
    across = np.linspace(-1, 1, side, dtype=np.float32)
    uneven = 1 + rng.uniform(0, 0.15) * (across[None, :] * light[0] + across[:, None] * light[1])
    seen = cv2.resize((scene * uneven[..., None]).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    seen = seen * rng.uniform(0.8, 1.15) * rng.uniform(0.96, 1.04, 3) + rng.normal(0, 3, seen.shape)
    return np.asarray(np.clip(np.rint(seen), 0, 255), np.uint8)


def _disc(plane: Plane, centre: NDArray[np.float64], radius: float, value: float) -> None:
    cv2.circle(plane, np.rint(centre).astype(int).tolist(), round(radius), value, -1)


def _at(centre: NDArray[np.float64], distance: float, angle: float) -> NDArray[np.float64]:
    return np.asarray(centre + distance * np.array(_direction(angle)))


def _direction(angle: float) -> tuple[float, float]:
    return math.cos(angle), math.sin(angle)
