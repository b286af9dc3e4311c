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
from edgecnn.evaluation import run_all
from edgecnn.metrics import Share
from edgecnn.rejection.threshold import FALSE_ACCEPTS, SCORES, THRESHOLD_SCORE, Scores, run_ood, threshold_for
from edgecnn.runtimes import Runtime
from edgecnn.tasks import Task

PER_KIND = 200  # generated pictures of each kind that a measurement takes
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
class Auroc:
    """The area under the ROC curve with its interval: how often the model is surer of a picture of a class."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Rejection:
    """How a model tells pictures of its classes (`data`) from out-of-distribution ones, `per_kind` of each kind.

    `aurocs` holds the AUROC of each score over all kinds, `aurocs_by_kind` that of the highest probability by kind. `stated` is
    the operating point at the model's own threshold, None where it has none; `wanted` the one at which the share
    `false_accepts` of the out-of-distribution pictures is accepted. `coverage` `(k,)` and `accuracy` `(k,)` are the share of
    pictures that are answered and the share of right ones among these answers, as the threshold falls. `calibration_error` is
    the expected calibration error of all answers.
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
    """Run a model on pictures of its classes and on generated out-of-distribution ones.

    `threshold` is the model's own. The out-of-distribution pictures are not those that `choose_threshold` saw with the
    same seed; of a task without a generator of them they are surfaces of many kinds. Raises DatasetError without pictures.
    """
    if len(dataset) == 0:
        raise DatasetError("there are no pictures to measure on: this split is empty")
    progress(f"running {len(dataset)} pictures")
    true = run_all(runtime, dataset.images)
    ood = run_ood(runtime, task, per_kind, int(np.random.SeedSequence((seed, _MEASURING)).generate_state(1)[0]), progress)
    return measure_scores(
        true,
        dataset.class_ids,
        ood,
        data,
        threshold=threshold,
        false_accepts=false_accepts,
        seed=seed,
        confidence=confidence,
    )


def measure_scores(
    true: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    ood: Mapping[str, NDArray[np.float32]],
    data: DataInfo,
    *,
    threshold: float | None,
    false_accepts: float = FALSE_ACCEPTS,
    seed: int = 0,
    confidence: float = 0.95,
) -> Rejection:
    """Measure the probabilities `(n, classes)` of pictures of `class_ids` `(n,)` against those of each OOD kind."""
    sure = SCORES[THRESHOLD_SCORE](true)
    ood_sure = {kind: SCORES[THRESHOLD_SCORE](probabilities) for kind, probabilities in ood.items()}
    right = true.argmax(axis=1) == class_ids
    every = np.concatenate(list(ood.values()))
    wanted = threshold_for(ood_sure, false_accepts)
    coverage, accuracy = coverage_accuracy(sure, right)

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
        aurocs={name: _auroc(score(true), score(every), confidence) for name, score in SCORES.items()},
        aurocs_by_kind={kind: _auroc(sure, scores, confidence) for kind, scores in ood_sure.items()},
        stated=None if threshold is None else operating_point(threshold, None),
        wanted=operating_point(wanted, _unseen(ood_sure, false_accepts)),
        coverage=coverage,
        accuracy=accuracy,
        calibration_error=metrics.expected_calibration_error(true, class_ids),
    )


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
