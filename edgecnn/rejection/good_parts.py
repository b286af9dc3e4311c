"""Only good parts: fitting a bank of their features, the threshold of a stated false-alarm rate, and judging by both."""

from __future__ import annotations

import base64
import copy
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import GoodPartsInfo
from edgecnn.errors import DatasetError, InputError
from edgecnn.rejection.evidence import Evidence, Findings, Judged
from edgecnn.runtimes.good_parts import MAX_BANK_BYTES, Bank, novelty_of, unit_places

FALSE_ALARMS = 0.01
PLACES = 512  # of good parts that the bank keeps: with twice as many the file passes a megabyte, and finds no more
MOST_PLACES = 20_000  # that it chooses them from
_PROJECTED = 32  # numbers that distances are compared in while choosing
# Sums in floats differ in their last digits between processors: a picture that the threshold was chosen by is no alarm there.
_SLACK = 1 + 1e-4
_DECIMALS = 4


class GoodParts:
    """A contract's `GoodPartsInfo`, ready to judge the answers of a `GoodPartsRuntime`: what `Evidence` is to classes."""

    def __init__(self, info: GoodPartsInfo) -> None:
        """Take the thresholds; the bank is read when a map is asked for."""
        self.info = info
        self._bank: Bank | None = None
        self._novel_above = info.novel_above  # that the runtime divides by

    def temper(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the likeness as it is."""
        return probabilities

    def judge(self, pooled: NDArray[np.float64], probabilities: NDArray[np.float32]) -> Judged:
        """Judge pictures by their likeness `(n, 1)`; all are nearest to the one class that there is."""
        novelty = novelty_of(probabilities[:, 0]) * (self._novel_above / self.info.novel_above)
        return Judged(np.round(novelty, _DECIMALS), np.zeros(len(pooled), np.int64), probabilities)

    def distance(self, pooled: NDArray[np.float64], probabilities: NDArray[np.float32]) -> float:
        """Return how far one picture's oddest places are from good ones, 0 to 2, by its likeness `(1, 1)`."""
        return float(novelty_of(probabilities[:, 0])[0]) * self._novel_above

    def novelties(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far each place of features `(n, h, w, channels)` is from good ones, `(n, h, w)`, in thresholds."""
        self._bank = self._bank or Bank(self.info, features.shape[-1])
        return np.asarray(self._bank.distances(features) / np.float32(self.info.novel_above))

    def keeps(self, findings: Findings) -> NDArray[np.bool_]:
        """Tell which pictures get a label, `(n,)`: those that are not novel."""
        return self.judge(findings.pooled, findings.probabilities).novelty <= 1

    def with_thresholds(self, **thresholds: float) -> GoodParts:
        """Return the same with another `novel_above`; InputError for `unsure_below`, which one class has no use for."""
        if "unsure_below" in thresholds:
            raise InputError("this model knows good parts only: set how odd a picture may be with --novelty, not --reject")
        other = copy.copy(self)
        other.info = replace(self.info, **thresholds)  # type: ignore[arg-type]  # it is a float
        return other


Guard = Evidence | GoodParts  # what says which pictures get a label


def fit_bank(
    features: NDArray[np.float32], *, wanted: float = FALSE_ALARMS, places: int = PLACES, seed: int = 0
) -> GoodPartsInfo:
    """Fit a bank to the features of good parts `(n, h, w, channels)`; its threshold is still to be chosen.

    It keeps `places` of them, far apart from each other: greedy k-centre (Sener and Savarese, ICLR 2018, arXiv:1708.00489),
    as PatchCore does.
    """
    channels = features.shape[-1]
    rows = unit_places(features)
    random = np.random.default_rng(seed)
    if len(rows) > MOST_PLACES:
        rows = rows[np.sort(random.choice(len(rows), MOST_PLACES, replace=False))]
    chosen = rows[far_apart(rows, min(places, MAX_BANK_BYTES // channels), random)]
    scale = float(np.abs(chosen).max() / 127) or 1.0
    bank = base64.b64encode(np.rint(chosen / scale).astype(np.int8).tobytes()).decode()
    return GoodPartsInfo(bank, scale, novel_above=1.0, wanted=wanted, false_alarms=wanted, parts=1, pictures=1)


def far_apart(rows: NDArray[np.float32], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of at most `count` of `rows` `(n, channels)`, each the one farthest from those before it.

    Distances are those of random projections.
    """
    width = min(_PROJECTED, rows.shape[1])
    projected = rows @ random.standard_normal((rows.shape[1], width)).astype(np.float32)
    chosen = [int(random.integers(len(rows)))]
    gaps: NDArray[np.float32] = ((projected - projected[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(rows)) and float(gaps.max()) > 0:
        chosen.append(int(gaps.argmax()))
        gaps = np.minimum(gaps, ((projected - projected[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen, np.int64)


def with_threshold(info: GoodPartsInfo, scores: NDArray[np.float64], groups: NDArray[np.int64] | None = None) -> GoodPartsInfo:
    """Choose the threshold on the scores `(n,)` of held-out good parts; pictures of one of `groups` `(n,)` show one part.

    Of n parts, each of the score of its oddest picture, k = wanted * (n + 1) may lie above it, so that a further part does with
    a probability of at most k / (n + 1) (Vovk et al., Algorithmic Learning in a Random World, 2005). At least one lies at it:
    few parts promise no less than 1 / (n + 1), which is then what is stated. Raises DatasetError without held-out pictures.
    """
    if not len(scores):
        raise DatasetError("there is no held-out good part to choose a threshold on")
    names = np.arange(len(scores)) if groups is None else groups
    parts = np.array([scores[names == each].max() for each in np.unique(names)])
    above = max(1, math.floor(info.wanted * (len(parts) + 1) + 1e-9))
    threshold = float(np.sort(parts)[len(parts) - above]) * _SLACK
    return replace(
        info,
        novel_above=max(threshold, 1e-6),
        false_alarms=max(info.wanted, above / (len(parts) + 1)),
        parts=len(parts),
        pictures=len(scores),
    )
