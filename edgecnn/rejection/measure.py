"""How well a model's sureness tells its classes from out-of-distribution pictures, and what a threshold does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import metrics
from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import DatasetError
from edgecnn.metrics import Share
from edgecnn.rejection.evidence import FALSE_ACCEPTS, run_with_features
from edgecnn.rejection.good_parts import Guard
from edgecnn.rejection.threshold import SCORES, THRESHOLD_SCORE, Scores, draw_ood, threshold_for
from edgecnn.robustness.corruptions import corrupt, corruptions_for
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.runtime import run_all
from edgecnn.tasks import Task

PER_KIND = 200  # generated pictures of each kind that a measurement takes
NOVELTY = "novelty"
_CURVE = 101  # points of the coverage-accuracy curve
# Draws other pictures for a measurement than those that the threshold was chosen on with the same seed.
_MEASURING = 1


@dataclass(frozen=True)
class OperatingPoint:
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
        return max(self.by_kind, key=lambda kind: self.by_kind[kind].value)

    def to_json(self) -> dict[str, Any]:
        """Return the operating point with plain numbers."""
        return {
            "threshold": self.threshold,
            "kept": self.kept.to_json(),
            "right_of_kept": self.right.to_json(),
            "false_accepts": self.accepted.to_json(),
            "by_kind": {kind: share.to_json() for kind, share in self.by_kind.items()},
            "unseen_kinds": self.unseen,
        }


@dataclass(frozen=True)
class Corrupted:
    """Pictures under one corruption: kept at the model's own threshold and at the wanted one, right, calibration error."""

    kept: Share
    kept_wanted: Share
    right: Share
    calibration_error: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        shares = {"kept": self.kept, "kept_wanted": self.kept_wanted, "right": self.right}
        return {name: share.to_json() for name, share in shares.items()} | {"calibration_error": self.calibration_error}


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model says of pictures: `probabilities` `(n, classes)`, and the `novelty` `(n,)` where it is known."""

    probabilities: NDArray[np.float32]
    novelty: Scores | None = None


@dataclass(frozen=True)
class Auroc:
    """The area under the ROC curve with its interval: how often the model is surer of a picture of a class."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Rejection:
    """How a model tells pictures of its classes (`data`) from out-of-distribution ones, `per_kind` of each kind.

    `aurocs` holds the AUROC of each score over all kinds, `aurocs_by_kind` that of the `score` by kind. `stated` is
    the operating point at the model's own threshold, None where it has none; `wanted` the one at which the share
    `false_accepts` of the out-of-distribution pictures is accepted. `coverage` `(k,)` and `accuracy` `(k,)` are the share of
    pictures that are answered and the share of right ones among these answers, as the threshold falls. `calibration_error` is
    the expected calibration error of all answers. Thresholds are of the `score`: of the highest probability, or of minus the
    novelty of what is not unsure. `corrupted` is the same pictures under each corruption, where that was asked for.
    """

    data: DataInfo
    per_kind: int
    seed: int
    confidence: float
    false_accepts: float
    aurocs: dict[str, Auroc]
    aurocs_by_kind: dict[str, Auroc]
    stated: OperatingPoint | None
    wanted: OperatingPoint
    coverage: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    calibration_error: float
    score: str = THRESHOLD_SCORE
    corrupted: dict[str, Corrupted] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        return {
            "data": dataclasses.asdict(self.data),
            "out_of_distribution": {"per_kind": self.per_kind, "seed": self.seed},
            "confidence": self.confidence,
            "false_accepts": self.false_accepts,
            "auroc": {name: dataclasses.asdict(auroc) for name, auroc in self.aurocs.items()},
            "auroc_by_kind": {kind: dataclasses.asdict(auroc) for kind, auroc in self.aurocs_by_kind.items()},
            "stated": None if self.stated is None else self.stated.to_json(),
            "wanted": self.wanted.to_json(),
            "curve": {"coverage": self.coverage.tolist(), "accuracy": self.accuracy.tolist()},
            "calibration_error": self.calibration_error,
            "score": self.score,
            **({} if self.corrupted is None else {"corrupted": {k: each.to_json() for k, each in self.corrupted.items()}}),
        }


def measure_rejection(
    runtime: Runtime,
    task: Task,
    dataset: Dataset,
    data: DataInfo,
    *,
    threshold: float | None,
    evidence: Guard | None = None,
    severity: int | None = None,
    false_accepts: float = FALSE_ACCEPTS,
    per_kind: int = PER_KIND,
    others: Mapping[str, NDArray[np.uint8]] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Callable[[str], None] = lambda line: None,
) -> Rejection:
    """Run a model on pictures of its classes and on generated out-of-distribution ones.

    `threshold` is the model's own; with `evidence` a picture is kept as that says, and the novelty is measured too. With a
    `severity`, 1 to 5, the pictures under each corruption are measured as well. The out-of-distribution pictures are not those
    that thresholds are chosen on with the same seed; `others` `(n, h, w, c)` are a user's own, by kind, beside them. Raises
    DatasetError without pictures.
    """
    if len(dataset) == 0:
        raise DatasetError("there are no pictures to measure on: this split is empty")
    progress(f"running {len(dataset)} pictures")
    true = find(runtime, dataset.images, evidence)
    progress(f"running {per_kind} generated out-of-distribution pictures of each kind")
    drawn = draw_ood(task, per_kind, int(np.random.SeedSequence((seed, _MEASURING)).generate_state(1)[0])) | dict(others or {})
    ood = {kind: find(runtime, images, evidence) for kind, images in drawn.items()}
    unsure_below = 0.0 if evidence is None else evidence.info.unsure_below
    found = measure_scores(
        true,
        dataset.class_ids,
        ood,
        data,
        threshold=threshold if evidence is None else -1.0,
        unsure_below=unsure_below,
        false_accepts=false_accepts,
        seed=seed,
        confidence=confidence,
    )
    if severity is None or found.stated is None:
        return found
    corrupted: dict[str, Corrupted] = {}
    for corruption in corruptions_for(task):
        progress(f"running the pictures under {corruption.name}")
        seen = find(runtime, corrupt(dataset.images, corruption, severity, seed), evidence)
        sure = sureness(seen, unsure_below)
        right = seen.probabilities.argmax(axis=1) == dataset.class_ids
        corrupted[corruption.name] = Corrupted(
            Share(int((sure >= found.stated.threshold).sum()), len(dataset), confidence),
            Share(int((sure >= found.wanted.threshold).sum()), len(dataset), confidence),
            Share(int(right.sum()), len(dataset), confidence),
            metrics.expected_calibration_error(seen.probabilities, dataset.class_ids),
        )
    return dataclasses.replace(found, corrupted=corrupted)


