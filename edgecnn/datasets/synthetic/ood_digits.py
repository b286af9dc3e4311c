"""Out-of-distribution marks, not digits, by kind, to see whether a digit model accepts them.

Each in the form that the camera gives a digit.

The letters, parts, pairs, rules, scribbles and smudges are of other making than those that `camera_digits` makes to train
on; figures and textures are not there at all. What nobody can tell from a digit is left out: O, l, S, circles, single
strokes, the right half of a 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.digits import draw_digit
from edgecnn.datasets.synthetic.ood_surfaces import generate_other_surfaces
from edgecnn.mnist_form import SIDE, mnist_form

Canvas = NDArray[np.uint8]
Rng = np.random.Generator
Points = tuple[tuple[float, float], ...]
_CANVAS = 112
# Block letters as pen strokes, x to the right and y down.
_LETTERS: dict[str, tuple[Points, ...]] = {
    "A": (((0.0, 1.0), (0.5, 0.0), (1.0, 1.0)), ((0.2, 0.6), (0.8, 0.6))),
    "E": (((0.8, 0.0), (0.0, 0.0), (0.0, 1.0), (0.8, 1.0)), ((0.0, 0.5), (0.6, 0.5))),
    "F": (((0.8, 0.0), (0.0, 0.0), (0.0, 1.0)), ((0.0, 0.5), (0.6, 0.5))),
    "H": (((0.0, 0.0), (0.0, 1.0)), ((0.9, 0.0), (0.9, 1.0)), ((0.0, 0.5), (0.9, 0.5))),
    "K": (((0.0, 0.0), (0.0, 1.0)), ((0.8, 0.0), (0.0, 0.6)), ((0.2, 0.45), (0.8, 1.0))),
    "M": (((0.0, 1.0), (0.1, 0.0), (0.5, 0.7), (0.9, 0.0), (1.0, 1.0)),),
    "N": (((0.0, 1.0), (0.0, 0.0), (0.8, 1.0), (0.8, 0.0)),),
    "P": (((0.0, 1.0), (0.0, 0.0), (0.6, 0.05), (0.7, 0.25), (0.6, 0.48), (0.0, 0.5)),),
    "R": (((0.0, 1.0), (0.0, 0.0), (0.6, 0.05), (0.7, 0.25), (0.6, 0.48), (0.0, 0.5)), ((0.3, 0.5), (0.8, 1.0))),
    "T": (((0.0, 0.0), (1.0, 0.0)), ((0.5, 0.0), (0.5, 1.0))),
    "W": (((0.0, 0.0), (0.25, 1.0), (0.5, 0.3), (0.75, 1.0), (1.0, 0.0)),),
    "X": (((0.0, 0.0), (0.9, 1.0)), ((0.9, 0.0), (0.0, 1.0))),
    "k": (((0.0, 0.0), (0.0, 1.0)), ((0.5, 0.45), (0.0, 0.75)), ((0.15, 0.65), (0.5, 1.0))),
    "m": (((0.0, 1.0), (0.0, 0.5), (0.3, 0.5), (0.4, 0.65), (0.4, 1.0), (0.4, 0.6), (0.75, 0.5), (0.85, 0.65), (0.85, 1.0)),),
}
_FIGURES: tuple[tuple[Points, ...], ...] = (
    (((0.0, 1.0), (0.5, 0.0), (1.0, 1.0), (0.0, 1.0)),),  # triangle
    (((0.0, 0.5), (1.0, 0.5)), ((0.65, 0.2), (1.0, 0.5), (0.65, 0.8))),  # arrow
    (((0.2, 1.0), (0.5, 0.0), (0.8, 1.0), (0.0, 0.38), (1.0, 0.38), (0.2, 1.0)),),  # star
    (((0.0, 0.5), (1.0, 0.5)), ((0.5, 0.0), (0.5, 1.0))),  # plus
    (((0.0, 0.3), (1.0, 0.3)), ((0.0, 0.7), (1.0, 0.7))),  # equals
    (((0.0, 0.55), (0.35, 1.0), (1.0, 0.0)),),  # tick
    (((0.0, 0.5), (0.2, 0.1), (0.4, 0.9), (0.6, 0.1), (0.8, 0.9), (1.0, 0.5)),),  # zigzag
    (
        ((0.0, 1.0), (0.0, 0.45), (0.5, 0.0), (1.0, 0.45), (1.0, 1.0), (0.0, 1.0)),
        ((0.4, 1.0), (0.4, 0.7), (0.6, 0.7), (0.6, 1.0)),
    ),
    (
        ((0.5, 1.0), (0.0, 0.4), (0.1, 0.05), (0.4, 0.05), (0.5, 0.3), (0.6, 0.05), (0.9, 0.05), (1.0, 0.4), (0.5, 1.0)),
    ),  # heart
)


def generate_other_marks(count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Return `count` pictures `(count, 28, 28, 1)` uint8, light on black, of each kind."""
    kinds = {
        kind: np.stack([draw(np.random.default_rng((seed, number, i))) for i in range(count)])[..., None]
        for number, (kind, draw) in enumerate(_KINDS.items())
    }
    surfaces = generate_other_surfaces(-(-count // 12), seed).values()
    textures = [mnist_form(_reduced(surface[..., 0])) for of_kind in zip(*surfaces, strict=True) for surface in of_kind]
    return kinds | {"textures": np.stack(textures[:count])[..., None]}


def _reduced(surface: Canvas) -> Canvas:
    return np.asarray(cv2.resize(surface, (64, 64), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


def _photographed(ink: Canvas, rng: Rng) -> Canvas:
    """Photograph ink on paper and bring it to the model's form `(28, 28)`."""
    side = int(rng.integers(36, 100))
    drawn = cv2.resize(cv2.GaussianBlur(ink, (0, 0), 0.5 * _CANVAS / side), (side, side), interpolation=cv2.INTER_LINEAR_EXACT)
    paper = rng.uniform(120, 240) + rng.uniform(-8, 8) * np.linspace(-1, 1, side)
    gray = paper * (1 - rng.uniform(0.5, 0.9) * drawn / 255.0) + rng.normal(0, rng.uniform(0, 4), (side, side))
    return mnist_form(np.clip(gray, 0, 255).astype(np.uint8))


def _penned(strokes: tuple[Points, ...], rng: Rng) -> Canvas:
    """Draw strokes with a wobbling pen, turned, slanted and stretched a little."""
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    turn, slant, wide = rng.normal(0, 0.1), rng.normal(0, 0.15), rng.uniform(0.7, 1.1)
    linear = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) @ [[wide, -slant], [0, 1]]
    width = int(rng.integers(4, 13))
    for stroke in strokes:
        points = (np.array(stroke) - 0.5 + rng.normal(0, 0.035, (len(stroke), 2))) @ linear.T * 76 + _CANVAS / 2
        cv2.polylines(canvas, [np.round(points * 16).astype(np.int32)], False, 255, width, cv2.LINE_AA, shift=4)
    return canvas


def _letter(rng: Rng) -> Canvas:
    return _photographed(_penned(_LETTERS[str(rng.choice(list(_LETTERS)))], rng), rng)


def _figure(rng: Rng) -> Canvas:
    return _photographed(_penned(_FIGURES[int(rng.integers(len(_FIGURES)))], rng), rng)


def _part(rng: Rng) -> Canvas:
    """Return the left part of a digit, or either of a 0: the right part of a 3 or an 8 may be read as a 3."""
    class_id = int(rng.choice([0, 2, 3, 5, 8]))
    ink = draw_digit(class_id, rng, _CANVAS)
    columns = np.flatnonzero(ink.any(axis=0))
    cut = int(columns[0] + rng.uniform(0.45, 0.55) * np.ptp(columns))
    ink[:, slice(None, cut) if class_id == 0 and rng.random() < 0.5 else slice(cut, None)] = 0
    return _photographed(ink, rng)


def _pair(rng: Rng) -> Canvas:
    """Return two digits beside each other, from overlapping to a digit's width apart."""
    left, right = (draw_digit(int(rng.integers(10)), rng, 80) for _ in range(2))
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    shift = int(rng.integers(0, 32))
    canvas[16:96, : 80 - shift // 2] = left[:, shift // 2 :]
    at = _CANVAS - 80
    canvas[16:96, at:] = np.maximum(canvas[16:96, at:], right)
    return _photographed(canvas, rng)


def _rules(rng: Rng) -> Canvas:
    """Return a piece of squared or lined paper, or of a table: two lines or more each way, a little turned."""
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    step, turn, width = rng.uniform(14, 34), rng.normal(0, 0.06), int(rng.integers(1, 5))
    centre = np.full(2, _CANVAS / 2) + rng.uniform(-6, 6, 2)
    reach = rng.uniform(22, 46, 2)
    for axis in range(2):
        along = np.array([math.cos(turn), math.sin(turn)]) if axis == 0 else np.array([-math.sin(turn), math.cos(turn)])
        across = np.array([-along[1], along[0]])
        for offset in np.arange(-reach[1 - axis], reach[1 - axis] + 1, step):
            ends = np.round(np.stack([centre + offset * across + s * reach[axis] * along for s in (-1, 1)])).astype(np.int32)
            cv2.polylines(canvas, [ends], False, 255, width, cv2.LINE_AA)
    return _photographed(canvas, rng)


def _scribble(rng: Rng) -> Canvas:
    """Return a smooth line that crosses itself, as when one tries a pen."""
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    t = np.linspace(0, 2 * math.pi * rng.uniform(2.5, 5), 160)
    pace, phase = rng.uniform(0.6, 2.2, 2), rng.uniform(0, 2 * math.pi, 2)
    swing = 26 + 8 * np.sin(0.37 * t + rng.uniform(0, 6))
    points = np.stack([swing * np.sin(pace[0] * t + phase[0]), swing * np.sin(pace[1] * t + phase[1])], axis=1) + _CANVAS / 2
    points[:, 0] += np.linspace(-14, 14, len(t))
    cv2.polylines(canvas, [np.round(points).astype(np.int32)], False, 255, int(rng.integers(2, 7)), cv2.LINE_AA)
    return _photographed(canvas, rng)


def _smudge(rng: Rng) -> Canvas:
    """Return a few blots that run into each other, one of them smeared."""
    canvas = np.zeros((_CANVAS, _CANVAS), np.float32)
    for _ in range(int(rng.integers(2, 7))):
        centre = np.round(_CANVAS / 2 + rng.normal(0, 14, 2)).astype(int).tolist()
        axes = rng.integers(6, 22, 2).tolist()
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    length = int(rng.integers(3, 30))
    blurred = cv2.GaussianBlur(cv2.blur(canvas, (length, 3)), (0, 0), rng.uniform(1, 4))
    return _photographed((255 * np.clip(2 * blurred - 0.5, 0, 1)).astype(np.uint8), rng)


def _noise(rng: Rng) -> Canvas:
    """Return the form of a picture of noise, fine or coarse."""
    side, sigma = int(rng.integers(28, 80)), rng.uniform(0.3, 5)
    field = cv2.GaussianBlur(rng.normal(0, 1, (side, side)), (0, 0), sigma)
    contrast = rng.uniform(5, 60) / max(float(field.std()), 1e-6)
    return mnist_form(np.clip(128 + contrast * field, 0, 255).astype(np.uint8))


def _blank(rng: Rng) -> Canvas:
    """Return the form of blank paper: empty, or of its grain where a sensor shows some."""
    if rng.random() < 0.3:
        return np.zeros((SIDE, SIDE), np.uint8)
    side = int(rng.integers(28, 80))
    fall = rng.uniform(-25, 25) * np.linspace(-1, 1, side)[:, None] + rng.uniform(-25, 25) * np.linspace(-1, 1, side)[None, :]
    gray = rng.uniform(90, 230) + fall + rng.normal(0, rng.uniform(0.3, 3), (side, side))
    return mnist_form(np.clip(np.rint(gray), 0, 255).astype(np.uint8))


_KINDS: dict[str, Callable[[Rng], Canvas]] = {
    "letters": _letter,
    "figures": _figure,
    "parts of digits": _part,
    "pairs of digits": _pair,
    "rules": _rules,
    "scribbles": _scribble,
    "smudges": _smudge,
    "noise": _noise,
    "blank paper": _blank,
}
