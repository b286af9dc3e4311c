"""The same number of generated pictures of each class, repeatable picture by picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import InputError


def draw_balanced(
    labels: tuple[str, ...],
    draw: Callable[[int, np.random.Generator], NDArray[np.uint8]],
    count_per_class: int,
    seed: int,
) -> Dataset:
    """Call `draw(class_id, rng)`, which returns `(h, w)` or `(h, w, 3)` uint8, `count_per_class` times for each class.

    The pictures are `(n, h, w, 1)` or `(n, h, w, 3)` uint8.
    Classes alternate, so that every prefix is balanced. A picture depends on seed, class and number only: a larger set
    begins with the smaller one. Names are `synthetic/LABEL_NUMBER`.
    """
    if count_per_class < 1:
        raise InputError(f"expected at least one picture a class, got {count_per_class}")
    pairs = [(class_id, number) for number in range(count_per_class) for class_id in range(len(labels))]
    images = [draw(class_id, np.random.default_rng((seed, class_id, number))) for class_id, number in pairs]
    class_ids = np.array([class_id for class_id, _ in pairs], np.int64)
    names = tuple(f"synthetic/{labels[class_id]}_{number:04d}" for class_id, number in pairs)
    stacked = np.stack(images)
    return Dataset(stacked[..., None] if stacked.ndim == 3 else stacked, class_ids, names)
