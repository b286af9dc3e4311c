"""Letting each class count alike, however many pictures there are of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import rank_in_class

UNEVEN = 1.5  # times as many pictures in one class as in another
MOST_REPEATS = 8  # of one picture in an epoch: a class of two pictures among a thousand is not drawn 500 times


def balanced_weights(class_ids: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """Return a weight for each of `(n,)` pictures, 1 on average, that makes all classes that there are count alike."""
    counts = np.bincount(class_ids, minlength=classes)
    return np.asarray(len(class_ids) / (np.count_nonzero(counts) * counts[class_ids]))


def alternating(class_ids: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Return an order of `(n,)` pictures in which classes take turns for as long as each has some left."""
    order = random.permutation(len(class_ids))
    return np.asarray(order[np.argsort(rank_in_class(class_ids[order]), kind="stable")], np.int64)


def balanced_draw(class_ids: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw about `count` of `(n,)` pictures, equally many of each class, those of small classes up to MOST_REPEATS times."""
    present = np.unique(class_ids)
    share = -(-count // len(present))
    drawn = []
    for class_id in present:
        members = np.flatnonzero(class_ids == class_id)
        rounds = [random.permutation(members) for _ in range(min(-(-share // len(members)), MOST_REPEATS))]
        drawn.append(np.concatenate(rounds)[:share])
    return np.asarray(np.sort(np.concatenate(drawn)), np.int64)


def few_of_each(class_ids: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return which of `(n,)` pictures to take, at most `most` of each class, in their order."""
    order = np.random.default_rng(seed).permutation(len(class_ids))
    return np.asarray(np.sort(order[rank_in_class(class_ids[order]) < most]), np.int64)
