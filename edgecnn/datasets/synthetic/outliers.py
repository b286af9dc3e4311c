"""Outliers to train on, surfaces and marks of no class: a model learns to give all classes the same probability there.

"Outlier exposure" (Hendrycks, Mazeika and Dietterich, arXiv:1812.04606). The painters are procedural and general, in the manner
of Baradad et al. (arXiv:2106.05963): power-law noise, dead leaves (Lee, Mumford and Huang, 2001), waves, cells, strokes, flat
light. `edgecnn.datasets.synthetic.ood_surfaces` and `other_marks`, with which rejection is measured, have other ones; plain
steel, blank paper and what noise looks like as a digit stand in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.steel import steel_strip
from edgecnn.mnist_form import SIDE, mnist_form

Plane = NDArray[np.float32]
Rng = np.random.Generator
_SIDE = 200


def generate_counter_surfaces(count: int, seed: int) -> NDArray[np.uint8]:
    """Return `(count, 200, 200, 1)` uint8: the painters in turn, half of them two in one picture, in any light and contrast.

    A picture depends on seed and number only: a larger set begins with the smaller one.
    """
    pictures = [_draw(i, np.random.default_rng((seed, i))) for i in range(count)]
    return np.stack(pictures)[..., None] if pictures else np.empty((0, _SIDE, _SIDE, 1), np.uint8)


def generate_counter_marks(count: int, seed: int) -> NDArray[np.uint8]:
    """Return `(count, 28, 28, 1)` uint8: what the camera's form makes of power-law noise, of uneven light, of nothing.

    What looks like writing and is not a digit comes from `edgecnn.datasets.synthetic.camera_digits`.
    """
    pictures = [_mark(i, np.random.default_rng((seed, i))) for i in range(count)]
    return np.stack(pictures)[..., None] if pictures else np.empty((0, SIDE, SIDE, 1), np.uint8)


def _mark(number: int, rng: Rng) -> NDArray[np.uint8]:
    if number % 8 == 0:
        return np.zeros((SIDE, SIDE), np.uint8)
    side = int(rng.integers(28, 72))
    plane = _power_law(rng, side) if number % 2 else _standard(_even(rng, side))
    contrast = math.exp(rng.uniform(math.log(1), math.log(60)))
    gray = rng.uniform(60, 220) + contrast * plane + rng.normal(0, rng.uniform(0.2, 3), plane.shape)
    return mnist_form(np.clip(np.rint(gray), 0, 255).astype(np.uint8))


def _draw(number: int, rng: Rng) -> NDArray[np.uint8]:
    painter = number % (len(_PAINTERS) + 1)
    if painter == len(_PAINTERS):
        return steel_strip(_SIDE, _SIDE, rng)
    plane = _standard(_PAINTERS[painter](rng))
    if rng.random() < 0.5:
        other = _standard(_PAINTERS[int(rng.integers(len(_PAINTERS)))](rng))
        mask = rng.random() if rng.random() < 0.5 else _power_law(rng) > rng.normal(0, 0.5)
        plane = _standard(np.asarray(np.where(mask, plane, other) if np.ndim(mask) else mask * plane + (1 - mask) * other))
    return _exposed(plane, rng)


def _standard(plane: Plane) -> Plane:
    """Bring a plane to mean 0 and deviation 1; an even one to 0."""
    return np.asarray((plane - plane.mean()) / max(float(plane.std()), 1e-6), np.float32)


def _exposed(plane: Plane, rng: Rng) -> NDArray[np.uint8]:
    contrast = math.exp(rng.uniform(math.log(2), math.log(70)))
    noise = rng.normal(0, rng.choice([0.0, rng.uniform(0, 25)]), plane.shape)
    return np.clip(np.rint(rng.uniform(15, 240) + contrast * plane + noise), 0, 255).astype(np.uint8)


def _power_law(rng: Rng, side: int = _SIDE) -> Plane:
    """Return noise whose amplitude falls with frequency as f^-a, a of 0 (white) to 2.5 (clouds), stretched along an angle."""
    angle, stretch = rng.uniform(0, math.pi), 2.0 ** rng.uniform(0, 3.5)
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    along, across = fx * math.cos(angle) + fy * math.sin(angle), fy * math.cos(angle) - fx * math.sin(angle)
    frequency = np.hypot(along * stretch, across)
    frequency[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * np.maximum(frequency, 1 / side) ** -rng.uniform(0, 2.5)
    return _standard(np.fft.irfft2(spectrum, (side, side)).astype(np.float32))


def _dead_leaves(rng: Rng) -> Plane:
    """Return discs, boxes and triangles of random gray on top of each other, their sizes by a power law."""
    plane = np.full((_SIDE, _SIDE), float(rng.random()), np.float32)
    smallest, shape = rng.uniform(2, 12), int(rng.integers(4))
    for _ in range(int(rng.integers(60, 500))):
        radius = min(smallest / math.sqrt(rng.uniform(0.002, 1)), 80.0)
        centre = rng.uniform(-10, _SIDE + 10, 2)
        corners = {0: 24, 1: 4, 2: 3}.get(shape, int(rng.choice([3, 4, 24])))
        angles = rng.uniform(0, 2 * math.pi) + 2 * math.pi * np.arange(corners) / corners
        axes = radius * rng.uniform(0.4, 1, 2)
        outline = np.stack([centre[0] + axes[0] * np.cos(angles), centre[1] + axes[1] * np.sin(angles)], axis=1)
        cv2.fillPoly(plane, [np.round(outline * 16).astype(np.int32)], float(rng.random()), cv2.LINE_AA, shift=4)
    return plane


def _waves(rng: Rng) -> Plane:
    """Return one to three gratings, sine or square, bent a little: stripes, checks and moire."""
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    bend = rng.uniform(0, 8) * _power_law(rng) if rng.random() < 0.3 else 0.0
    plane = np.zeros((_SIDE, _SIDE), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        angle, period = rng.uniform(0, math.pi), math.exp(rng.uniform(math.log(3), math.log(90)))
        phase = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle) + bend) / period + rng.uniform(0, 6.3)
        wave = np.sin(phase)
        plane += (np.sign(wave) if rng.random() < 0.4 else wave).astype(np.float32)
    return plane


def _cells(rng: Rng) -> Plane:
    """Return distances to the nearest of random points, or their gray cells (Worley, 1996)."""
    seeds = np.full((_SIDE, _SIDE), 255, np.uint8)
    points = rng.integers(0, _SIDE, (int(math.exp(rng.uniform(math.log(8), math.log(900)))), 2))
    seeds[points[:, 0], points[:, 1]] = 0
    distance, nearest = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    if rng.random() < 0.5:
        return np.asarray(distance, np.float32)
    return np.asarray(rng.random(int(nearest.max()) + 1)[nearest], np.float32)


def _strokes(rng: Rng) -> Plane:
    """Return polygons, open or closed, of random width and gray on soft ground: outlines, wires, writing of no letters."""
    plane = 0.3 * _power_law(rng)
    for _ in range(int(rng.integers(1, 14))):
        points = rng.uniform(0, _SIDE, 2) + np.cumsum(rng.normal(0, rng.uniform(8, 50), (int(rng.integers(2, 9)), 2)), axis=0)
        width, gray = int(rng.integers(1, 12)), float(rng.normal(0, 2.5))
        cv2.polylines(plane, [np.round(points).astype(np.int32)], bool(rng.random() < 0.4), gray, width, cv2.LINE_AA)
    return plane


def _even(rng: Rng, side: int = _SIDE) -> Plane:
    """Return even light that falls off to one side or from a centre."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * math.pi)
        return np.asarray(x * math.cos(angle) + y * math.sin(angle), np.float32)
    centre = rng.uniform(-0.2, 1.2, 2)
    return np.asarray(np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / rng.uniform(0.05, 1)), np.float32)


_PAINTERS: tuple[Callable[[Rng], Plane], ...] = (_power_law, _dead_leaves, _waves, _cells, _strokes, _even)
