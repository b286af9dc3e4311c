"""Synthetic handwriting: digits drawn by a wobbling pen along parametric strokes.

An accuracy measured on these pictures is never the product's.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.synthetic.balanced import draw_balanced
from edgecnn.errors import InputError
from edgecnn.mnist_form import Form, ink_form

Points = tuple[tuple[float, float], ...]
Glyph = tuple[Points, ...]

# Each class has a few ways to be written; each way is a list of pen strokes; each stroke is a list of (x, y) that a smooth
# curve passes, x to the right and y down, about one unit high. A corner is where one stroke ends and the next begins.
GLYPHS: tuple[tuple[Glyph, ...], ...] = (
    (
        (((0.5, 0.0), (0.2, 0.15), (0.08, 0.5), (0.2, 0.87), (0.45, 1.0), (0.72, 0.85), (0.8, 0.5), (0.7, 0.13), (0.46, 0.0)),),
        (((0.62, 0.05), (0.3, 0.08), (0.06, 0.5), (0.3, 0.95), (0.65, 0.92), (0.88, 0.5), (0.7, 0.1), (0.4, 0.02)),),
    ),
    (
        (((0.5, 0.0), (0.5, 0.5), (0.5, 1.0)),),
        (((0.53, 0.0), (0.5, 0.35), (0.49, 0.7), (0.5, 1.0)),),
        (((0.38, 0.16), (0.48, 0.08), (0.56, 0.0)), ((0.56, 0.0), (0.55, 0.5), (0.55, 1.0))),
        (((0.36, 0.17), (0.53, 0.0)), ((0.53, 0.0), (0.52, 0.5), (0.52, 1.0)), ((0.28, 1.0), (0.52, 0.99), (0.78, 1.0))),
    ),
    (
        (
            ((0.12, 0.24), (0.3, 0.03), (0.62, 0.02), (0.76, 0.26), (0.58, 0.56), (0.3, 0.82), (0.1, 0.98)),
            ((0.1, 0.98), (0.5, 0.95), (0.9, 0.96)),
        ),
        (
            ((0.15, 0.2), (0.38, 0.0), (0.68, 0.08), (0.72, 0.34), (0.5, 0.68), (0.24, 0.94), (0.08, 0.93), (0.12, 0.78))
            + ((0.3, 0.76), (0.52, 0.9), (0.72, 0.98), (0.95, 0.9)),
        ),
        (
            ((0.08, 0.1), (0.4, 0.0), (0.72, 0.12), (0.68, 0.42), (0.4, 0.74), (0.14, 0.93)),
            ((0.14, 0.93), (0.4, 0.88), (0.65, 0.98), (0.92, 0.97)),
        ),
    ),
    (
        (
            ((0.14, 0.12), (0.42, 0.0), (0.72, 0.1), (0.68, 0.33), (0.36, 0.47)),
            ((0.36, 0.47), (0.68, 0.54), (0.78, 0.76), (0.52, 0.98), (0.1, 0.92)),
        ),
        (
            (
                (0.1, 0.06),
                (0.45, 0.01),
                (0.72, 0.16),
                (0.6, 0.38),
                (0.42, 0.45),
                (0.7, 0.58),
                (0.72, 0.85),
                (0.42, 1.0),
                (0.06, 0.88),
            ),
        ),
        (
            ((0.2, 0.16), (0.45, 0.0), (0.68, 0.12), (0.6, 0.36), (0.42, 0.46)),
            ((0.42, 0.46), (0.7, 0.52), (0.86, 0.72), (0.66, 0.95), (0.34, 1.0), (0.12, 0.84)),
        ),
    ),
    (
        (((0.16, 0.04), (0.1, 0.32), (0.14, 0.52), (0.45, 0.54), (0.8, 0.48)), ((0.78, 0.0), (0.76, 0.45), (0.7, 1.0))),
        (((0.2, 0.0), (0.1, 0.5)), ((0.1, 0.5), (0.45, 0.52), (0.78, 0.48)), ((0.74, 0.1), (0.68, 0.55), (0.62, 1.0))),
        (
            ((0.62, 0.0), (0.36, 0.32), (0.06, 0.62)),
            ((0.06, 0.62), (0.5, 0.62), (0.9, 0.6)),
            ((0.62, 0.0), (0.61, 0.5), (0.58, 1.0)),
        ),
        (((0.22, 0.05), (0.08, 0.4), (0.2, 0.52), (0.5, 0.5), (0.7, 0.36)), ((0.74, 0.02), (0.68, 0.5), (0.64, 1.0))),
    ),
    (
        (
            ((0.82, 0.02), (0.55, 0.03), (0.28, 0.03)),
            ((0.28, 0.03), (0.22, 0.22), (0.18, 0.42)),
            ((0.18, 0.42), (0.45, 0.38), (0.72, 0.54), (0.7, 0.82), (0.42, 0.99), (0.06, 0.93)),
        ),
        (
            ((0.28, 0.06), (0.24, 0.26), (0.26, 0.42), (0.52, 0.46), (0.68, 0.65), (0.6, 0.9), (0.34, 1.0), (0.08, 0.9)),
            ((0.28, 0.06), (0.55, 0.05), (0.86, 0.0)),
        ),
        (
            (
                (0.92, 0.02),
                (0.62, 0.02),
                (0.4, 0.1),
                (0.28, 0.36),
                (0.5, 0.5),
                (0.62, 0.7),
                (0.46, 0.94),
                (0.2, 1.0),
                (0.04, 0.92),
            ),
        ),
    ),
    (
        (
            ((0.6, 0.0), (0.36, 0.18), (0.16, 0.5), (0.14, 0.8), (0.36, 1.0), (0.64, 0.9), (0.7, 0.7), (0.52, 0.56))
            + ((0.3, 0.62), (0.16, 0.78)),
        ),
        (
            (
                (0.5, 0.0),
                (0.26, 0.32),
                (0.12, 0.68),
                (0.28, 0.97),
                (0.58, 0.97),
                (0.76, 0.76),
                (0.6, 0.6),
                (0.36, 0.66),
                (0.2, 0.84),
            ),
        ),
        (
            (
                (0.34, 0.0),
                (0.18, 0.4),
                (0.14, 0.76),
                (0.32, 0.99),
                (0.6, 0.92),
                (0.66, 0.7),
                (0.48, 0.58),
                (0.26, 0.68),
                (0.18, 0.82),
            ),
        ),
    ),
    (
        (((0.08, 0.08), (0.45, 0.06), (0.82, 0.03)), ((0.82, 0.03), (0.62, 0.4), (0.46, 1.0))),
        (((0.1, 0.22), (0.14, 0.06), (0.5, 0.06), (0.8, 0.04)), ((0.8, 0.04), (0.68, 0.42), (0.6, 1.0))),
        (((0.08, 0.06), (0.45, 0.05), (0.82, 0.03)), ((0.82, 0.03), (0.6, 0.45), (0.42, 1.0)), ((0.32, 0.5), (0.78, 0.47))),
        (((0.06, 0.2), (0.2, 0.04), (0.5, 0.1), (0.76, 0.05), (0.74, 0.3), (0.56, 0.62), (0.46, 1.0)),),
    ),
    (
        (
            ((0.72, 0.14), (0.48, 0.0), (0.22, 0.14), (0.3, 0.36), (0.55, 0.52), (0.7, 0.76), (0.48, 0.99), (0.2, 0.86))
            + ((0.3, 0.6), (0.56, 0.42), (0.74, 0.22), (0.68, 0.06)),
        ),
        (
            ((0.46, 0.46), (0.22, 0.32), (0.26, 0.06), (0.52, 0.0), (0.7, 0.16), (0.64, 0.38), (0.44, 0.47)),
            ((0.46, 0.47), (0.18, 0.64), (0.2, 0.92), (0.48, 1.0), (0.74, 0.88), (0.7, 0.6), (0.46, 0.46)),
        ),
        (
            ((0.64, 0.1), (0.36, 0.02), (0.26, 0.22), (0.46, 0.45), (0.62, 0.72), (0.46, 0.98), (0.26, 0.84), (0.36, 0.58))
            + ((0.58, 0.36), (0.76, 0.12)),
        ),
    ),
    (
        (
            ((0.72, 0.12), (0.46, 0.0), (0.18, 0.16), (0.16, 0.4), (0.4, 0.48), (0.64, 0.34), (0.72, 0.12)),
            ((0.72, 0.12), (0.7, 0.5), (0.62, 1.0)),
        ),
        (
            ((0.66, 0.1), (0.4, 0.02), (0.18, 0.22), (0.24, 0.46), (0.5, 0.42), (0.68, 0.16)),
            ((0.68, 0.1), (0.66, 0.5), (0.56, 0.84), (0.4, 1.0)),
        ),
        (
            ((0.7, 0.2), (0.5, 0.02), (0.24, 0.12), (0.2, 0.38), (0.46, 0.46), (0.68, 0.26), (0.66, 0.55), (0.52, 0.8))
            + ((0.46, 1.0),),
        ),
    ),
)
# MNIST itself keeps each writer's pen and slant.
_AS_WRITTEN = Form(stroke_weight=False, deskew=False)


def generate_digits(count_per_class: int, seed: int) -> Dataset:
    """Draw `count_per_class` synthetic digits of each class, `(n, 28, 28, 1)` uint8 in MNIST's form: light ink on black."""
    labels = tuple(str(class_id) for class_id in range(len(GLYPHS)))
    return draw_balanced(
        labels, lambda class_id, rng: ink_form(draw_digit(class_id, rng, 112), _AS_WRITTEN), count_per_class, seed
    )


