"""What split conformal thresholds promise: how much of what is yet to come is kept, on average and with confidence.

A threshold that k of n held-out scores lie beyond is passed by a further score with a probability of at least 1 - k / (n + 1),
whatever the model and the pictures (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005). Over the draws
of the held-out pictures the share that passes varies as Beta(n + 1 - k, k) (Vovk, ACML 2012), or is larger where scores are
equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# This part of what may be lost falls short of being sure; the rest is too novel.
_UNSURE_PART = 0.25


def losable(count: int, keep_rate: float) -> tuple[int, int]:
    """Return how many of `count` held-out pictures may be unsure, and how many novel, to keep a share of further ones.

    Each is one at least: few pictures cannot promise much, and what they promise is 1 - (their sum) / (count + 1).
    """
    both = max(2, math.floor((1 - keep_rate) * (count + 1) + 1e-9))
    unsure = max(1, math.floor(_UNSURE_PART * both))
    return unsure, both - unsure


def surely_kept(count: int, beyond: Sequence[int], confidence: float = 0.95) -> float:
    """Return the share of further pictures that thresholds keep with `confidence` in the draw of the `count` held-out ones.

    `beyond` says how many of these lie beyond each threshold. What several lose is added (Bonferroni), so that it holds however
    they depend on each other.
    """
    level = (1 - confidence) / len(beyond)
    return max(0.0, 1 - sum(1 - _beta_quantile(count + 1 - each, each, level) for each in beyond))


def _beta_quantile(a: int, b: int, level: float) -> float:
    """Return where the distribution Beta(a, b) reaches `level`: it is the upper tail of a binomial one of a + b - 1 draws."""
    draws = a + b - 1
    hits = np.arange(a, draws + 1)
    log_ways = math.lgamma(draws + 1) - np.array([math.lgamma(k + 1) + math.lgamma(draws - k + 1) for k in hits.tolist()])
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        reached = float(np.exp(log_ways + hits * math.log(middle) + (draws - hits) * math.log1p(-middle)).sum())
        low, high = (middle, high) if reached < level else (low, middle)
    return low