def find(runtime: Runtime, images: NDArray[np.uint8], evidence: Guard | None) -> Seen:
    """Run `(n, h, w, c)` uint8 in slices; with evidence probabilities are tempered, and the novelty is known."""
    if evidence is None:
        return Seen(run_all(runtime, images))
    found = run_with_features(runtime, images)
    return Seen(evidence.temper(found.probabilities), evidence.judge(found.pooled, found.probabilities).novelty)


def sureness(seen: Seen, unsure_below: float) -> Scores:
    """Return the score that thresholds are compared with: minus the novelty of what is not unsure, else the probability."""
    sure = SCORES[THRESHOLD_SCORE](seen.probabilities)
    return sure if seen.novelty is None else np.where(sure >= unsure_below, -seen.novelty, -np.inf)


def measure_scores(
    true: Seen,
    class_ids: NDArray[np.int64],
    ood: Mapping[str, Seen],
    data: DataInfo,
    *,
    threshold: float | None,
    unsure_below: float = 0.0,
    false_accepts: float = FALSE_ACCEPTS,
    seed: int = 0,
    confidence: float = 0.95,
) -> Rejection:
    """Measure what was seen in pictures of `class_ids` `(n,)` against what was seen in each OOD kind.

    `threshold` is of the probability or, where the novelty is known, of minus the novelty.
    """
    sure = sureness(true, unsure_below)
    ood_sure = {kind: sureness(seen, unsure_below) for kind, seen in ood.items()}
    right = true.probabilities.argmax(axis=1) == class_ids
    every = np.concatenate([seen.probabilities for seen in ood.values()])
    wanted = threshold_for(ood_sure, false_accepts)
    coverage, accuracy = coverage_accuracy(sure, right)
    aurocs = {name: _auroc(score(true.probabilities), score(every), confidence) for name, score in SCORES.items()}
    main, known = THRESHOLD_SCORE, _likeness(true)
    by_kind = {kind: _auroc(known, _likeness(seen), confidence) for kind, seen in ood.items()}
    if true.novelty is not None:
        main = NOVELTY
        aurocs = {NOVELTY: _auroc(known, np.concatenate([_likeness(seen) for seen in ood.values()]), confidence)} | aurocs

    def operating_point(at: float, unseen: float | None) -> OperatingPoint:
        kept = sure >= at
        by_kind = {kind: Share(int((scores >= at).sum()), len(scores), confidence) for kind, scores in ood_sure.items()}
        return OperatingPoint(
            at,
            Share(int(kept.sum()), len(kept), confidence),
            Share(int((kept & right).sum()), int(kept.sum()), confidence),
            Share(sum(share.hits for share in by_kind.values()), len(every), confidence),
            by_kind,
            unseen,
        )

    return Rejection(
        data=data,
        per_kind=min(len(scores) for scores in ood_sure.values()),
        seed=seed,
        confidence=confidence,
        false_accepts=false_accepts,
        score=main,
        aurocs=aurocs,
        aurocs_by_kind=by_kind,
        stated=None if threshold is None else operating_point(threshold, None),
        wanted=operating_point(wanted, _unseen(ood_sure, false_accepts)),
        coverage=coverage,
        accuracy=accuracy,
        calibration_error=metrics.expected_calibration_error(true.probabilities, class_ids),
    )


def _likeness(seen: Seen) -> Scores:
    return SCORES[THRESHOLD_SCORE](seen.probabilities) if seen.novelty is None else -seen.novelty


def coverage_accuracy(sure: Scores, right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coverages and accuracies `(k,)`: of the surest pictures up to each share, those whose answer is right.

    The curve of selective classification (El-Yaniv and Wiener, JMLR 11, 2010); equally sure pictures are answered together.
    """
    thresholds = np.unique(np.quantile(sure, np.linspace(0, 1, _CURVE), method="lower"))[::-1]
    kept = sure[None, :] >= thresholds[:, None]
    counts = kept.sum(axis=1)
    return counts / len(sure), (kept & right[None, :]).sum(axis=1) / counts


def _auroc(true: Scores, ood: Scores, confidence: float) -> Auroc:
    value = metrics.auroc(true, ood)
    return Auroc(value, metrics.auroc_interval(value, len(true), len(ood), confidence))


def _unseen(ood: Mapping[str, Scores], false_accepts: float) -> float | None:
    """Return the mean share of each kind that is accepted at the threshold chosen on all other kinds."""
    if len(ood) < 2:
        return None
    rates = []
    for kind, scores in ood.items():
        rest = {name: values for name, values in ood.items() if name != kind}
        rates.append(float((scores >= threshold_for(rest, false_accepts)).mean()))
    return float(np.mean(rates))
