"""Parity under what cameras do: pictures once more, each under one corruption, dealt in turn.

So it costs no more than the comparison of the clean pictures, and the pictures are as independent as those are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.robustness.corruptions import Corruption, corrupt
from edgecnn_export.parity.statistics import mcnemar_p, paired_bound

SEVERITY = 3
LEAST_EACH = 20  # pictures under each corruption; small sets are dealt more than once
MOST = 2000  # pictures in all, of large sets


@dataclass(frozen=True, eq=False)
class Dealt:
    """Corrupted pictures, and under which of `corruptions` each of them `(n,)` stands."""

    dataset: Dataset
    corruptions: tuple[str, ...]
    corruption_ids: NDArray[np.int64]


@dataclass(frozen=True)
class CorruptedReference:
    """What was compared under corruptions, and how often the reference was right: `count` and `right` by corruption."""

    severity: int
    corruptions: tuple[str, ...]
    counts: tuple[int, ...]
    right: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many corrupted pictures were compared."""
        return sum(self.counts)

    @property
    def accuracy(self) -> float:
        """The reference's share of right answers to all corrupted pictures."""
        return sum(self.right) / self.count


@dataclass(frozen=True)
class CorruptedFigures:
    """One candidate under corruptions: `right` by corruption, drops and their bound in points as on clean pictures.

    `worst` is the corruption with the largest drop of its own, `worst_drop`; it rests on few pictures. `significant` is the
    corruption whose loss, `significant_drop`, chance explains least; `significant_p` is its p-value times the number of
    corruptions (Bonferroni). They are None where corruptions are judged together only.
    """

    right: tuple[int, ...]
    accuracy: float
    drop: float
    drop_bound: float
    bound_method: str
    mcnemar_p: float
    lost: int
    gained: int
    other: int
    worst: str
    worst_drop: float
    significant: str | None = None
    significant_drop: float | None = None
    significant_p: float | None = None

    def exceeds(self, max_drop: float, confidence: float) -> bool:
        """Tell whether more is lost than `max_drop` points, and more than chance explains at this confidence.

        Under corruptions both models guess at some pictures, and guesses differ by chance alone.
        """
        return self.drop > max_drop and self.mcnemar_p < 1 - confidence

    def stands_out(self, max_drop: float, confidence: float) -> bool:
        """Tell whether one corruption, where each is judged, costs more than `max_drop` points and than chance explains."""
        if self.significant_drop is None or self.significant_p is None:
            return False
        return self.significant_drop > max_drop and self.significant_p < 1 - confidence


def deal(dataset: Dataset, corruptions: Sequence[Corruption], seed: int) -> Dealt:
    """Corrupt up to MOST pictures, shuffled by `seed`, each by the next corruption in turn, and each corruption often enough.

    A picture that comes again gets another corruption. `groups` keep together what shows the same thing, also corrupted.
    """
    count, kinds = len(dataset), len(corruptions)
    turns = np.arange(min(max(min(count, MOST), LEAST_EACH * kinds), count * kinds))
    pictures = np.random.default_rng(seed).permutation(count)[turns % count]
    # Where the number of pictures is a multiple of the number of corruptions, each round starts one further on.
    corruption_ids = (turns + (turns // count) * (count % kinds == 0)) % kinds
    groups = np.arange(count) if dataset.groups is None else dataset.groups
    dealt = replace(dataset, groups=groups).take(pictures)
    images = dealt.images.copy()
    for i, corruption in enumerate(corruptions):
        own = corruption_ids == i
        images[own] = corrupt(dealt.images[own], corruption, SEVERITY, seed)
    return Dealt(replace(dealt, images=images), tuple(each.name for each in corruptions), corruption_ids)


def variants(dataset: Dataset, corruptions: Sequence[Corruption], seed: int, count: int = MOST) -> NDArray[np.uint8]:
    """Return up to `count` pictures `(n, h, w, c)` of a data set under camera corruptions, each once at SEVERITY.

    They need no labels: near ties are frequent among them (see `parity.margins`).
    """
    total = len(dataset) * len(corruptions)
    random = np.random.default_rng(seed)
    chosen = random.choice(total, min(count, total), replace=False)
    images = np.empty((len(chosen), *dataset.images.shape[1:]), np.uint8)
    for i, corruption in enumerate(corruptions):
        own = chosen % len(corruptions) == i
        images[own] = corrupt(dataset.images[chosen[own] // len(corruptions)], corruption, SEVERITY, seed)
    return images


def reference_figures(dealt: Dealt, class_ids: NDArray[np.int64]) -> CorruptedReference:
    """Count what the reference answered `(n,)` right."""
    right = class_ids == dealt.dataset.class_ids
    return CorruptedReference(SEVERITY, dealt.corruptions, _by_corruption(dealt), _by_corruption(dealt, right))


def candidate_figures(
    dealt: Dealt,
    reference_ids: NDArray[np.int64],
    candidate_ids: NDArray[np.int64],
    confidence: float,
    seed: int,
    *,
    each: bool = False,
) -> CorruptedFigures:
    """Compare the answers `(n,)` of a candidate with the reference's; each corruption also on its own with `each`."""
    true = dealt.dataset.class_ids
    before, after = reference_ids == true, candidate_ids == true
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    differing = int((reference_ids != candidate_ids).sum())
    bound, method = paired_bound(before, after, dealt.dataset.groups, confidence, seed)
    counts, right = _by_corruption(dealt), _by_corruption(dealt, after)
    drops = [100 * (b - a) / n for b, a, n in zip(_by_corruption(dealt, before), right, counts, strict=True)]
    worst = int(np.argmax(drops))
    least, p = _most_significant(dealt, before, after) if each else (None, None)
    return CorruptedFigures(
        right=right,
        accuracy=sum(right) / len(true),
        drop=100 * (lost - gained) / len(true),
        drop_bound=100 * bound,
        bound_method=method,
        mcnemar_p=mcnemar_p(lost, gained),
        lost=lost,
        gained=gained,
        other=differing - lost - gained,
        worst=dealt.corruptions[worst],
        worst_drop=drops[worst],
        significant=None if least is None else dealt.corruptions[least],
        significant_drop=None if least is None else drops[least],
        significant_p=p,
    )


def _most_significant(dealt: Dealt, before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[int, float]:
    """Return the index of the corruption whose loss chance explains least, and its p-value times their number, at most 1."""
    pairs = zip(_by_corruption(dealt, before & ~after), _by_corruption(dealt, ~before & after), strict=True)
    values = [mcnemar_p(lost, gained) if lost > gained else 1.0 for lost, gained in pairs]
    least = int(np.argmin(values))
    return least, min(1.0, values[least] * len(values))


def _by_corruption(dealt: Dealt, hits: NDArray[np.bool_] | None = None) -> tuple[int, ...]:
    """Count pictures, or those of `hits` `(n,)`, by corruption."""
    chosen = dealt.corruption_ids if hits is None else dealt.corruption_ids[hits]
    return tuple(int(count) for count in np.bincount(chosen, minlength=len(dealt.corruptions)))
