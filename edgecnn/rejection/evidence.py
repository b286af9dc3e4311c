"""What stands behind an answer: an honest probability, and how like the picture is to those that were taught.

A picture is novel by the distance of its features to a handful of centres per class; the centres are those of k-means (Lloyd,
IEEE Trans. Inf. Theory 28, 1982) on features, or their square roots, of unit length. Thresholds are split conformal (Vovk et
al., Algorithmic Learning in a Random World, 2005): of n held-out pictures the one that ranks ceil((n + 1) * keep rate) decides,
so that a picture of the same kind is kept with at least that probability.
"""

from __future__ import annotations

import base64
import copy
import itertools
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import EvidenceInfo
from edgecnn.conformal import losable
from edgecnn.errors import ContractError, DatasetError, InputError
from edgecnn.quick_dataclass import dataclass
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.head import as_compared, distances, read_centres, unit
from edgecnn.runtimes.runtime import answer_slices

KEEP_RATE = 0.98
CENTRES = 8  # of each class, fewer where that many features would fill the contract
FALSE_ACCEPTS = 0.05  # of the out-of-distribution pictures may be taken for a class
MIN_PICTURES = 10
_MOST_UNSURE = 0.5  # an answer of one half or more is not unsure, whatever may be lost
_LOG_WEIGHTS = (0.0, 0.1, 0.5, 2.0, 8.0)
_TEMPERATURES = np.exp(np.linspace(math.log(0.1), math.log(10), 201))
_LEAST = 1e-6  # the smallest probability that a runtime tells from none
_ROUNDS = 25
# Sums of products differ in their last bits between processors, and thresholds are what held-out pictures scored: without
# rounding, these very pictures would be novel on one machine and not on another.
_DECIMALS, _JUST_BELOW = 6, 1 - 2e-6
_MAX_CENTRES, _MAX_CENTRE_BYTES = 4096, 2**18  # with the head they have room in a contract of a megabyte


@dataclass(frozen=True, eq=False)
class Findings:
    """What a model says of pictures: `probabilities` `(n, classes)` as they come, and the `pooled` features `(n, channels)`."""

    probabilities: NDArray[np.float32]
    pooled: NDArray[np.float64]


def run_with_features(runtime: Runtime, images: NDArray[np.uint8]) -> Findings:
    """Run `(n, h, w, c)` uint8 in slices, of which only the means of the features are kept; InputError without features."""
    probabilities, pooled = [], []
    for found in answer_slices(runtime, images):
        if found.pooled is None:
            raise InputError(f"{runtime.name} gives no features of this model")
        probabilities.append(found.probabilities)
        pooled.append(found.pooled)
    return Findings(np.concatenate(probabilities), np.concatenate(pooled))


@dataclass(frozen=True, eq=False)
class Judged:
    """How novel pictures are, `(n,)`, above 1 for those like nothing that was taught, and the class nearest to each, `(n,)`.

    `tempered` are their probabilities `(n, classes)`, tempered.
    """

    novelty: NDArray[np.float64]
    nearest: NDArray[np.int64]
    tempered: NDArray[np.float32]


