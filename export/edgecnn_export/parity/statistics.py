"""Paired statistics of two classifiers on the same pictures, as plain functions of counts.

`lost` are the pictures that the reference had right and the candidate has wrong, `gained` the other way round; a drop is
reference accuracy minus candidate accuracy, here as a share (0.01 is one percentage point).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError

RESAMPLES = 2000
MOST_PICTURES = 10_000_000  # nobody labels more
_CHUNK_DRAWS = 2_000_000  # group draws held at a time: 16 MB


def mcnemar_p(lost: int, gained: int) -> float:
    """Return the exact two-sided p-value that lost and gained are equally likely (McNemar, Psychometrika 12, 1947).

    Under the null hypothesis `lost` is binomial(lost + gained, 1/2); the smaller tail is doubled.
    """
    discordant = lost + gained
    log_terms = [_log_choose(discordant, i) - discordant * math.log(2) for i in range(min(lost, gained) + 1)]
    return min(1.0, 2 * math.fsum(math.exp(term) for term in log_terms))


def exceeds_chance(lost: float, gained: float, confidence: float = 0.95) -> bool:
    """Tell whether more is lost than gained by more than chance explains: the one-sided score test (McNemar, 1947)."""
    return lost - gained > NormalDist().inv_cdf(confidence) * math.sqrt(lost + gained)


def pictures_to_decide(lost: int, gained: int, count: int, max_drop: float, confidence: float = 0.95) -> int | None:
    """Return how many pictures would decide whether the drop exceeds `max_drop` (a share), if they flip as often as these.

    None where no number would: the margin is 0, or the measured drop lies on it.
    """
    rate_lost, rate_gained = lost / count, gained / count
    drop = rate_lost - rate_gained

    def decides(n: int) -> bool:
        if drop > max_drop:
            return exceeds_chance(rate_lost * n, rate_gained * n, confidence)
        return drop_bound(rate_lost * n, rate_gained * n, n, confidence) <= max_drop

    enough = count
    while not decides(enough):
        enough *= 2
        if enough > MOST_PICTURES:
            return None
    low = max(enough // 2, count - 1)
    while enough - low > 1:
        middle = (low + enough) // 2
        low, enough = (low, middle) if decides(middle) else (middle, enough)
    return enough


def drop_bound(lost: float, gained: float, count: int, confidence: float = 0.95) -> float:
    """Return the one-sided upper confidence bound of the drop by the score method (Tango, Stat. Med. 17, 1998, eq. 7-11).

    It is the largest drop that a score test does not reject; without any flip it is z^2 / (count + z^2). Counts may be
    fractions, for what is expected of another number of pictures.
    Raises InputError when the counts or the confidence are impossible.
    """
    if count < 1 or min(lost, gained) < 0 or lost + gained > count:
        raise InputError(f"{lost} lost and {gained} gained pictures are not possible among {count}")
    _check(confidence)
    z = NormalDist().inv_cdf(confidence)
    low, high = (lost - gained) / count, 1.0
    for _ in range(100):  # bisection: each step halves the interval, 100 exhaust double precision
        middle = (low + high) / 2
        if _tango_statistic(middle, lost, gained, count) > -z:
            low = middle
        else:
            high = middle
    return high


def grouped_drop_bound(
    right_differences: NDArray[np.int64], groups: NDArray[np.int64], confidence: float = 0.95, seed: int = 0
) -> float:
    """Return the upper percentile of the drop over bootstrap samples of whole groups (Efron and Tibshirani, 1993, ch. 8, 13).

    `right_differences` `(n,)` is 1 where a picture was lost, -1 where gained, else 0; `groups` `(n,)` joins pictures that
    show the same thing and therefore err together. With few groups the percentile is too small: take the larger of this
    and `drop_bound`.
    """
    _check(confidence)
    _, group_ids = np.unique(groups, return_inverse=True)
    sums = np.bincount(group_ids, weights=right_differences)
    sizes = np.bincount(group_ids).astype(np.float64)
    random, drops = np.random.default_rng(seed), []
    for start in range(0, RESAMPLES, rows := max(1, _CHUNK_DRAWS // len(sums))):
        chosen = random.integers(len(sums), size=(min(rows, RESAMPLES - start), len(sums)))
        drops.append(sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))
    return float(np.quantile(np.concatenate(drops), confidence, method="higher"))


def paired_bound(
    reference_right: NDArray[np.bool_],
    candidate_right: NDArray[np.bool_],
    groups: NDArray[np.int64] | None,
    confidence: float,
    seed: int,
) -> tuple[float, str]:
    """Return the larger of the score bound and, where pictures `(n,)` have groups, the bootstrap bound; and its name."""
    differences = reference_right.astype(np.int64) - candidate_right
    lost, gained = int((differences > 0).sum()), int((differences < 0).sum())
    score = drop_bound(lost, gained, len(differences), confidence)
    if groups is None:
        return score, "Tango score"
    grouped = grouped_drop_bound(differences, groups, confidence, seed)
    return (grouped, "bootstrap over groups") if grouped > score else (score, "Tango score")


def _tango_statistic(drop: float, lost: float, gained: float, count: int) -> float:
    """Return the score statistic of the hypothesis that the true drop is `drop`; it falls as `drop` rises."""
    b = -(lost + gained) + (2 * count - lost + gained) * drop
    minus_c = gained * drop * (1 - drop)
    root = math.sqrt(max(b * b + 8 * count * minus_c, 0.0))
    # The restricted estimate of the share gained: the larger root of 2n q^2 + b q + c = 0, without cancellation.
    gained_share = 2 * minus_c / (root + b) if b > 0 else (root - b) / (4 * count)
    variance = count * (2 * max(gained_share, 0.0, -drop) + drop * (1 - drop))
    distance = lost - gained - count * drop
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _check(confidence: float) -> None:
    if not 0.5 <= confidence < 1:
        raise InputError(f"confidence must be in [0.5, 1), got {confidence}")


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
