"""What stands behind an answer: an honest probability, and how like the picture is to those that were taught.

A picture is novel by the distance of its features to centres of each class, and by how much more like outliers it is than like
training pictures; the centres are those of k-means (Lloyd, IEEE Trans. Inf. Theory 28, 1982) on features, or their square or
fourth roots, of unit length. Thresholds are split conformal (Vovk et al., Algorithmic Learning in a Random World, 2005): of n
held-out pictures the one that ranks ceil((n + 1) * keep rate) decides, so that a picture of the same kind is kept with at least
that probability.
"""

from __future__ import annotations

import base64
import copy
import itertools
import math
import operator
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import EvidenceInfo, HeadInfo
from edgecnn.conformal import losable
from edgecnn.errors import ContractError, DatasetError, InputError
from edgecnn.quick_dataclass import dataclass
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.head import (
    FEW_CLASSES,
    SHORTEST,
    as_compared,
    read_centres,
    read_contrast,
    read_places,
    read_weights,
    rounded,
    unit,
    unit_distances,
)
from edgecnn.runtimes.runtime import answer_slices

KEEP_RATE = 0.98
CENTRES = 32  # of each class, fewer where that many features would fill the contract
KEPT_CORRUPTED = 0.95  # of held-out pictures under a worse light: a novelty's threshold is raised no further than they need
ROOM = 0.02  # of the out-of-distribution pictures may be taken for a class where the novelty's threshold is raised
FALSE_ACCEPTS = 0.05  # of them may be, where rejection is measured
MIN_PICTURES = 10
_MOST_UNSURE = 0.5  # an answer of one half or more is not unsure, whatever may be lost
_LOG_WEIGHTS = (0.1, 0.5, 2.0, 8.0)
# Of contrast and score: a deviation of theirs counts as so many of the distances', both among training pictures.
_CONTRAST_WEIGHTS, _SCORE_WEIGHTS = (0.0, 1.0, 2.0, 4.0), (0.5, 2.0, 8.0, 32.0)
_ROOTS = (2, 4, 1)  # degrees; the first where nothing tells which is best
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

    def __init__(self, info: EvidenceInfo, channels: int, classes: int, head: HeadInfo | None = None, taught: int = 0) -> None:
        """Read the centres; ContractError when they or the thresholds are no such thing.

        The `head` gives the scores, where they count. The last `taught` centres are of classes that were taught later: of what
        is near these, distance alone counts, since it may well be like outliers.
        """
        self.info = info
        numbers = (info.temperature, info.unsure_below, info.novel_above, info.scale, info.keep_rate, *_weights(info))
        positive = info.temperature, info.scale, info.novel_above
        if not all(map(math.isfinite, numbers)) or min(positive) <= 0 or min(_weights(info)) < 0:
            raise ContractError("the evidence's thresholds are not finite numbers in their ranges")
        if len(info.centre_classes) > _MAX_CENTRES or channels * len(info.centre_classes) > _MAX_CENTRE_BYTES:
            raise ContractError(f"{len(info.centre_classes)} centres of {channels} channels are more than are read")
        self._centres = read_centres(info, channels)
        count = len(self._centres)
        if not 0 < count == len(info.centre_classes) or not all(0 <= each < classes for each in info.centre_classes):
            raise ContractError(f"{count} centres do not go with {len(info.centre_classes)} classes of them")
        if info.score_weight and head is None:
            raise ContractError("the evidence asks for scores that this model does not give")
        self._classes, self._fitted = np.array(info.centre_classes), count - taught
        self._squares = (self._centres**2).sum(axis=1)
        # Features meet all centres and the contrast in one product: `(channels, centres + 1)`.
        direction, self._constant = read_contrast(info, channels) if info.contrast_weight else (np.zeros(channels), 0.0)
        self._directions = np.ascontiguousarray(np.vstack([-2 * self._centres, direction]).T)
        self.place_weights = read_places(info, channels, classes)  # of fewer classes than there are, or of none
        self._head = (read_weights(head), head.bias) if info.score_weight and head is not None else None

    def temper(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return softmax(scores / temperature) `(..., classes)` of what was softmax(scores)."""
        return temper(probabilities, self.info.temperature)

    def distances(self, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of features `(n, channels)` to each centre, `(n, centres)`, 0 to 2."""
        return unit_distances(unit(as_compared(pooled, self.info.root)), self._centres)

    def distance(self, pooled: NDArray[np.float64], probabilities: NDArray[np.float32]) -> float:
        """Return how far one picture's features `(1, channels)` are from the nearest centre, 0 to 2."""
        return float(self.distances(pooled).min())

    def strangeness(self, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the novelty of features `(n, channels)` without the shares of scores and probability, `(n,)`."""
        return np.array(self._compare(pooled, [0.0] * len(pooled))[0])

    def judge(self, pooled: NDArray[np.float64], probabilities: NDArray[np.float32]) -> Judged:
        """Judge pictures by their features `(n, channels)` and what the runtime gave, `probabilities` `(n, classes)`."""
        tempered, unlikely = self.temper(probabilities), [0.0] * len(pooled)
        if self._head is not None:
            weights, bias = self._head
            highest = [max(map(operator.add, row, bias)) for row in (pooled @ weights).tolist()]
            unlikely = [self.info.score_weight * _softplus(-each) for each in highest]
        scores, nearest = self._compare(pooled, unlikely)
        if self.info.log_weight:
            sureness = _log_sureness(tempered).tolist()
            scores = [each - self.info.log_weight * sure for each, sure in zip(scores, sureness, strict=True)]
        novelty = [rounded(each / self.info.novel_above, _DECIMALS) for each in scores]
        return Judged(np.array(novelty), self._classes[nearest], tempered)

    def _compare(self, pooled: NDArray[np.float64], strange: list[float]) -> tuple[list[float], NDArray[np.int64]]:
        """Return of features `(n, channels)` the distance to what was known at the export plus contrast and `strange`.

        Where a class that was taught later is nearer than that, its distance alone counts. The second is the nearest centre of
        all. Of one picture a step is a few numbers: all but the widest are Python's, which take less time than NumPy's calls.
        """
        compared = as_compared(pooled, self.info.root)
        own = np.add.reduce(compared * compared, axis=1).tolist()
        lengths = [max(math.sqrt(each), SHORTEST) for each in own]
        products = compared @ self._directions
        products /= np.array(lengths)[:, None]
        squares = products[:, :-1] + self._squares
        own = [each / (length * length) for each, length in zip(own, lengths, strict=True)]  # 1, or 0 without any feature
        known, taught = _least(squares[:, : self._fitted], own), _least(squares[:, self._fitted :], own)
        if weight := self.info.contrast_weight:
            sums = products[:, -1].tolist()
            strange = [each + weight * _softplus(one + self._constant) for each, one in zip(strange, sums, strict=True)]
        scores = [min(near + more, later) for near, more, later in zip(known, strange, taught, strict=True)]
        return scores, squares.argmin(axis=1)

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
    outliers: Findings | None = None,
    head: HeadInfo | None = None,
    stated: Collection[str] = (),
    corrupted: Findings | None = None,
    keep_rate: float = KEEP_RATE,
    seed: int = 0,
) -> EvidenceInfo:
    """Fit centres to training pictures and choose all thresholds on held-out pictures and on `others`, by kind.

    `train_ids` and `held_out_ids` `(n,)` are the pictures' classes; `outliers` are such as training saw, and the `head` gives
    scores. What else than the distance counts in the novelty, how much, and which roots of the features are compared, is what
    tells held-out pictures from the others best (AUROC). Where the others leave room, the novelty's threshold is raised, so
    that pictures under a worse light are kept: no higher than ROOM of them allows, of all together and of each of the
    kinds `stated` by a user, and no higher than what keeps KEPT_CORRUPTED of `corrupted` held-out pictures, since what room is
    left beyond that would serve strangers alone. Few held-out pictures promise a lower keep rate, which is then the one that is
    stated. Raises DatasetError for less than MIN_PICTURES.
    """
    count, (channels, classes) = len(held_out_ids), (train.pooled.shape[1], train.probabilities.shape[1])
    if count < MIN_PICTURES:
        raise DatasetError(f"{count} held-out pictures promise nothing: at least {MIN_PICTURES} are needed")
    unsure, novel = losable(count, keep_rate)
    keep_rate = min(keep_rate, 1 - (unsure + novel) / (count + 1))
    temperature = best_temperature(held_out.probabilities, held_out_ids)
    common = {"temperature": temperature, "keep_rate": keep_rate, "pictures": count, "kinds": tuple(others), "seed": seed}
    drafts = [_draft(train, train_ids, outliers, head, root, common) for root in _ROOTS]
    draft, ours, strange = _told_apart_best(drafts, held_out, list(others.values()), head)
    own = temper(held_out.probabilities, temperature)
    unsure_below = min(_MOST_UNSURE, float(np.sort(own.max(axis=1))[unsure - 1]))
    novel_above = float(np.sort(ours)[count - novel])
    # What gets a label must also be sure: the others that are unsure anyway leave room for more.
    scored = [
        np.where(temper(each.probabilities, temperature).max(axis=1) >= unsure_below, novelty, np.inf)
        for each, novelty in zip(others.values(), strange, strict=True)
    ]
    mine = [each for kind, each in zip(others, scored, strict=True) if kind in stated]
    rooms = [_room(np.concatenate(scored)), *map(_room, mine)] if sum(map(len, scored)) else []
    if rooms and math.isfinite(min(rooms)):
        if corrupted is not None:
            worse = Evidence(draft, channels, classes, head).judge(corrupted.pooled, corrupted.probabilities)
            sure = worse.novelty[worse.tempered.max(axis=1) >= unsure_below]
            rooms += [float(np.quantile(sure, KEPT_CORRUPTED))] if len(sure) else []
        novel_above = max(novel_above, min(rooms))
    final = replace(draft, unsure_below=unsure_below, novel_above=max(novel_above, 1e-6))
    chosen = Evidence(final, channels, classes, head)
    accepted = [float(chosen.keeps(each).mean()) for each in others.values() if len(each.pooled)]
    kept = float(chosen.keeps(held_out).mean())
    return replace(final, kept=kept, false_accepts=float(np.mean(accepted)) if accepted else 0.0)


def _told_apart_best(
    drafts: Collection[_Draft], held_out: Findings, others: list[Findings], head: HeadInfo | None
) -> tuple[EvidenceInfo, NDArray[np.float64], list[NDArray[np.float64]]]:
    """Return the evidence that tells held-out pictures from others best, and the novelty that it gives to both.

    Without others it is the first draft, by distance alone.
    """
    from edgecnn.metrics import auroc  # not for whoever reads evidence

    best: tuple[float, EvidenceInfo, NDArray[np.float64], list[NDArray[np.float64]]] | None = None
    for draft in drafts:
        own, theirs = draft.terms(held_out, head), [draft.terms(each, head) for each in others]
        for candidate in draft.candidates():
            ours, strange = own.novelty(candidate), [each.novelty(candidate) for each in theirs]
            every = np.concatenate([*strange, np.empty(0)])
            area = auroc(-ours, -every) if len(every) else 0.0
            if best is None or area > best[0]:
                best = area, candidate, ours, strange
    assert best is not None
    return best[1:]


class _Terms(NamedTuple):
    """What a novelty adds up of pictures, `(n,)` each, before weights."""

    distance: NDArray[np.float64]
    contrast: NDArray[np.float64]
    score: NDArray[np.float64]
    log_sureness: NDArray[np.float64]

    def novelty(self, info: EvidenceInfo) -> NDArray[np.float64]:
        """Return the sum `(n,)` that the evidence's weights make of it."""
        strange = info.contrast_weight * self.contrast + info.score_weight * self.score
        return np.asarray(self.distance + strange - info.log_weight * self.log_sureness)


@dataclass(frozen=True, eq=False)
class _Draft:
    """Evidence without thresholds and weights, and the weights at which contrast and score vary as the distances do, if any."""

    info: EvidenceInfo
    contrast_weight: float | None
    score_weight: float | None

    def candidates(self) -> list[EvidenceInfo]:
        """Return the evidence with all weights that are tried, distance alone first."""
        contrasts = [0.0] if self.contrast_weight is None else [each * self.contrast_weight for each in _CONTRAST_WEIGHTS]
        rest: list[dict[str, Any]] = [{}, *({"log_weight": each} for each in _LOG_WEIGHTS)]
        if self.score_weight is not None:
            rest += [{"score_weight": each * self.score_weight} for each in _SCORE_WEIGHTS]
        found = [replace(self.info, contrast_weight=each, **more) for each, more in itertools.product(contrasts, rest)]
        return [each if each.contrast_weight else replace(each, contrast="") for each in found]

    def terms(self, findings: Findings, head: HeadInfo | None) -> _Terms:
        """Return what the novelty of pictures adds up."""
        channels, classes = findings.pooled.shape[1], findings.probabilities.shape[1]
        bare = Evidence(self.info, channels, classes)
        contrast: NDArray[np.float64] = np.zeros(len(findings.pooled))
        score = contrast
        if self.contrast_weight is not None:
            contrast = softplus(_sums(self.info, findings.pooled))
        if self.score_weight is not None and head is not None:
            score = softplus(-_highest_scores(head, findings.pooled))
        sureness = _log_sureness(temper(findings.probabilities, self.info.temperature))
        return _Terms(bare.distances(findings.pooled).min(axis=1), contrast, score, sureness)


def _draft(
    train: Findings,
    class_ids: NDArray[np.int64],
    outliers: Findings | None,
    head: HeadInfo | None,
    root: int,
    common: dict[str, Any],
) -> _Draft:
    """Return evidence with centres of each class of training pictures, and with the contrast of outliers if there are any.

    Features of more channels than can be contrasted in seconds are judged without it.
    """
    from edgecnn.rejection.contrast import MOST_CHANNELS, fit_contrast, write_contrast

    channels, classes = train.pooled.shape[1], train.probabilities.shape[1]
    fitting = _MAX_CENTRE_BYTES // (channels * classes)
    if not fitting:
        raise DatasetError(f"{channels} features for each of {classes} classes are too many to carry")
    units = unit(as_compared(train.pooled, root))
    centres, owners = _centres(units, class_ids, min(CENTRES, fitting), common["seed"])
    scale = float(np.abs(centres).max() / 127) or 1.0
    contrast = ""
    if outliers is not None and len(outliers.pooled) and channels <= MOST_CHANNELS:
        contrast = write_contrast(fit_contrast(units, unit(as_compared(outliers.pooled, root))))
    info = EvidenceInfo(
        unsure_below=0.0,
        novel_above=1.0,
        centres=base64.b64encode(np.rint(centres / scale).astype(np.int8).tobytes()).decode(),
        scale=scale,
        centre_classes=tuple(int(owner) for owner in owners),
        log_weight=0.0,
        kept=0.0,
        false_accepts=0.0,
        roots=root > 1,
        degree=max(2, root),
        contrast=contrast,
        **common,
    )
    spread = float(Evidence(info, channels, classes).distances(train.pooled).min(axis=1).std())
    return _Draft(
        info,
        _as_spread(spread, _sums(info, train.pooled)) if contrast else None,
        None if head is None else _as_spread(spread, _highest_scores(head, train.pooled)),
    )


def _as_spread(spread: float, values: NDArray[np.float64]) -> float | None:
    """Return by what values `(n,)` are multiplied to have this standard deviation, None for what does not vary."""
    own = float(values.std())
    return spread / own if own > 1e-9 and spread > 0 else None


def _sums(info: EvidenceInfo, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    direction, constant = read_contrast(info, pooled.shape[1])
    return np.asarray(unit(as_compared(pooled, info.root)) @ direction + constant)


def _highest_scores(head: HeadInfo, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((pooled @ read_weights(head) + np.array(head.bias)).max(axis=1))


def _least(squares: NDArray[np.float64], own: list[float]) -> list[float]:
    """Return the distances to the nearest centres, by what is added to the features' `own` squares; infinite without any."""
    if not squares.shape[1]:
        return [math.inf] * len(own)
    least = np.minimum.reduce(squares, axis=1).tolist()
    return [math.sqrt(max(each + square, 0.0)) for each, square in zip(least, own, strict=True)]


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def softplus(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(1 + exp(values)), which is next to 0 for what is far below 0."""
    return np.asarray(np.logaddexp(0.0, values))


def _weights(info: EvidenceInfo) -> tuple[float, ...]:
    return info.log_weight, info.contrast_weight, info.score_weight


def _room(novelties: NDArray[np.float64]) -> float:
    """Return the highest threshold at which ROOM of the strangers of these novelties `(n,)` get a label, inf for any."""
    lowest = np.append(np.sort(novelties), np.inf)
    return float(lowest[math.floor(ROOM * len(novelties))]) * _JUST_BELOW


def temper(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return softmax(scores / temperature) `(..., classes)` of what was softmax(scores) (Guo et al., arXiv:1706.04599)."""
    if probabilities.shape[-1] > FEW_CLASSES:
        return np.asarray(np.exp(_log_tempered(probabilities, temperature)), np.float32)
    rows = probabilities.reshape(-1, probabilities.shape[-1]).tolist()
    return np.array([_tempered(row, temperature) for row in rows], np.float32).reshape(probabilities.shape)


def _tempered(row: list[float], temperature: float) -> list[float]:
    log, exp = math.log, math.exp
    scores = [log(each if each > _LEAST else _LEAST) / temperature for each in row]
    highest = max(scores)
    scores = [each - highest for each in scores]
    total = log(sum(map(exp, scores)))
    return [exp(each - total) for each in scores]


def _log_tempered(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    scores = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    scores = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)))


def _log_sureness(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logarithm of the highest of probabilities `(n, classes)`, `(n,)`."""
    return np.asarray(np.log(np.maximum(probabilities.max(axis=1).astype(np.float64), _LEAST)))


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
