"""Synthetic hot-rolled steel: six kinds of surface damage, and plain strip, made of filtered noise and drawn marks.

Gray levels, grain, anisotropy and size of the marks follow statistics of the NEU training pictures (mean, spread, energy per
octave); no pixel of theirs is stored here. An accuracy measured on these pictures is never the product's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.synthetic.balanced import draw_balanced
from edgecnn.errors import InputError

Plane = NDArray[np.float32]
Size = tuple[int, int]

_SIDE = 200
_OCTAVES = (0.35, 1.0, 2.0, 4.0, 8.0, 16.0)


def generate_steel(count_per_class: int, seed: int) -> Dataset:
    """Draw `count_per_class` synthetic steel surfaces of each class, `(n, 200, 200, 1)` uint8, in NEU's class order."""
    labels = tuple(_SURFACES)
    return draw_balanced(labels, lambda class_id, rng: draw_surface(labels[class_id], rng), count_per_class, seed)


def draw_surface(label: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one synthetic surface `(200, 200)` uint8 with the damage `label`, one of NEU's classes."""
    if label not in _SURFACES:
        raise InputError(f"unknown damage {label!r}; known: {', '.join(_SURFACES)}")
    return _gray_levels(_SURFACES[label]((_SIDE, _SIDE), rng))


def steel_strip(height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw plain synthetic steel without damage, `(height, width)` uint8, rolled from top to bottom."""
    if height < 1 or width < 1:
        raise InputError(f"expected a strip of at least 1 x 1 pixels, got {height} x {width}")
    size_hw = (height, width)
    base = rng.uniform(100, 150) + _shade(size_hw, 5.0, 3.0, rng)
    plane = base + 2.0 * _noise(size_hw, 30.0, 1.5, rng) + _grain(size_hw, (1.5, 1.2, 0.8, 0.6, 0.5, 0.5), rng)
    return _gray_levels(np.asarray(plane, np.float32))


def paste_defect(strip: NDArray[np.uint8], label: str, top: int, left: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a copy of `strip` `(h, w)` uint8 with a 200 x 200 surface of the damage `label` faded in at `top`, `left`."""
    height, width = strip.shape
    if not (0 <= top <= height - _SIDE and 0 <= left <= width - _SIDE):
        raise InputError(f"a 200 x 200 defect at {top}, {left} does not fit into a strip of {height} x {width}")
    ramp = np.minimum(np.arange(1, _SIDE + 1), np.arange(_SIDE, 0, -1)) / 12.0
    weight = np.minimum(np.minimum.outer(ramp, ramp), 1.0).astype(np.float32)
    result = strip.copy()
    window = result[top : top + _SIDE, left : left + _SIDE]
    blend = window + weight * (draw_surface(label, rng).astype(np.float32) - window)
    window[:] = _gray_levels(np.asarray(blend, np.float32))
    return result


def _scratches(size_hw: Size, rng: np.random.Generator) -> Plane:
    """Bright thin lines and bands along the strip, on smooth dark steel."""
    base = rng.uniform(58, 118)
    plane = base + _shade(size_hw, 0.07 * base, 0.05 * base, rng) + 0.012 * base * _noise(size_hw, 25.0, 1.2, rng)
    plane += rng.uniform(0.7, 1.6) * _grain(size_hw, (1.2, 0.9, 0.9, 0.9, 1.2, 1.6), rng)
    for _ in range(rng.integers(0, 3)):
        plane -= rng.uniform(4, 18) * _spot(size_hw, rng, rng.uniform(8, 25), rng.uniform(8, 30))
    if rng.random() < 0.25:
        plane -= _streaks(size_hw, rng, int(rng.integers(2, 9)), depth=(5.0, 25.0), width=(1.0, 3.0))
    plane += rng.uniform(10, 60) * _streaks(size_hw, rng, int(rng.integers(1, 6)), depth=(0.1, 0.6), width=(1.0, 2.0))
    for draw in rng.choice(np.array([_line, _band, _bundle, _dashes], object), rng.integers(1, 4), p=[0.45, 0.2, 0.2, 0.15]):
        plane = np.maximum(plane, draw(size_hw, rng)) if draw is _band else plane + draw(size_hw, rng)
    return np.ascontiguousarray(plane.T) if rng.random() < 0.12 else plane


def _rolled_in_scale(size_hw: Size, rng: np.random.Generator) -> Plane:
    """Clusters of small dark smudges lying across the strip, on brushed mottled gray."""
    base = rng.uniform(72, 92) if rng.random() < 0.3 else rng.uniform(115, 148)
    contrast = 0.45 + 0.55 * base / 125
    plane = base + _shade(size_hw, 9.0, 3.0, rng) * contrast
    grain = _grain(size_hw, (5.6, 1.9, 2.0, 2.6, 3.6, 3.8), rng) + _brushed(size_hw, rng, 3.8)
    zone = np.exp(-(((np.arange(size_hw[1]) / size_hw[1] - rng.uniform(0.1, 0.9)) / rng.uniform(0.15, 0.45)) ** 2))
    density = 0.9 * zone[None, :].astype(np.float32) + 0.8 * _noise(size_hw, 11.0, 10.0, rng)
    smudges = _smoothstep(_noise(size_hw, 1.5, 2.6, rng) + 0.4 * _noise(size_hw, 0.8, 1.8, rng) + density, 1.8, 4.6)
    glow = np.asarray(cv2.GaussianBlur(smudges, (0, 0), 5.0), np.float32)
    plane += contrast * (grain + 20.0 * glow - rng.uniform(42, 70) * smudges)
    if rng.random() < 0.2:
        plane -= _streak(size_hw, rng, 30.0, 2.5, rng.uniform(12, 40), rng.uniform(-1.2, 1.2))
    return plane


def _pitted_surface(size_hw: Size, rng: np.random.Generator) -> Plane:
    """A dense rash of small dark pits under strong uneven light that often saturates the sensor."""
    light = rng.uniform(115, 255) + _slope(size_hw, rng, 45.0) + rng.uniform(4, 16) * _noise(size_hw, 50.0, 25.0, rng)
    light += rng.uniform(0, 4) * _noise(size_hw, 90.0, 6.0, rng)
    size = rng.uniform(0.95, 1.3)
    field = _noise(size_hw, 1.15 * size, size, rng)
    # Less its own mean over a few pits the field is even: pits keep a distance from each other.
    field = 1.3 * (field - np.asarray(cv2.GaussianBlur(field, (0, 0), 2.5 * size), np.float32))
    patchy = np.clip(0.75 + 0.3 * _noise(size_hw, 40.0, 30.0, rng), 0.15, 1.3)
    depth = rng.uniform(14, 66) * patchy * np.clip(light / 190, 0.2, 1.2)
    plane = light - depth * _smoothstep(field, -0.7, 2.6) + _grain(size_hw, (2.4, 1.4, 0.9, 0.7, 0.8, 1.5), rng)
    if rng.random() < 0.45:
        size = rng.uniform(2.2, 4.0)
        crowd = 0.8 * _noise(size_hw, 30.0, 18.0, rng)
        holes = _smoothstep(_noise(size_hw, size * 1.2, size, rng) + 0.15 * _noise(size_hw, 1.2, 1.2, rng) + crowd, 1.8, 3.6)
        plane -= rng.uniform(30, 80) * holes * np.clip(light / 190, 0.4, 1.2)
    if rng.random() < 0.3:
        plane -= rng.uniform(8, 25) * _smoothstep(_noise(size_hw, 40.0, 6.0, rng), 0.8, 2.6)
    return np.asarray(plane, np.float32)


def _patches(size_hw: Size, rng: np.random.Generator) -> Plane:
    """Large dark blotches, longer along the strip, with soft rims, on bright coarse-grained steel."""
    base = rng.uniform(70, 110) if rng.random() < 0.2 else rng.uniform(150, 225)
    light = base * (1 + _shade(size_hw, 0.13, 0.06, rng) + _slope(size_hw, rng, 0.2, across=True))
    shape = _noise(size_hw, rng.uniform(16, 28), rng.uniform(10, 15), rng) + 0.14 * _noise(size_hw, 5.0, 4.0, rng)
    shape += 0.08 * _noise(size_hw, 1.2, 1.2, rng)
    # The threshold follows the quantile of the field, so that every picture has blotches.
    edge = float(np.quantile(shape, 1 - rng.uniform(0.08, 0.4)))
    blotch = _smoothstep(shape, edge - 0.4, edge + 0.5)
    left = np.clip(rng.uniform(0.25, 0.42) + 0.06 * _noise(size_hw, 12.0, 8.0, rng), 0.15, 0.7)
    texture = _grain(size_hw, (0.055, 0.042, 0.032, 0.03, 0.035, 0.04), rng) + _brushed(size_hw, rng, 0.03)
    texture += 0.02 * _noise(size_hw, 12.0, 0.7, rng)
    plane = light * (1 - (1 - left) * blotch) * (1 + texture * (1 + 0.4 * blotch))
    if rng.random() < 0.35:
        crumbs = 0.8 * _noise(size_hw, 1.2, 1.6, rng) + 0.4 * _noise(size_hw, 0.7, 0.8, rng)
        crumbs += 1.2 * _noise(size_hw, 10.0, 8.0, rng)
        plane *= 1 - 0.75 * _smoothstep(crumbs, 2.9, 3.7)
    return np.asarray(plane, np.float32)


def _inclusion(size_hw: Size, rng: np.random.Generator) -> Plane:
    """Dark spindles along the strip on smooth gray steel."""
    base = rng.uniform(150, 215) if rng.random() < 0.1 else rng.uniform(76, 124)
    plane = base + _shade(size_hw, 6.5, 3.5, rng) + _slope(size_hw, rng, 13.0)
    plane += 0.7 * _noise(size_hw, 20.0, 1.0, rng) + rng.uniform(0.2, 0.9) * _noise(size_hw, 0.7, 8.0, rng)
    plane += rng.uniform(0.7, 1.4) * _grain(size_hw, (1.2, 0.7, 0.9, 1.0, 1.4, 1.4), rng) + 0.9 * _noise(size_hw, 6.0, 2.5, rng)
    depth = 0.12 * min(base, 130.0)
    for _ in range(rng.integers(0, 3)):
        plane -= _streak(size_hw, rng, rng.uniform(0.8, 1.8) * depth, rng.uniform(4, 14), rng.uniform(100, 300), 0.0)
    return plane - _streaks(size_hw, rng, int(rng.integers(5, 22)), depth=(0.8 * depth, 2.8 * depth), width=(1.6, 6.5))


def _crazing(size_hw: Size, rng: np.random.Generator) -> Plane:
    """A net of fine cracks, mostly across the strip, on coarse-grained steel with light and dark columns."""
    light = rng.uniform(115, 192) + _shade(size_hw, 13.0, 3.0, rng) + _slope(size_hw, rng, 16.0, across=True)
    texture = (
        _grain(size_hw, (10.5, 11.0, 8.4, 6.4, 4.2, 3.2), rng)
        + _brushed(size_hw, rng, 5.0)
        + 3.5 * _noise(size_hw, 4.0, 0.7, rng)
    )
    cracks = np.zeros(size_hw, np.uint8)
    for _ in range(rng.integers(8, 26)):
        _draw_crack(cracks, rng)
    depth = np.asarray(cv2.GaussianBlur(cracks, (0, 0), 0.7), np.float32) / 255
    uneven = np.clip(0.8 + 0.5 * _noise(size_hw, 5.0, 5.0, rng), 0.1, 1.6)
    plane = light + light / 140 * texture - rng.uniform(0.45, 0.7) * light * depth * uneven
    if rng.random() < 0.5:
        crumbs = 0.8 * _noise(size_hw, 3.0, 1.8, rng) + 0.2 * _noise(size_hw, 0.8, 0.8, rng) + _noise(size_hw, 14.0, 8.0, rng)
        plane -= 0.5 * light * _smoothstep(crumbs, 2.6, 3.6)
    return np.asarray(plane, np.float32)


# In NEU's class order.
_SURFACES: dict[str, Callable[[Size, np.random.Generator], Plane]] = {
    "scratches": _scratches,
    "rolled-in_scale": _rolled_in_scale,
    "pitted_surface": _pitted_surface,
    "patches": _patches,
    "inclusion": _inclusion,
    "crazing": _crazing,
}


def _gray_levels(plane: Plane) -> NDArray[np.uint8]:
    """Round and clip to 0..255 as a camera does."""
    return np.asarray(np.clip(np.rint(plane), 0, 255), np.uint8)


def _noise(size_hw: Size, sigma_y: float, sigma_x: float, rng: np.random.Generator) -> Plane:
    """Return a Gaussian field `size_hw` float32 of zero mean and unit variance, smooth over `sigma` pixels each way.

    A field that is smooth over many pixels is made on a coarser grid and enlarged, which is much quicker.
    """
    step_y, step_x = max(1, int(sigma_y / 2)), max(1, int(sigma_x / 2))
    shape = (size_hw[0] // step_y + 2, size_hw[1] // step_x + 2)
    field = rng.standard_normal(shape, np.float32)
    kernel_y, kernel_x = (cv2.getGaussianKernel(2 * math.ceil(3 * s) + 1, s) for s in (sigma_y / step_y, sigma_x / step_x))
    field = np.asarray(cv2.sepFilter2D(field, cv2.CV_32F, kernel_x, kernel_y, borderType=cv2.BORDER_REFLECT_101), np.float32)
    field /= np.float32(np.linalg.norm(kernel_y) * np.linalg.norm(kernel_x))
    if step_y == step_x == 1:
        return np.ascontiguousarray(field[: size_hw[0], : size_hw[1]])
    enlarged = cv2.resize(field, (shape[1] * step_x, shape[0] * step_y), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged[: size_hw[0], : size_hw[1]], np.float32)


def _grain(size_hw: Size, amplitudes: tuple[float, ...], rng: np.random.Generator) -> Plane:
    """Return isotropic grain: the sum of one unit field per octave of `_OCTAVES` pixels times its amplitude."""
    plane = np.zeros(size_hw, np.float32)
    for sigma, amplitude in zip(_OCTAVES, amplitudes, strict=True):
        plane += amplitude * _noise(size_hw, sigma, sigma, rng)
    return plane


def _brushed(size_hw: Size, rng: np.random.Generator, amplitude: float) -> Plane:
    """Return the fine parallel traces of brushing, nearly across the strip, of standard deviation `amplitude`."""
    angle, side = rng.normal(-0.12, 0.15), 21
    y, x = np.mgrid[:side, :side].astype(np.float32) - side // 2
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = np.exp(-((along / 6) ** 2) - (across / 0.9) ** 2).astype(np.float32)
    kernel *= amplitude / np.linalg.norm(kernel)
    return np.asarray(cv2.filter2D(rng.standard_normal(size_hw, np.float32), -1, kernel), np.float32)


def _shade(size_hw: Size, columns: float, rows: float, rng: np.random.Generator) -> Plane:
    """Return uneven light: columns along the strip of deviation `columns`, and a slow change of `rows` down it."""
    tall, flat = (size_hw[0], 1), (1, size_hw[1])
    across = 0.8 * _noise(flat, 1.0, 40.0, rng) + 0.5 * _noise(flat, 1.0, 12.0, rng) + 0.3 * _noise(flat, 1.0, 4.0, rng)
    plane = columns * across + rows * _noise(tall, 35.0, 1.0, rng)
    return np.asarray(plane + 0.5 * rows * _noise(size_hw, 30.0, 25.0, rng), np.float32)


def _slope(size_hw: Size, rng: np.random.Generator, amplitude: float, across: bool = False) -> Plane:
    """Return light that falls off linearly to one side, random or across the strip; `amplitude` deviates the total fall."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in size_hw)
    angle = rng.choice([0.0, math.pi]) if across else rng.uniform(0, 2 * math.pi)
    fall = abs(rng.normal(0, amplitude)) * (math.sin(angle) * y[:, None] + math.cos(angle) * x[None, :])
    return np.asarray(fall, np.float32)


def _smoothstep(field: Plane, low: float, high: float) -> Plane:
    """Map values below `low` to 0 and above `high` to 1, smoothly between."""
    t = np.clip((field - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _spot(size_hw: Size, rng: np.random.Generator, sigma_y: float, sigma_x: float) -> Plane:
    """Return one soft spot of height 1 somewhere."""
    y, x = ((np.arange(n) - rng.uniform(0, n)) / sigma for n, sigma in zip(size_hw, (sigma_y, sigma_x), strict=True))
    return np.asarray(np.outer(np.exp(-y * y / 2), np.exp(-x * x / 2)), np.float32)


def _streaks(
    size_hw: Size, rng: np.random.Generator, count: int, depth: tuple[float, float], width: tuple[float, float]
) -> Plane:
    """Return `count` spindles that gather in one place, `depth` (from, to) gray levels and `width` (from, to) pixels."""
    centre, spread = rng.uniform(0.15, 0.85, 2), rng.uniform(0.05, 0.35)
    plane = np.zeros(size_hw, np.float32)
    for _ in range(count):
        thick = rng.uniform(*width)
        where = centre + rng.normal(0, (0.3, spread), 2)
        mark = _streak(size_hw, rng, rng.uniform(*depth), thick, thick * rng.uniform(5, 14), rng.normal(0, 0.05), where)
        np.maximum(plane, mark, out=plane)
    return plane


def _streak(
    size_hw: Size,
    rng: np.random.Generator,
    depth: float,
    width: float,
    length: float,
    angle: float,
    where: NDArray[np.float64] | None = None,
) -> Plane:
    """Return one spindle with frayed sides: `depth` gray levels, `width` x `length` pixels, `angle` radians off the strip."""
    centre_y, centre_x = (rng.uniform(0.1, 0.9, 2) if where is None else where) * np.array(size_hw)
    rows = np.arange(size_hw[0], dtype=np.float32)[:, None]
    t = (rows - centre_y) / (max(length, 1.0) * math.cos(angle) / 2)
    tall = (size_hw[0], 1)
    bend = min(0.3 * width, 1.5) * _noise(tall, 35.0, 1.0, rng) + math.tan(angle) * (rows - centre_y)
    distance = np.arange(size_hw[1], dtype=np.float32)[None, :] - centre_x - bend
    fray = min(0.1 * width, 0.7)
    left, right = (width / 2 * (1 - t * t) + fray * _noise(tall, s, 1.0, rng) for s in (2.0, 5.0))
    inside = np.clip(np.minimum(left + distance, right - distance) / 2.6 + 0.5, 0, 1)
    return np.asarray(depth * inside * (np.abs(t) < 1), np.float32)


def _torn(size_hw: Size, rng: np.random.Generator) -> Plane:
    """Return the uneven brightness of scratched metal, about 1, finely grained and with gaps along the strip."""
    level = 0.85 + 0.22 * _noise(size_hw, 3.0, 0.7, rng) + rng.uniform(0.05, 0.4) * _noise(size_hw, 20.0, 2.0, rng)
    return np.asarray(np.clip(level, 0.1, 1.6), np.float32)


def _line(size_hw: Size, rng: np.random.Generator) -> Plane:
    """Return one bright scratch, thin, through the whole picture or a part of it."""
    length = rng.choice([rng.uniform(60, 160), rng.uniform(300, 900)], p=[0.3, 0.7])
    mark = _streak(size_hw, rng, rng.uniform(60, 150), rng.uniform(1.5, 5), length, rng.normal(0, 0.05))
    return mark * _torn(size_hw, rng)


def _band(size_hw: Size, rng: np.random.Generator) -> Plane:
    """Return a wide torn band, as gray levels to lay over the surface: saturated, with darker lines along it."""
    mark = _streak(size_hw, rng, 1.0, rng.uniform(8, 26), rng.uniform(400, 1500), rng.normal(0, 0.03))
    inside = rng.uniform(190, 265) + rng.uniform(10, 35) * _noise(size_hw, 90.0, 0.9, rng) + 22 * _noise(size_hw, 2.5, 1.5, rng)
    return np.asarray(mark * inside, np.float32)


def _bundle(size_hw: Size, rng: np.random.Generator) -> Plane:
    """Return a few parallel fine scratches close together."""
    plane, angle, x = np.zeros(size_hw, np.float32), rng.normal(0, 0.04), rng.uniform(0.1, 0.9)
    for _ in range(rng.integers(3, 7)):
        x += rng.uniform(4, 12) / size_hw[1]
        where = np.array([rng.uniform(0.3, 0.7), x])
        plane += _streak(size_hw, rng, rng.uniform(25, 140), rng.uniform(1.2, 3.5), rng.uniform(200, 700), angle, where)
    return plane * _torn(size_hw, rng)


def _dashes(size_hw: Size, rng: np.random.Generator) -> Plane:
    """Return short bright slanted scratches that gather in one place."""
    plane, angle, centre = np.zeros(size_hw, np.float32), rng.normal(0, 0.25), rng.uniform(0.2, 0.8, 2)
    for _ in range(rng.integers(3, 9)):
        where, tilt = centre + rng.normal(0, 0.14, 2), angle + rng.normal(0, 0.05)
        plane += _streak(size_hw, rng, rng.uniform(50, 150), rng.uniform(1.2, 4.5), rng.uniform(15, 90), tilt, where)
    return plane * _torn(size_hw, rng)


def _draw_crack(cracks: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Draw one jagged crack into the mask `(h, w)` uint8: short steps, mostly across, now and then a fork."""
    steps, heading = int(rng.integers(8, 45)), rng.choice([0.0, math.pi]) + rng.normal(0, 0.3)
    turns = heading + rng.normal(0, 0.75, steps)
    moves = rng.uniform(1, 4, (steps, 1)) * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    points = rng.uniform(0, 1, 2) * (cracks.shape[1], cracks.shape[0]) + np.cumsum(moves, axis=0)
    strength = rng.uniform(80, 255)
    forks = points[rng.random(steps) < 0.1]
    pairs = [*itertools.pairwise(points), *zip(forks, forks + rng.normal(0, 5, forks.shape), strict=True)]
    for start, end in pairs:
        ends = np.round(np.stack([start, end]) * 16).astype(int).tolist()
        gray, width = int(strength * rng.uniform(0.4, 1.0)), 2 if rng.random() < 0.3 else 1
        cv2.line(cracks, ends[0], ends[1], gray, width, cv2.LINE_AA, shift=4)