def draw_digit(class_id: int, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Draw one digit as a mask `(size, size)` uint8: 255 is ink, 0 is paper; the digit fills about three quarters of it."""
    if not 0 <= class_id < len(GLYPHS):
        raise InputError(f"expected a digit 0..9, got {class_id}")
    if size < 16:
        raise InputError(f"expected a size of at least 16 pixels, got {size}")
    variants = GLYPHS[class_id]
    glyph = variants[rng.integers(len(variants))]
    strokes = _deformed(_jittered(glyph, rng), rng)
    return _inked(_placed(strokes, size), size, rng)


def _jittered(glyph: Glyph, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Move the control points and return each stroke as a dense curve `(k, 2)`; strokes that met still meet, mostly."""
    moved: dict[tuple[float, float], NDArray[np.float64]] = {}
    wobble = rng.uniform(0.015, 0.06)
    for point in (point for stroke in glyph for point in stroke):
        moved.setdefault(point, np.array(point) + rng.normal(0, wobble, 2))
    return [_spline(np.array([moved[point] for point in stroke]) + rng.normal(0, 0.01, 2)) for stroke in glyph]


def _spline(points: NDArray[np.float64], steps: int = 8) -> NDArray[np.float64]:
    """Return the Catmull-Rom curve through `points` `(k, 2)`, `steps` points a span (Catmull and Rom, 1974)."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = (padded[i : i + len(points) - 1, None] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    linear, square = end - before, 2 * before - 5 * start + 4 * end - after
    curve = start + 0.5 * t * (linear + t * (square + t * (3 * (start - end) + after - before)))
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


def _deformed(strokes: list[NDArray[np.float64]], rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Bend the curves by a smooth random field, then slant, turn and stretch them."""
    turn, slant, stretch = rng.normal(0, 0.09), rng.normal(0.14, 0.22), rng.uniform(0.7, 1.15)
    affine = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array([[stretch, -slant], [0, 1]])
    phases, amplitudes = rng.uniform(0, 2 * np.pi, (2, 2)), rng.normal(0, 0.02, (2, 2))

    def bend(points: NDArray[np.float64]) -> NDArray[np.float64]:
        waves = np.sin(np.pi * 1.5 * points[:, None, ::-1] + phases) * amplitudes
        return np.asarray((points + waves.sum(axis=2) - 0.5) @ affine.T, np.float64)

    return [bend(stroke) for stroke in strokes]


def _placed(strokes: list[NDArray[np.float64]], size: int) -> list[NDArray[np.float64]]:
    """Scale and centre the curves so that the longer side of their box takes 0.7 of `size` pixels."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 0.7 * size / float((high - low).max())
    return [(stroke - (low + high) / 2) * scale + (size - 1) / 2 for stroke in strokes]


def _inked(strokes: list[NDArray[np.float64]], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the curves, in pixels, with a round pen whose width follows a slow random pressure."""
    mask = np.zeros((size, size), np.uint8)
    pen, swing = size * rng.uniform(0.055, 0.12), rng.uniform(0, 0.25)
    for stroke in strokes:
        phase, pace = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3)
        widths = pen * (1 + swing * np.sin(phase + pace * np.arange(len(stroke))))
        corners = np.round(stroke * 16).astype(int).tolist()
        for start, end, width in zip(corners[:-1], corners[1:], widths, strict=False):
            cv2.line(mask, start, end, 255, max(1, round(width)), cv2.LINE_AA, shift=4)
    # In a small mask the widest pen, rounded up, reaches the border: whoever looks for a digit there would see it cut off.
    mask[[0, -1]] = mask[:, [0, -1]] = 0
    return mask
