"""Saying "I don't know": how well a model's sureness tells its classes from all else, and where to cut."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import metrics
from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import DatasetError
from edgecnn.evaluation import run_all
from edgecnn.runtimes import Runtime
from edgecnn.tasks import Task

FALSE_ACCEPTS = 0.05  # of what belongs to no class may be taken for a class
LOST = 0.05  # of the pictures of a class may be rejected for it, and no more
PER_KIND = 200  # generated pictures of each kind that a measurement takes
_CURVE = 101  # points of the coverage-accuracy curve
# Draws other pictures for a measurement than those that the threshold was chosen on with the same seed.
_MEASURING = 1
_METAL = ("plain steel", "brushed metal")  # kinds of surfaces

Scores = NDArray[np.float64]


def _probability(probabilities: NDArray[np.float32]) -> Scores:
    return np.asarray(probabilities.max(axis=1), np.float64)


def _margin(probabilities: NDArray[np.float32]) -> Scores:
    second, first = np.sort(probabilities.astype(np.float64), axis=1)[:, -2:].T
    return np.asarray(first - second)


def _negative_entropy(probabilities: NDArray[np.float32]) -> Scores:
    p = probabilities.astype(np.float64)
    return np.asarray((p * np.log(np.maximum(p, 1e-12))).sum(axis=1))


CUT_BY = "highest probability"
# Sureness as a number of the probabilities `(n, classes)`: higher is surer. The first one is what contracts cut by (Hendrycks
# and Gimpel, arXiv:1610.02136); the others are measured beside it, to see whether another cut would be worth its while.
SCORES: dict[str, Callable[[NDArray[np.float32]], Scores]] = {
    CUT_BY: _probability,
    "margin to the second": _margin,
    "negative entropy": _negative_entropy,
}


@dataclass(frozen=True)
class Share:
    """`hits` of `count`, with the Wilson interval at `confidence`."""

    hits: int
    count: int
    confidence: float = 0.95

    @property
    def share(self) -> float:
        """The hits' share; 0 of nothing is 0."""
        return self.hits / max(self.count, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval."""
        return metrics.wilson_interval(self.hits, self.count, self.confidence)

    def to_json(self) -> dict[str, Any]:
        """Return the share with plain numbers."""
        return {"hits": self.hits, "count": self.count, "share": self.share, "interval": list(self.interval)}


@dataclass(frozen=True)
class Cut:
    """What a threshold does: pictures of a class that are kept, how many of these are right, and what else is accepted.

    `unseen` is the mean share of each kind that is accepted when the threshold is chosen without that kind, for the same
    false-accept rate: what to expect of kinds that nobody thought of. None for a threshold that was not chosen here.
    """

    threshold: float
    kept: Share
    right: Share
    accepted: Share
    by_kind: dict[str, Share]
    unseen: float | None = None

    @property
    def hardest(self) -> str:
        """The kind that is accepted most."""
        return max(self.by_kind, key=lambda kind: self.by_kind[kind].share)

    def to_json(self) -> dict[str, Any]:
        """Return the cut with plain numbers."""
        return {
            "threshold": self.threshold,
            "kept": self.kept.to_json(),
            "right_of_kept": self.right.to_json(),
            "false_accepts": self.accepted.to_json(),
            "by_kind": {kind: share.to_json() for kind, share in self.by_kind.items()},
            "unseen_kinds": self.unseen,
        }


@dataclass(frozen=True)
class Area:
    """An AUROC with its interval: how often a picture of a class is surer than one of none."""

    area: float
    interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Rejection:
    """How a model tells pictures of its classes (`data`) from generated ones of none, `per_kind` of each kind.

    `areas` holds the AUROC of each score over all kinds, `kinds` that of the highest probability by kind. `stated` is the cut
    at the model's own threshold, None where it has none; `wanted` the one at which the share `false_accepts` of all others is
    accepted. `coverage` `(k,)` and `accuracy` `(k,)` are the share of pictures that are answered and the share of right ones
    among these answers, as the threshold falls. `calibration_error` is the expected calibration error of all answers.
    """

    data: DataInfo
    per_kind: int
    seed: int
    confidence: float
    false_accepts: float
    areas: dict[str, Area]
    kinds: dict[str, Area]
    stated: Cut | None
    wanted: Cut
    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    calibration_error: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        areas = {
            name: {kind: dataclasses.asdict(area) for kind, area in getattr(self, name).items()} for name in ("areas", "kinds")
        }
        return {
            "data": dataclasses.asdict(self.data),
            "others": {"per_kind": self.per_kind, "seed": self.seed},
            "confidence": self.confidence,
            "false_accepts": self.false_accepts,
            "auroc": areas["areas"],
            "auroc_by_kind": areas["kinds"],
            "stated": None if self.stated is None else self.stated.to_json(),
            "wanted": self.wanted.to_json(),
            "curve": {"coverage": self.coverage.tolist(), "accuracy": self.accuracy.tolist()},
            "calibration_error": self.calibration_error,
        }


def measure_rejection(
    runtime: Runtime,
    task: Task,
    dataset: Dataset,
    data: DataInfo,
    *,
    threshold: float | None,
    false_accepts: float = FALSE_ACCEPTS,
    per_kind: int = PER_KIND,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Callable[[str], None] = lambda line: None,
) -> Rejection:
    """Run a model on pictures of its classes and on generated ones of none.

    `threshold` is the model's own. The others are not those that `choose_threshold` saw with the same seed; of a task that
    makes none of its own they are surfaces of many kinds. Raises DatasetError without pictures.
    """
    if len(dataset) == 0:
        raise DatasetError("there are no pictures to measure on: this split is empty")
    progress(f"running {len(dataset)} pictures")
    true = run_all(runtime, dataset.images)
    others = _run_others(
        runtime, task, per_kind, int(np.random.SeedSequence((seed, _MEASURING)).generate_state(1)[0]), progress
    )
    return measure_scores(
        true,
        dataset.class_ids,
        others,
        data,
        threshold=threshold,
        false_accepts=false_accepts,
        seed=seed,
        confidence=confidence,
    )


def measure_scores(
    true: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    others: Mapping[str, NDArray[np.float32]],
    data: DataInfo,
    *,
    threshold: float | None,
    false_accepts: float = FALSE_ACCEPTS,
    seed: int = 0,
    confidence: float = 0.95,
) -> Rejection:
    """Measure the probabilities `(n, classes)` of pictures of `class_ids` `(n,)` against those of each other kind."""
    sure = _probability(true)
    others_sure = {kind: _probability(probabilities) for kind, probabilities in others.items()}
    right = true.argmax(axis=1) == class_ids
    every = np.concatenate(list(others.values()))
    wanted = threshold_for(others_sure, false_accepts)
    coverage, accuracy = coverage_accuracy(sure, right)

    def cut(at: float, unseen: float | None) -> Cut:
        kept = sure >= at
        by_kind = {kind: Share(int((scores >= at).sum()), len(scores), confidence) for kind, scores in others_sure.items()}
        return Cut(
            at,
            Share(int(kept.sum()), len(kept), confidence),
            Share(int((kept & right).sum()), int(kept.sum()), confidence),
            Share(sum(share.hits for share in by_kind.values()), len(every), confidence),
            by_kind,
            unseen,
        )

    return Rejection(
        data=data,
        per_kind=min(len(scores) for scores in others_sure.values()),
        seed=seed,
        confidence=confidence,
        false_accepts=false_accepts,
        areas={name: _area(score(true), score(every), confidence) for name, score in SCORES.items()},
        kinds={kind: _area(sure, scores, confidence) for kind, scores in others_sure.items()},
        stated=None if threshold is None else cut(threshold, None),
        wanted=cut(wanted, _unseen(others_sure, false_accepts)),
        coverage=coverage,
        accuracy=accuracy,
        calibration_error=metrics.expected_calibration_error(true, class_ids),
    )


def choose_threshold(true: Scores, others: Mapping[str, Scores], *, false_accepts: float = FALSE_ACCEPTS) -> float:
    """Return the threshold that lets in `false_accepts` of the others, but none that costs more than LOST of the true.

    `true` `(n,)` are the highest probabilities of held-out pictures of the classes, `others` those of each kind of none. The
    rate is held over the half of the kinds that are accepted most: black pictures and the like, which every model rejects,
    would otherwise leave room for the hard ones. Rounded to three digits, to the side that keeps both promises.
    """
    hardest = sorted(others.values(), key=lambda scores: -float(np.quantile(scores, 1 - false_accepts)))
    wanted = threshold_for(dict(enumerate(hardest[: math.ceil(len(hardest) / 2)])), false_accepts)
    bearable = float(np.quantile(true, LOST, method="lower"))
    return min(math.ceil(1000 * wanted), math.floor(1000 * bearable)) / 1000


def threshold_for(others: Mapping[Any, Scores], false_accepts: float) -> float:
    """Return the lowest threshold at which no more than `false_accepts` of all scores are accepted (score >= threshold)."""
    scores = np.sort(np.concatenate(list(others.values())))
    allowed = math.floor(false_accepts * len(scores))
    if allowed >= len(scores):
        return 0.0
    # Just above the highest score that must be rejected: equal scores, which int8 has many of, fall together.
    return float(np.nextafter(scores[len(scores) - allowed - 1], np.inf))


def coverage_accuracy(sure: Scores, right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coverages and accuracies `(k,)`: of the surest pictures up to each share, those whose answer is right.

    The curve of selective classification (El-Yaniv and Wiener, JMLR 11, 2010); equally sure pictures are answered together.
    """
    thresholds = np.unique(np.quantile(sure, np.linspace(0, 1, _CURVE), method="lower"))[::-1]
    kept = sure[None, :] >= thresholds[:, None]
    counts = kept.sum(axis=1)
    return counts / len(sure), (kept & right[None, :]).sum(axis=1) / counts


def run_others(runtime: Runtime, task: Task, per_kind: int, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return the probabilities `(per_kind, classes)` of generated pictures of each kind that is no class of the task."""
    return _run_others(runtime, task, per_kind, seed, lambda line: None)


def _run_others(
    runtime: Runtime, task: Task, per_kind: int, seed: int, progress: Callable[[str], None]
) -> dict[str, NDArray[np.float32]]:
    progress(f"generating {per_kind} pictures of each kind that is no class")
    kinds = _surfaces(task, per_kind, seed) if task.others is None else task.others(per_kind, seed)
    progress(f"running {sum(map(len, kinds.values()))} of them")
    return {kind: run_all(runtime, images) for kind, images in kinds.items()}


def _surfaces(task: Task, count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Draw what belongs to no class of anybody's parts: a covered lens, a hand, print, cloth and the like.

    Bare metal is left out, for it may be what the parts are of.
    """
    from edgecnn.datasets.synthetic.ood_surfaces import generate_other_surfaces

    drawn = generate_other_surfaces(count, seed)
    kinds = {kind: images for kind, images in drawn.items() if kind not in _METAL}
    return {kind: np.stack([task.preprocessing(image[..., 0]) for image in images]) for kind, images in kinds.items()}


def _area(true: Scores, others: Scores, confidence: float) -> Area:
    area = metrics.auroc(true, others)
    return Area(area, metrics.auroc_interval(area, len(true), len(others), confidence))


def _unseen(others: Mapping[str, Scores], false_accepts: float) -> float | None:
    """Return the mean share of each kind that is accepted at the threshold chosen on all other kinds."""
    if len(others) < 2:
        return None
    rates = []
    for kind, scores in others.items():
        rest = {name: values for name, values in others.items() if name != kind}
        rates.append(float((scores >= threshold_for(rest, false_accepts)).mean()))
    return float(np.mean(rates))
