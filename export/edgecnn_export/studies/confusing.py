"""Which classes are taken for one another, and their pictures that look most alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn_export.studies.frozen import Frozen
from edgecnn_export.studies.suspects import likeness

PAIRS, SHOWN = 3, 3


@dataclass(frozen=True)
class ConfusingPair:
    """Two classes: how many held-out pictures of each are taken for the other, and the most alike of them, of two groups.

    `pictures` are indices into the pool, one of each class, with their likeness.
    """

    first: str
    second: str
    first_as_second: int
    second_as_first: int
    pictures: tuple[tuple[int, int, float], ...]


def confusing_pairs(frozen: Frozen, answers: NDArray[np.float64], *, pairs: int = PAIRS) -> tuple[ConfusingPair, ...]:
    """Return the most confused classes by `answers` `(n, classes)` to held-out pictures, none that were never confused."""
    asked, classes = ~np.isnan(answers[:, 0]), len(frozen.labels)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (frozen.class_ids[asked], answers[asked].argmax(axis=1)), 1)
    both = np.triu(counts + counts.T, 1)
    alike = likeness(frozen)
    order = np.argsort(-both, axis=None, kind="stable")[:pairs]
    found = [divmod(int(at), classes) for at in order if both.flat[at] > 0]
    return tuple(
        ConfusingPair(frozen.labels[a], frozen.labels[b], int(counts[a, b]), int(counts[b, a]), _nearest(frozen, alike, a, b))
        for a, b in found
    )


def _nearest(frozen: Frozen, alike: NDArray[np.float32], first: int, second: int) -> tuple[tuple[int, int, float], ...]:
    """Return the most alike pictures of two classes, each picture once."""
    rows, columns = (np.flatnonzero(frozen.class_ids == each) for each in (first, second))
    between = alike[np.ix_(rows, columns)].copy()
    found = []
    for _ in range(SHOWN):
        row, column = np.unravel_index(int(between.argmax()), between.shape)
        if between[row, column] <= -2:
            break
        found.append((int(rows[row]), int(columns[column]), float(between[row, column])))
        between[row], between[:, column] = -2, -2
    return tuple(found)
