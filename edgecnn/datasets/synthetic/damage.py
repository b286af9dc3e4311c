"""Damage drawn into pictures of good parts: spots, scratches, stains, foreign patches and what is broken off.

None of it looks like any real part's damage; it serves to see whether two models find the same.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


def damage_all(images: Image, seed: int) -> Image:
    """Return copies of pictures `(n, h, w, c)`, each with one kind of damage, by turns."""
    random = np.random.default_rng((2026, seed))
    return np.stack([damage(image, images[random.integers(len(images))], random, i) for i, image in enumerate(images)])


def damage(image: Image, other: Image, random: np.random.Generator, kind: int) -> Image:
    """Return a picture `(h, w, c)` with damage; a patch of an `other` part is pasted where the kind asks for one."""
    draw, fill = _KINDS[kind % len(_KINDS)]
    mask = cv2.GaussianBlur(draw((image.shape[0], image.shape[1]), random), (0, 0), random.uniform(0.4, 1.5))[..., None]
    levels = image.astype(np.float32)
    mixed = levels * (1 - mask) + fill(levels, other.astype(np.float32), random) * mask
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def _spot(size_hw: tuple[int, int], random: np.random.Generator) -> Floats:
    height, width = size_hw
    long = min(size_hw) * float(np.exp(random.uniform(np.log(0.04), np.log(0.12))))
    axes = max(1, round(long)), max(1, round(long * random.uniform(0.3, 1)))
    at = int(random.integers(width)), int(random.integers(height))
    mask = np.zeros(size_hw, np.float32)
    cv2.ellipse(mask, at, axes, float(random.uniform(0, 180)), 0, 360, 1.0, -1)
    return mask


def _scratch(size_hw: tuple[int, int], random: np.random.Generator) -> Floats:
    height, width = size_hw
    point, angle = np.array([random.uniform(0, width), random.uniform(0, height)]), random.uniform(0, 2 * np.pi)
    points = [point]
    for _ in range(int(random.integers(4, 10))):
        angle += random.normal(0, 0.35)
        point = point + min(size_hw) * random.uniform(0.03, 0.12) * np.array([np.cos(angle), np.sin(angle)])
        points.append(point)
    mask = np.zeros(size_hw, np.float32)
    cv2.polylines(mask, [np.array(points, np.int32)], False, 1.0, int(random.integers(2, 5)), cv2.LINE_AA)
    return mask


def _region(size_hw: tuple[int, int], random: np.random.Generator) -> Floats:
    height, width = size_hw
    corners, radius = int(random.integers(3, 6)), min(size_hw) * random.uniform(0.1, 0.4)
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    reach = radius * random.uniform(0.5, 1.5, corners)
    at = np.array([random.uniform(0, width), random.uniform(0, height)])
    points = at + np.stack([np.cos(angles) * reach, np.sin(angles) * reach], axis=1)
    mask = np.zeros(size_hw, np.float32)
    cv2.fillPoly(mask, [points.astype(np.int32)], 1.0)
    return mask


def _shifted(levels: Floats, other: Floats, random: np.random.Generator) -> Floats:
    step = max(10.0, float(levels.std())) * random.uniform(2, 5)
    return np.asarray(levels + step * random.choice([-1, -1, 1]), np.float32)


def _other_light(levels: Floats, other: Floats, random: np.random.Generator) -> Floats:
    mean, step = levels.mean(), max(10.0, float(levels.std())) * random.uniform(1, 3) * random.choice([-1, 1])
    return np.asarray((levels - mean) * random.uniform(0.5, 1.5) + mean + step, np.float32)


def _other_part(levels: Floats, other: Floats, random: np.random.Generator) -> Floats:
    turned = np.rot90(other, int(random.integers(1, 4)))
    patch = cv2.resize(np.ascontiguousarray(turned), (levels.shape[1], levels.shape[0]))
    return np.asarray(patch.reshape(levels.shape), np.float32)


def _nothing(levels: Floats, other: Floats, random: np.random.Generator) -> Floats:
    return np.asarray(random.uniform(0, 255) + random.normal(0, 6, levels.shape), np.float32)


_Draw = Callable[[tuple[int, int], np.random.Generator], Floats]
_Fill = Callable[[Floats, Floats, np.random.Generator], Floats]
_KINDS: tuple[tuple[_Draw, _Fill], ...] = (
    (_spot, _shifted),
    (_scratch, _shifted),
    (_region, _other_light),
    (_region, _other_part),
    (_region, _nothing),
)
