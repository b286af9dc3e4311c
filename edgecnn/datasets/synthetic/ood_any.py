"""Out-of-distribution pictures for any task: what stands before a camera by mistake, whatever the parts are.

Surfaces, cloth, print, a hand, noise, a covered lens, loose objects; in colour where the model sees colours. Bare metal is left
out: it may be what the parts are of.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.ood_surfaces import generate_other_surfaces
from edgecnn.preprocessing import Preprocessing

Rng = np.random.Generator
_METAL = ("plain steel", "brushed metal")  # kinds of surfaces
_SIDE = 200
_OBJECTS, _COLOURS, _TINTS = 101, 102, 103  # numbers of random streams beside those of the surfaces


def generate_any(preprocessing: Preprocessing, count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Return `count` pictures of each kind in a model's input form, `(count, height, width, channels)` uint8.

    A larger set begins with the smaller one.
    """
    drawn = {kind: images[..., 0] for kind, images in generate_other_surfaces(count, seed).items() if kind not in _METAL}
    drawn["objects"] = np.stack([_objects(np.random.default_rng((seed, _OBJECTS, i))) for i in range(count)])
    if preprocessing.color == "rgb":
        drawn = {
            kind: np.stack([_tinted(image, np.random.default_rng((seed, _TINTS, number, i))) for i, image in enumerate(images)])
            for number, (kind, images) in enumerate(drawn.items())
        }
        drawn["colors"] = np.stack([_colours(np.random.default_rng((seed, _COLOURS, i))) for i in range(count)])
    return {kind: np.stack([preprocessing(image) for image in images]) for kind, images in drawn.items()}


def _objects(rng: Rng) -> NDArray[np.uint8]:
    """Return one to five loose parts, round, long or cornered, each with its shadow and shading, on an even table."""
    table = float(rng.uniform(40, 220))
    plane = np.full((_SIDE, _SIDE), table, np.float32)
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float32)
    shadow_xy = rng.integers(-8, 9, 2)
    for _ in range(int(rng.integers(1, 6))):
        mask = _outline(rng)
        shade = cv2.GaussianBlur(np.roll(mask, tuple(shadow_xy), (0, 1)), (0, 0), 5)
        plane *= 1 - 0.5 * shade
        angle = rng.uniform(0, 2 * np.pi)
        relief = rng.uniform(0, 50) * (np.cos(angle) * (x / _SIDE - 0.5) + np.sin(angle) * (y / _SIDE - 0.5))
        plane = plane * (1 - mask) + (rng.uniform(10, 245) + relief) * mask
    return np.clip(np.rint(plane + rng.normal(0, rng.uniform(0, 4), plane.shape)), 0, 255).astype(np.uint8)


def _outline(rng: Rng) -> NDArray[np.float32]:
    """Return a soft mask `(side, side)` of one part: an ellipse, a bar, a ring or a polygon."""
    mask = np.zeros((_SIDE, _SIDE), np.float32)
    centre = (int(rng.integers(30, _SIDE - 30)), int(rng.integers(30, _SIDE - 30)))
    axes, turn = (int(rng.integers(12, 60)), int(rng.integers(8, 30))), float(rng.uniform(0, 180))
    match int(rng.integers(4)):
        case 0:
            cv2.ellipse(mask, centre, axes, turn, 0, 360, 1.0, -1)
        case 1:
            cv2.fillPoly(mask, [cv2.boxPoints((centre, axes, turn)).astype(np.int32)], 1.0)
        case 2:
            cv2.ellipse(mask, centre, axes, turn, 0, 360, 1.0, max(3, axes[1] // 3))
        case _:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
            corners = np.stack([np.cos(angles), np.sin(angles)], 1) * axes[0] + centre
            cv2.fillPoly(mask, [corners.astype(np.int32)], 1.0)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.8), np.float32)


def _tinted(image: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Paint a gray picture `(h, w)` between two colours, BGR `(h, w, 3)`; a third of them stay gray."""
    if rng.random() < 1 / 3:
        return np.repeat(image[..., None], 3, axis=2)
    dark, light = rng.uniform(0, 120, 3), rng.uniform(110, 256, 3)
    levels = np.linspace(0, 1, 256)[:, None]
    colors = np.clip(np.rint(dark + (light - dark) * levels), 0, 255).astype(np.uint8)
    return np.asarray(colors[image], np.uint8)


def _colours(rng: Rng) -> NDArray[np.uint8]:
    """Return soft or hard-edged patches of strong colours, BGR: packaging, clothes, a screen."""
    noise = rng.standard_normal((_SIDE, _SIDE, 3), np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(4, 40)))
    soft = (soft - soft.mean((0, 1))) / np.maximum(soft.std((0, 1)), 1e-6)
    if rng.random() < 0.5:
        soft = np.sign(soft)
    return np.asarray(np.clip(np.rint(128 + soft * rng.uniform(20, 90)), 0, 255), np.uint8)
