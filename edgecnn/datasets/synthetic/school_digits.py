"""How digits are written outside America: forms that MNIST's writers hardly used, drawn for training.

The 1 with a long flag and perhaps a foot, the crossed 7, the 4 of two strokes that is open above, the 9 whose loop is not
closed and whose tail is hooked, the 5 whose bar is put on last: taught in schools of much of the world.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.digits import draw_digit

Rng = np.random.Generator
Stroke = list[tuple[float, float]]
SIZE = 112


def draw_handwritten(class_id: int, rng: Rng) -> NDArray[np.uint8]:
    """Draw a digit `(112, 112)` uint8, ink 255, in a school form of its class where there is one, else in any."""
    form = {1: _one, 4: _four, 5: _five, 7: _seven, 9: _nine}.get(class_id)
    if form is None or rng.random() < 0.2:
        return draw_digit(class_id, rng, SIZE)
    return _inked([_wobbled(stroke, rng) for stroke in form(rng)], rng)


def _one(rng: Rng) -> list[Stroke]:
    lean = rng.uniform(-0.1, 0.15)
    reach = rng.uniform(0.12, 0.6)
    flag = (-reach, reach * rng.uniform(0.5, 1.3))  # flatter, it would be a 7's bar
    strokes: list[Stroke] = [[flag, (0.0, 0.0)], [(0.0, 0.0), (-lean, 1.0)]]
    if rng.random() < 0.4:
        half = rng.uniform(0.15, 0.5)
        tilt = rng.uniform(-0.1, 0.06)
        strokes.append([(-lean - half, 1.0 - tilt), (-lean + half * rng.uniform(0.6, 1.3), 1.0 + tilt)])
    return strokes


def _four(rng: Rng) -> list[Stroke]:
    low, right = rng.uniform(0.45, 0.75), rng.uniform(0.45, 0.8)
    angle: Stroke = [(rng.uniform(0.05, 0.4), 0.0), (0.0, low), (right, low + rng.uniform(-0.2, 0.08))]
    if rng.random() < 0.5:
        angle = _rounded([angle[0], (rng.uniform(-0.08, 0.1), 0.6 * low), *angle[1:]])
    long = 1.0 if rng.random() < 0.7 else rng.uniform(1.1, 1.7)
    stem_x = right * rng.uniform(0.4, 0.95)
    stem: Stroke = [
        (stem_x + rng.uniform(-0.02, 0.15), rng.uniform(0.0, 0.5)),
        (stem_x - 0.1 * (long - 1), long * rng.uniform(0.9, 1.05)),
    ]
    return [angle, stem]


def _five(rng: Rng) -> list[Stroke]:
    x, neck, belly = rng.uniform(0.0, 0.15), rng.uniform(0.35, 0.5), rng.uniform(0.45, 0.75)
    body = [(x + rng.uniform(0.0, 0.1), 0.0), (x, neck), (x + 0.35 * belly, neck - 0.04), (belly, 0.6), (belly * 0.95, 0.8)]
    body += [(0.3 * belly, 1.0), (-0.05, 0.95)]
    lift = rng.uniform(-0.1, 0.12)
    start = x + rng.uniform(-0.05, 0.25)
    bar: Stroke = [(start, 0.0 - max(lift, 0)), (start + rng.uniform(0.3, 0.75), -rng.uniform(0.0, 0.25))]
    return [_rounded(body), bar]


def _seven(rng: Rng) -> list[Stroke]:
    width = rng.uniform(0.25, 0.75)
    foot = width * rng.uniform(-0.1, 0.5)
    bar: Stroke = [(0.0, rng.uniform(-0.03, 0.1)), (width, rng.uniform(-0.06, 0.06))]
    if rng.random() < 0.4:
        bar.insert(0, (rng.uniform(-0.05, 0.03), rng.uniform(0.1, 0.3)))
    stem = [bar[-1], (0.5 * (width + foot) + rng.uniform(-0.02, 0.12), 0.5), (foot, 1.0)]
    strokes = [bar, _rounded(stem)]
    if rng.random() < 0.8:
        at = rng.uniform(0.35, 0.68)
        x = width + (foot - width) * at
        left, right, tilt = rng.uniform(0.12, 0.4), rng.uniform(0.12, 0.45), rng.uniform(-0.06, 0.08)
        strokes.append([(x - left, at + tilt), (x + right, at - tilt)])
    return strokes


def _nine(rng: Rng) -> list[Stroke]:
    wide, high = rng.uniform(0.22, 0.36), rng.uniform(0.2, 0.32)
    start = rng.uniform(-1.3, 0.1)  # where the pen is set down: to the right of the top
    turn = rng.uniform(1.45, 2.05) * np.pi  # under a full circle the loop stays open
    angles = start - np.linspace(0, turn, 14)
    loop = [(wide * float(np.cos(a)), high * (1 + float(np.sin(a)))) for a in angles]
    long = 1.0 if rng.random() < 0.6 else rng.uniform(1.2, 3.0)
    foot = rng.uniform(-0.1, 0.25)
    tail = [(wide, 0.45), (0.4 * wide * rng.uniform(0.7, 1.05) + 0.6 * foot, 0.8 * long), (foot, long)]
    if long == 1 and rng.random() < 0.7:
        tail = [
            (wide, 0.45),
            (wide * rng.uniform(0.7, 1.05), 0.8),
            (foot, 1.0),
            (-wide * rng.uniform(0.4, 1.1), rng.uniform(0.82, 1.0)),
        ]
    return [_rounded([*loop, (wide, high), *tail])]


def _rounded(points: Stroke) -> Stroke:
    """Cut the corners of a line three times (Chaikin, 1974)."""
    for _ in range(3):
        cut: Stroke = [points[0]]
        for (ax, ay), (bx, by) in pairwise(points):
            cut += [(0.75 * ax + 0.25 * bx, 0.75 * ay + 0.25 * by), (0.25 * ax + 0.75 * bx, 0.25 * ay + 0.75 * by)]
        points = [*cut, points[-1]]
    return points


def _wobbled(stroke: Stroke, rng: Rng) -> NDArray[np.float64]:
    """Return a stroke as points `(n, 2)` that bend like a hand's: a low wave is added to a denser line."""
    points = np.array(stroke, np.float64)
    along = np.linspace(0, 1, 24)
    at = np.linspace(0, 1, len(points))
    dense = np.column_stack([np.interp(along, at, points[:, 0]), np.interp(along, at, points[:, 1])])
    bend = rng.normal(0, 0.02, (2, 2))
    wave = np.sin(np.pi * np.outer(along, [1.0, 2.0])) @ bend
    return np.asarray(dense + wave + rng.normal(0, 0.012, 2), np.float64)


def _inked(strokes: list[NDArray[np.float64]], rng: Rng) -> NDArray[np.uint8]:
    points = np.concatenate(strokes)
    corner, extent = points.min(axis=0), np.ptp(points, axis=0)
    scale = 0.72 * SIZE / max(float(extent.max()), 1e-6)
    margin = (SIZE - scale * extent) / 2
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    thickness = int(rng.integers(5, 14))
    for stroke in strokes:
        pixels = np.round((stroke - corner) * scale + margin).astype(np.int32)
        cv2.polylines(canvas, [pixels], False, 255, thickness)
    return canvas
