"""Figures of a classifier as plain functions of arrays, each with the source of its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Share:
    """`hits` of `count`, a mean of several counts need not be whole, with the Wilson interval at `confidence`."""

    hits: float
    count: int
    confidence: float = 0.95

    @property
    def value(self) -> float:
        """The hits' share; 0 of nothing is 0."""
        return self.hits / max(self.count, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval."""
        return wilson_interval(self.hits, self.count, self.confidence)

    def to_json(self) -> dict[str, Any]:
        """Return the share with plain numbers."""
        return {"hits": self.hits, "count": self.count, "share": self.value, "interval": list(self.interval)}


def _quantile(confidence: float) -> float:
    """Return how many standard deviations on both sides of a normal distribution's mean hold this share of it."""
    from statistics import NormalDist  # fractions and decimals come with it, which a classifier does without

    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson_interval(successes: float, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided score interval of a proportion (Wilson, JASA 22, 1927); (0, 1) when nothing was counted."""
    if count == 0:
        return 0.0, 1.0
    z = _quantile(confidence)
    share = successes / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # Exactly 0 and 1 at the ends, where rounding would leave 0.9999999999999998.
    return 0.0 if successes == 0 else centre - half, 1.0 if successes == count else centre + half


def confusion_matrix(predicted_ids: NDArray[np.int64], class_ids: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Count pictures `(classes, classes)`: the row is the true class, the column the predicted one."""
    counts = np.bincount(class_ids * classes + predicted_ids, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def macro_recall(confusion: NDArray[np.int64]) -> float:
    """Return the mean over classes of the share of a class's pictures that are recognised, of a matrix `[true, predicted]`.

    Classes without pictures are left out. Unlike the accuracy it shows when a small class is never recognised.
    """
    counts = confusion.sum(axis=1)
    return float((confusion.diagonal()[counts > 0] / counts[counts > 0]).mean())


def weak_classes(confusion: NDArray[np.int64]) -> list[int]:
    """Return the ids of the classes of which fewer than half the pictures were recognised, the weakest first.

    `confusion` `(classes, classes)` counts pictures, the row is the true class; a class without pictures is not weak.
    """
    counts, right = confusion.sum(axis=1), confusion.diagonal()
    weak = np.flatnonzero(2 * right < counts)
    return [int(i) for i in weak[np.argsort(right[weak] / counts[weak], kind="stable")]]


def expected_calibration_error(probabilities: NDArray[np.float32], class_ids: NDArray[np.int64], bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over `bins` equal bins (Guo et al., ICML 2017, eq. 3)."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == class_ids
    bin_ids = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    counts = np.bincount(bin_ids, minlength=bins)
    gaps = np.bincount(bin_ids, correct - confidence.astype(np.float64), minlength=bins)
    return float(np.abs(gaps).sum() / max(counts.sum(), 1))


def auroc(positives: NDArray[np.floating], negatives: NDArray[np.floating]) -> float:
    """Return the share of pairs of scores `(n,)`, `(m,)` whose positive is the higher one; ties count a half.

    The area under the ROC curve is this Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982).
    """
    levels, ranks = np.unique(np.concatenate([positives, negatives]), return_inverse=True)
    of_positives, of_negatives = (
        np.bincount(part, minlength=len(levels)) for part in np.split(ranks.reshape(-1), [len(positives)])
    )
    below = np.cumsum(of_negatives) - of_negatives / 2
    return float((of_positives * below).sum() / (len(positives) * len(negatives)))


def auroc_interval(area: float, positives: int, negatives: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score-like interval of an AUROC of this many scores (Newcombe, Statistics in Medicine 25, 2006, method 5).

    It holds all areas from which `area` is not further than the normal quantile times the standard error that Hanley and
    McNeil give for them, and so says something of an area of 1 too.
    """
    z, extra = _quantile(confidence), (positives + negatives) / 2 - 1

    def is_near(other: float) -> bool:
        spread = other * (1 - other) * (1 + extra * ((1 - other) / (2 - other) + other / (1 + other)))
        return abs(other - area) <= z * math.sqrt(spread / (positives * negatives))

    return _last(is_near, area, 0.0), _last(is_near, area, 1.0)


def _last(holds: Callable[[float], bool], inside: float, outside: float) -> float:
    """Return where between `inside` and `outside` a condition ends, by bisection."""
    if holds(outside) and outside != inside:
        return outside
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside
