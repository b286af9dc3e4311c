"""Parity of models that know good parts only: is a good part still good, and a damaged one still novel?

Two answers, and pictures of both, make of it what parity is for classes: held-out good parts, and copies of them with damage
drawn in. Whether all damage is found does not matter here, only whether a file finds what its reference finds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, concatenate
from edgecnn.datasets.synthetic.damage import damage_all
from edgecnn.runtimes import Runtime

NOVEL = "novel"
VARIANTS = 600  # unlabelled pictures for the bound by margins


class GoodOrNovel:
    """A runtime that answers with the likeness of a good part, and what is missing to 1: above a half it is novel."""

    def __init__(self, runtime: Runtime) -> None:
        """Take a runtime of one class."""
        self.name = runtime.name
        self._runtime = runtime

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to `(n, 2)`: good and novel."""
        likeness = self._runtime.run(images)
        return np.concatenate([likeness, 1 - likeness], axis=1)


def with_damaged(good: Dataset, seed: int) -> Dataset:
    """Return good parts, class 0, and behind them a damaged copy of each, class 1, in the same group."""
    good = replace(good, groups=np.arange(len(good)) if good.groups is None else good.groups)
    names = tuple(f"{name}, damaged" for name in good.names)
    class_ids = np.ones(len(good), np.int64)
    return concatenate([good, replace(good, images=damage_all(good.images, seed), class_ids=class_ids, names=names)])


def damaged_variants(good: Dataset, seed: int) -> NDArray[np.uint8]:
    """Return copies of good parts with damage, about VARIANTS `(n, h, w, c)`: near ties are frequent among them."""
    rounds = max(1, VARIANTS // max(1, len(good)))
    return np.concatenate([damage_all(good.images, seed + 1 + i) for i in range(rounds)])
