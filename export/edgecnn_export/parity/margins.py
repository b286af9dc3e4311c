"""A sharper bound for small sets: how often an answer can flip, from thousands of unlabelled pictures.

An answer flips only where quantization moves it by more than the margin between the reference's two best classes. How often
that happens needs no labels: it is counted on pictures of the training split under camera corruptions, where near ties are
frequent. The labelled pictures only say how much rarer near ties are among new pictures that the reference reads correctly.

With F the share of the corrupted pictures that flip nearer to a tie than FAR, R the flip rate of those further away, H(t) their
share of margins below t, G(t) the share of labelled pictures that are read correctly with a margin below t, and G' of those
with FAR or more,

    drop <= P(a right answer flips) <= max over t of G(t) / H(t) * F + G' * R.

It rests on two assumptions, both stated wherever the bound is:

1. a flip depends on how near the tie is and not on whether a camera corruption brought it about, and it does not become
   rarer near the tie;
2. nearer to a tie than the smallest t, new pictures are not relatively more frequent than between the others.

Each share is uncertain; its upper Clopper-Pearson limit at a random level is Beta(k + 1, n - k), and the bound is the upper
quantile of the combination over DRAWS of them (combining confidence distributions: Singh, Xie and Strawderman, Annals of
Statistics 33, 2005). `edgecnn_export.studies.bound_coverage` checks by simulation on real data how often the bound holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR = (0.5, 0.7, 0.9)  # margins of probability at which the shares of near ties are compared
FAR = NEAR[-1]
DRAWS = 20_000


@dataclass(frozen=True, eq=False)
class Flips:
    """Which unlabelled pictures flip: the reference's margins `(n,)` float, and whether the candidate answers otherwise."""

    margins: NDArray[np.floating]
    flipped: NDArray[np.bool_]

    @classmethod
    def between(cls, reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> Flips:
        """Compare answers to the same pictures, probabilities `(n, classes)`."""
        return cls(margins(reference), reference.argmax(axis=1) != candidate.argmax(axis=1))


def margins(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the difference of the two largest of each answer's probabilities `(n, classes)`, `(n,)`."""
    best = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0], np.float32)


def margin_bound(
    flips: Flips,
    reference: NDArray[np.float32],
    right: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> float:
    """Return the upper bound of the drop, a share, from unlabelled `flips` and labelled pictures.

    `reference` `(n, classes)` is what the reference answered to the labelled pictures, `right` `(n,)` whether it was right.
    Pictures of one of the `groups` `(n,)` count as one: they are as near to a tie as each other.
    """
    random = np.random.default_rng(seed)
    near = flips.margins < FAR
    flip = _upper(random, int((flips.flipped & near).sum()), len(near))
    far = _upper(random, int((flips.flipped & ~near).sum()), int((~near).sum()))
    own, count = margins(reference), len(right)
    units = count if groups is None else len(np.unique(groups))

    def share(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        return _upper(random, float((right & chosen).sum()) * units / count, units)

    ratios = []
    for limit in NEAR:
        corrupted = float((flips.margins < limit).mean())
        ratios.append(share(own < limit) / corrupted if corrupted else np.full(DRAWS, np.inf))
    rates = np.minimum(np.max(ratios, axis=0) * flip + share(own >= FAR) * far, 1.0)
    return float(np.quantile(rates, confidence, method="higher"))


def _upper(random: np.random.Generator, hits: float, count: int) -> NDArray[np.float64]:
    """Draw upper Clopper-Pearson limits of a share at random levels; 1 where nothing was counted or all are hits."""
    return np.ones(DRAWS) if hits >= count else random.beta(hits + 1, count - hits, DRAWS)
