"""Pictures that belong to no class of a task, to see whether a model admits it: synthetic, like all of this package."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.digits import generate_digits
from edgecnn.datasets.synthetic.steel import steel_strip

_STEEL_SIDE = 200


def generate_non_digits(count: int, seed: int) -> NDArray[np.uint8]:
    """Return `(count, 28, 28, 1)` uint8: letters, parts and pairs of digits, rules, scribbles, smudges."""
    from edgecnn.finding.simulation import simulate_non_digit

    random = np.random.default_rng(seed)
    digits = generate_digits(20, seed).images[..., 0]
    return np.stack([simulate_non_digit(digits, random) for _ in range(count)])[..., None]


def generate_plain_steel(count: int, seed: int) -> NDArray[np.uint8]:
    """Return `(count, 200, 200, 1)` uint8: steel without damage, and every fourth picture flat gray with sensor noise."""
    random = np.random.default_rng(seed)
    pictures = [_flat(random) if i % 4 == 3 else steel_strip(_STEEL_SIDE, _STEEL_SIDE, random) for i in range(count)]
    return np.stack(pictures)[..., None]


def _flat(random: np.random.Generator) -> NDArray[np.uint8]:
    noise = random.normal(0, random.uniform(1, 20), (_STEEL_SIDE, _STEEL_SIDE))
    return np.clip(random.uniform(40, 220) + noise, 0, 255).astype(np.uint8)
