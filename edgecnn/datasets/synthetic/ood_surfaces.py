"""Out-of-distribution surfaces, by kind: no damage to steel, to see whether a model accepts them.

What a camera over a steel line may see besides steel damage. None of these painters stands in
`edgecnn.datasets.synthetic.outliers`, which models are trained on, but plain steel itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.steel import steel_strip

Plane = NDArray[np.float32]
Rng = np.random.Generator
_SIDE = 200
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)
_TEXT = "ABCDEFGHKLMNPRSTUVWXYZabdefghkmnpqrtuy0123456789"


def generate_other_surfaces(count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Return `count` read-only pictures `(count, 200, 200, 1)` uint8 of each kind; a larger set begins with the smaller one."""
    return dict(_drawn(count, seed))


@functools.lru_cache(maxsize=2)  # for two measurements: drawing takes longer than all else about a small export
def _drawn(count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    drawn = {
        kind: np.stack([_seen(draw, np.random.default_rng((seed, number, i))) for i in range(count)])[..., None]
        for number, (kind, draw) in enumerate(_KINDS.items())
    }
    for pictures in drawn.values():
        pictures.flags.writeable = False
    return drawn


def _seen(draw: Callable[[Rng], Plane], rng: Rng) -> NDArray[np.uint8]:
    """Draw, turn by quarter turns, and let a sensor add its noise."""
    plane = np.rot90(draw(rng), int(rng.integers(4)))
    return np.clip(np.rint(plane + rng.normal(0, rng.uniform(0, 4), plane.shape)), 0, 255).astype(np.uint8)


def _soft(rng: Rng, sigma_y: float, sigma_x: float, shape: tuple[int, int] = (_SIDE, _SIDE)) -> Plane:
    """Return a Gaussian field of mean 0 and deviation 1, smooth over `sigma` pixels each way."""
    field = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def _grid() -> tuple[Plane, Plane]:
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    return y, x


def _steel(rng: Rng) -> Plane:
    return steel_strip(_SIDE, _SIDE, rng).astype(np.float32)


def _exposures(rng: Rng) -> Plane:
    """A covered lens, the lamp in the picture, a flat gray card."""
    level = rng.choice([rng.uniform(0, 20), rng.uniform(236, 262), rng.uniform(60, 200)])
    y, x = _grid()
    fall = rng.normal(0, 12) * (y / _SIDE - 0.5) + rng.normal(0, 12) * (x / _SIDE - 0.5)
    return np.asarray(level + fall, np.float32)


def _noise(rng: Rng) -> Plane:
    """No signal: sensor noise, coarse noise, salt and pepper, coloured by rows."""
    choice = int(rng.integers(4))
    if choice == 0:
        return rng.normal(rng.uniform(60, 190), rng.uniform(15, 80), (_SIDE, _SIDE)).astype(np.float32)
    if choice == 1:
        block = int(rng.integers(2, 12))
        small = rng.uniform(0, 255, (_SIDE // block + 1, _SIDE // block + 1)).astype(np.float32)
        return np.asarray(np.kron(small, np.ones((block, block), np.float32))[:_SIDE, :_SIDE])
    if choice == 2:
        share, gray = rng.uniform(0.02, 0.4), rng.uniform(60, 190)
        return np.where(rng.random((_SIDE, _SIDE)) < share, rng.choice([0.0, 255.0], (_SIDE, _SIDE)), gray).astype(np.float32)
    rows = rng.normal(0, rng.uniform(10, 50), (_SIDE, 1))
    return np.asarray(rng.uniform(60, 190) + rows + rng.normal(0, 12, (_SIDE, _SIDE)), np.float32)


def _brushed_metal(rng: Rng) -> Plane:
    """Aluminium or stainless steel with its even, long, fine lines and a sheen."""
    lines = _soft(rng, rng.uniform(25, 60), rng.uniform(0.4, 0.9))
    _, x = _grid()
    sheen = rng.uniform(0, 50) * np.cos((x / _SIDE - rng.uniform(0, 1)) * rng.uniform(2, 7))
    return np.asarray(rng.uniform(100, 200) + rng.uniform(6, 25) * lines + sheen, np.float32)


def _wood(rng: Rng) -> Plane:
    """A board: distorted year rings, pores along the grain, sometimes a knot."""
    y, x = _grid()
    x = x + rng.uniform(2, 14) * _soft(rng, 60, 15) + 0.02 * (y - 100) * rng.normal(0, 3)
    if rng.random() < 0.4:
        knot_y, knot_x = rng.uniform(40, 160, 2)
        x = x + 40 * np.exp(-((y - knot_y) ** 2 / 900 + (x - knot_x) ** 2 / 400)) * np.sign(x - knot_x)
    rings = (x / rng.uniform(8, 28)) % 1.0
    pores = np.maximum(_soft(rng, 12, 0.7) - 1.3, 0)
    return np.asarray(rng.uniform(90, 190) + rng.uniform(15, 60) * (rings - 0.5) - rng.uniform(10, 40) * pores, np.float32)


def _fabric(rng: Rng) -> Plane:
    """A weave of over- and under-going threads, or a knit."""
    y, x = _grid()
    bend = rng.uniform(0, 1.5) * _soft(rng, 20, 20)
    u, v = ((axis + bend) / rng.uniform(3.5, 12) for axis in (x, y))
    over = (np.floor(u) + np.floor(v) * (2 if rng.random() < 0.4 else 1)) % (2 if rng.random() < 0.6 else 3) < 1
    thread = np.where(over, np.abs(np.sin(np.pi * v)), np.abs(np.sin(np.pi * u)))
    fuzz = rng.uniform(2, 14) * _soft(rng, 0.8, 0.8)
    return np.asarray(rng.uniform(30, 130) + rng.uniform(30, 120) * thread + fuzz, np.float32)


def _bricks(rng: Rng) -> Plane:
    """A wall or tiles: rough stones of differing gray in mortar."""
    height, width = rng.uniform(14, 60), rng.uniform(25, 110)
    y, x = _grid()
    row = np.floor((y + rng.uniform(0, height)) / height)
    along = x + rng.uniform(0, width) + (row % 2) * width * rng.choice([0.0, 0.5])
    across = (y + rng.uniform(0, height)) % height
    column = np.floor(along / width)
    gray = rng.normal(0, rng.uniform(5, 30), (64, 64))[row.astype(int) % 64, column.astype(int) % 64]
    joint = rng.uniform(1.5, 6)
    mortar = (along % width < joint) | (across < joint)
    rough = rng.uniform(3, 16) * _soft(rng, 1.5, 1.5) + rng.uniform(0, 10) * _soft(rng, 6, 6)
    stone = rng.uniform(70, 170) + gray + rough
    return np.where(mortar, rng.uniform(40, 220) + 0.5 * rough, stone).astype(np.float32)


def _leaves(rng: Rng) -> Plane:
    """Foliage, chips or paper scraps: pointed blades with a midrib, each with its own light, piled up."""
    plane = np.full((_SIDE, _SIDE), rng.uniform(10, 90), np.float32)
    length = rng.uniform(18, 80)
    for _ in range(int(9000 / length)):
        t = np.linspace(0, math.pi, 12)
        half = rng.uniform(0.15, 0.35) * length
        upper = np.stack([length * (t / math.pi - 0.5), half * np.sin(t) ** 1.5], axis=1)
        outline = np.concatenate([upper, upper[::-1] * (1, -1)])
        angle, gray = rng.uniform(0, 2 * math.pi), rng.uniform(40, 220)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        where = rng.uniform(-10, _SIDE + 10, 2)
        cv2.fillPoly(plane, [np.round(outline @ turn.T + where).astype(np.int32)], gray, cv2.LINE_AA)
        rib = np.round(np.array([[-length / 2, 0], [length / 2, 0]]) @ turn.T + where).astype(np.int32)
        cv2.polylines(plane, [rib], False, 0.7 * gray, 1, cv2.LINE_AA)
    return plane


def _letters(rng: Rng) -> Plane:
    """Print, paint or a stamp on paper or steel: one to six lines."""
    on_steel = rng.random() < 0.5
    plane = _steel(rng) if on_steel else np.full((_SIDE, _SIDE), rng.uniform(150, 245), np.float32)
    ink = rng.choice([rng.uniform(0, 60), rng.uniform(200, 255)]) if on_steel else rng.uniform(0, 90)
    lines, font = int(rng.integers(1, 7)), int(rng.choice(_FONTS))
    scale = 5.5 / lines * rng.uniform(0.6, 1.0)
    for line in range(lines):
        text = "".join(rng.choice(list(_TEXT), max(1, int(2.2 * lines))))
        at = (int(rng.integers(-8, 20)), int((line + 0.8) * _SIDE / lines))
        cv2.putText(plane, text, at, font, scale, float(ink), max(1, int(2.2 * scale)), cv2.LINE_AA)
    return plane


def _ruler(rng: Rng) -> Plane:
    """A scale laid on steel or on the table: ticks of three lengths, numbers."""
    plane = _steel(rng) if rng.random() < 0.4 else np.full((_SIDE, _SIDE), rng.uniform(90, 230), np.float32)
    edge, step = int(rng.integers(60, 180)), rng.uniform(4, 14)
    plane[:edge] = rng.uniform(140, 250)
    ink = float(rng.uniform(0, 80))
    for tick in range(int(_SIDE / step) + 1):
        length = int(edge * (0.45 if tick % 10 == 0 else 0.33 if tick % 5 == 0 else 0.22))
        x = round(tick * step)
        cv2.line(plane, (x, edge), (x, edge - length), ink, 1 + int(step > 9), cv2.LINE_AA)
        if tick % 10 == 0:
            cv2.putText(plane, str(tick // 10), (x + 2, edge - length), cv2.FONT_HERSHEY_SIMPLEX, 0.6, ink, 1, cv2.LINE_AA)
    return plane


def _oil(rng: Rng) -> Plane:
    """Oil or water on plain steel: a few wet drops and films with bright rims and a soft fall of light."""
    plane = _steel(rng)
    field = _soft(rng, rng.uniform(14, 32), rng.uniform(14, 32)) + 0.3 * _soft(rng, 6, 6)
    wet = np.clip((field - rng.uniform(0.2, 1.2)) / 0.25, 0, 1)
    rim = np.exp(-(((field - rng.uniform(0.2, 1.0)) / 0.08) ** 2))
    gloss = np.clip(_soft(rng, 20, 20) - 1.2, 0, 1)
    return np.asarray(plane * (1 - rng.uniform(0.1, 0.5) * wet) + 60 * rim * rng.random() + 120 * gloss * wet, np.float32)


def _hand(rng: Rng) -> Plane:
    """A hand or glove over the table, or only its soft shadow on steel."""
    mask = np.zeros((_SIDE, _SIDE), np.float32)
    palm = rng.uniform(60, 140, 2)
    cv2.ellipse(mask, np.round(palm).astype(int).tolist(), (38, 46), rng.uniform(0, 180), 0, 360, 1.0, -1)
    heading = rng.uniform(0, 2 * math.pi)
    for finger in np.linspace(-0.8, 0.8, 5):
        angle, reach = heading + finger + rng.normal(0, 0.05), rng.uniform(70, 110)
        tip = palm + reach * np.array([math.cos(angle), math.sin(angle)])
        cv2.line(mask, np.round(palm).astype(int).tolist(), np.round(tip).astype(int).tolist(), 1.0, int(rng.integers(14, 22)))
    shadow = rng.random() < 0.5
    softness = rng.uniform(6, 22) if shadow else rng.uniform(0.8, 2.0)
    soft_mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), softness), np.float32)
    ground = _steel(rng) if rng.random() < 0.6 else rng.uniform(60, 230) + 4 * _soft(rng, 2, 2)
    skin = rng.uniform(90, 210) + 12 * _soft(rng, 15, 15) + 5 * _soft(rng, 1, 1)
    over = ground * rng.uniform(0.25, 0.6) if shadow else skin
    return np.asarray(ground * (1 - soft_mask) + over * soft_mask, np.float32)


_KINDS: dict[str, Callable[[Rng], Plane]] = {
    "plain steel": _steel,
    "flat exposure": _exposures,
    "noise": _noise,
    "brushed metal": _brushed_metal,
    "wood": _wood,
    "fabric": _fabric,
    "bricks": _bricks,
    "leaves": _leaves,
    "letters": _letters,
    "ruler": _ruler,
    "oil": _oil,
    "hand": _hand,
}