class Evidence:
    """A contract's `EvidenceInfo`, ready to judge answers."""

    def __init__(self, info: EvidenceInfo, channels: int, classes: int) -> None:
        """Read the centres; ContractError when they or the thresholds are no such thing."""
        self.info = info
        numbers = (info.temperature, info.unsure_below, info.novel_above, info.scale, info.log_weight, info.keep_rate)
        positive = info.temperature, info.scale, info.novel_above
        if not all(map(math.isfinite, numbers)) or min(positive) <= 0 or info.log_weight < 0:
            raise ContractError("the evidence's thresholds are not finite numbers in their ranges")
        if len(info.centre_classes) > _MAX_CENTRES or channels * len(info.centre_classes) > _MAX_CENTRE_BYTES:
            raise ContractError(f"{len(info.centre_classes)} centres of {channels} channels are more than are read")
        self._centres = read_centres(info, channels)
        count = len(self._centres)
        if not 0 < count == len(info.centre_classes) or not all(0 <= each < classes for each in info.centre_classes):
            raise ContractError(f"{count} centres do not go with {len(info.centre_classes)} classes of them")
        self._classes = np.array(info.centre_classes)

    def temper(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return softmax(scores / temperature) `(..., classes)` of what was softmax(scores)."""
        return temper(probabilities, self.info.temperature)

    def distances(self, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of features `(n, channels)` to each centre, `(n, centres)`, 0 to 2."""
        return distances(as_compared(pooled, self.info.roots), self._centres)

    def distance(self, pooled: NDArray[np.float64], probabilities: NDArray[np.float32]) -> float:
        """Return how far one picture's features `(1, channels)` are from the nearest centre, 0 to 2."""
        return float(self.distances(pooled).min())

    def judge(self, pooled: NDArray[np.float64], probabilities: NDArray[np.float32]) -> Judged:
        """Judge pictures by their features `(n, channels)` and what the runtime gave, `probabilities` `(n, classes)`."""
        distances = self.distances(pooled)
        scores, tempered = distances.min(axis=1), self.temper(probabilities)
        if self.info.log_weight:
            scores = _scores(scores, tempered, self.info.log_weight)
        nearest = self._classes[distances.argmin(axis=1)]
        return Judged(np.round(scores / self.info.novel_above, _DECIMALS), nearest, tempered)

    def with_thresholds(self, **thresholds: float) -> Evidence:
        """Return the evidence with another `unsure_below` or `novel_above`."""
        other = copy.copy(self)
        other.info = replace(self.info, **thresholds)  # type: ignore[arg-type]  # both are floats
        return other

    def keeps(self, findings: Findings) -> NDArray[np.bool_]:
        """Tell which pictures get a label, `(n,)`: neither unsure nor novel."""
        sure = self.temper(findings.probabilities).max(axis=1) >= self.info.unsure_below
        return np.asarray(sure & (self.judge(findings.pooled, findings.probabilities).novelty <= 1))


def fit_evidence(
    train: Findings,
    train_ids: NDArray[np.int64],
    held_out: Findings,
    held_out_ids: NDArray[np.int64],
    others: Mapping[str, Findings],
    *,
    stated: Collection[str] = (),
    keep_rate: float = KEEP_RATE,
    seed: int = 0,
) -> EvidenceInfo:
    """Fit centres to training pictures and choose all thresholds on held-out pictures and on `others`, by kind.

    `train_ids` and `held_out_ids` `(n,)` are the pictures' classes. The weight of the probability in the novelty, and whether
    roots of the features are compared, are those that tell held-out pictures from the others best (AUROC). Where the others
    leave room, the novelty's threshold is as high as FALSE_ACCEPTS of them allow, of all together and of each of the kinds
    `stated` by a user: pictures under a worse light are then kept. Few held-out pictures promise a lower keep rate, which is
    then the one that is stated. Raises DatasetError for less than MIN_PICTURES.
    """
    from edgecnn.metrics import auroc  # not for whoever reads evidence

    count = len(held_out_ids)
    if count < MIN_PICTURES:
        raise DatasetError(f"{count} held-out pictures promise nothing: at least {MIN_PICTURES} are needed")
    unsure, novel = losable(count, keep_rate)
    keep_rate = min(keep_rate, 1 - (unsure + novel) / (count + 1))
    classes = train.probabilities.shape[1]
    temperature = best_temperature(held_out.probabilities, held_out_ids)
    fitting = _MAX_CENTRE_BYTES // (train.pooled.shape[1] * classes)
    if not fitting:
        raise DatasetError(f"{train.pooled.shape[1]} features for each of {classes} classes are too many to carry")
    common = {"temperature": temperature, "keep_rate": keep_rate, "pictures": count, "kinds": tuple(others), "seed": seed}
    drafts = {
        roots: _draft(unit(as_compared(train.pooled, roots)), train_ids, min(CENTRES, fitting), {"roots": roots, **common})
        for roots in (True, False)
    }
    own = temper(held_out.probabilities, temperature)
    theirs = [temper(each.probabilities, temperature) for each in others.values()]
    own_distances, their_distances = dict[bool, NDArray[np.float64]](), dict[bool, list[NDArray[np.float64]]]()
    for roots, drafted in drafts.items():
        evidence = Evidence(drafted, train.pooled.shape[1], classes)
        own_distances[roots] = evidence.distances(held_out.pooled).min(axis=1)
        their_distances[roots] = [evidence.distances(each.pooled).min(axis=1) for each in others.values()]

    def novelties(roots: bool, weight: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        parts = [_scores(d, p, weight) for d, p in zip(their_distances[roots], theirs, strict=True)]
        return _scores(own_distances[roots], own, weight), np.concatenate([*parts, np.empty(0)])

    def told_apart(form: tuple[bool, float]) -> float:
        ours, strange = novelties(*form)
        return auroc(-ours, -strange) if len(strange) else 0.0

    roots, weight = max(itertools.product(drafts, _LOG_WEIGHTS), key=told_apart)
    draft, ours, strange = drafts[roots], *novelties(roots, weight)
    unsure_below = min(_MOST_UNSURE, float(np.sort(own.max(axis=1))[unsure - 1]))
    novel_above = float(np.sort(ours)[count - novel])
    # What gets a label must also be sure: the others that are unsure anyway leave room for more.
    scored = [
        np.where(p.max(axis=1) >= unsure_below, _scores(d, p, weight), np.inf)
        for d, p in zip(their_distances[roots], theirs, strict=True)
    ]
    mine = [each for kind, each in zip(others, scored, strict=True) if kind in stated]
    rooms = [_room(np.concatenate(scored)), *map(_room, mine)] if len(strange) else []
    if rooms and math.isfinite(min(rooms)):
        novel_above = max(novel_above, min(rooms))
    novel_above = max(novel_above, 1e-6)
    final = replace(draft, unsure_below=unsure_below, novel_above=novel_above, log_weight=weight)
    chosen = Evidence(final, train.pooled.shape[1], classes)
    accepted = [float(chosen.keeps(each).mean()) for each in others.values() if len(each.pooled)]
    kept = float(chosen.keeps(held_out).mean())
    return replace(final, kept=kept, false_accepts=float(np.mean(accepted)) if accepted else 0.0)


def _draft(units: NDArray[np.float64], class_ids: NDArray[np.int64], count: int, common: dict[str, Any]) -> EvidenceInfo:
    """Return evidence with up to `count` centres of each class of points of unit length `(n, channels)`, without thresholds."""
    centres, owners = _centres(units, class_ids, count, common["seed"])
    scale = float(np.abs(centres).max() / 127) or 1.0
    return EvidenceInfo(
        unsure_below=0.0,
        novel_above=1.0,
        centres=base64.b64encode(np.rint(centres / scale).astype(np.int8).tobytes()).decode(),
        scale=scale,
        centre_classes=tuple(int(owner) for owner in owners),
        log_weight=0.0,
        kept=0.0,
        false_accepts=0.0,
        **common,
    )


def _room(novelties: NDArray[np.float64]) -> float:
    """Return the highest threshold at which FALSE_ACCEPTS of strangers of these novelties `(n,)` get a label, inf for any."""
    lowest = np.append(np.sort(novelties), np.inf)
    return float(lowest[math.floor(FALSE_ACCEPTS * len(novelties))]) * _JUST_BELOW


def temper(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return softmax(scores / temperature) `(..., classes)` of what was softmax(scores) (Guo et al., arXiv:1706.04599)."""
    return np.asarray(np.exp(_log_tempered(probabilities, temperature)), np.float32)


def _log_tempered(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    scores = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    scores = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)))


def _scores(distances: NDArray[np.float64], probabilities: NDArray[np.float32], weight: float) -> NDArray[np.float64]:
    sure = np.maximum(probabilities.max(axis=1).astype(np.float64), _LEAST)
    return np.asarray(distances - weight * np.log(sure))


def best_temperature(probabilities: NDArray[np.float32], class_ids: NDArray[np.int64]) -> float:
    """Return the temperature of the smallest negative log-likelihood of the true classes.

    Of n pictures the true class counts as true with (n + 1) / (n + 2) (Platt, Probabilistic Outputs for SVMs, 1999): few
    pictures that are all answered correctly would otherwise make every answer as good as certain.
    """
    count, classes = probabilities.shape
    certain = (count + 1) / (count + 2)
    targets = np.full((count, classes), (1 - certain) / max(1, classes - 1))
    targets[np.arange(count), class_ids] = certain

    def loss(temperature: float) -> float:
        return float(-(targets * _log_tempered(probabilities, temperature)).sum(axis=1).mean())

    return float(min(_TEMPERATURES, key=loss))


def _centres(
    units: NDArray[np.float64], class_ids: NDArray[np.int64], count: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    found, owners = [], []
    for class_id in np.unique(class_ids):
        own = k_means(units[class_ids == class_id], count, np.random.default_rng((seed, int(class_id))))
        found.append(own)
        owners += [int(class_id)] * len(own)
    return np.concatenate(found), np.array(owners)


def k_means(points: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return at most `count` centres of points `(n, channels)`; first ones far apart (Arthur and Vassilvitskii, 2007)."""
    first: list[int] = [int(random.integers(len(points)))]
    while len(first) < min(count, len(points)):
        gaps = _squared(points, points[first]).min(axis=1)
        if gaps.sum() <= 0:
            break
        first.append(int(random.choice(len(points), p=gaps / gaps.sum())))
    centres = points[first]
    for _ in range(_ROUNDS):
        nearest = _squared(points, centres).argmin(axis=1)
        centres = np.stack([points[nearest == i].mean(axis=0) if (nearest == i).any() else c for i, c in enumerate(centres)])
    return centres


def _squared(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(squares, 0))
