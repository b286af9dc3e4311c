"""Measuring a model on labelled pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import metrics
from edgecnn.classifier import Classifier
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import DatasetError
from edgecnn.metrics import Share
from edgecnn.rejection.evidence import run_with_features
from edgecnn.rejection.good_parts import Guard
from edgecnn.robustness.corruptions import corrupt, corruptions_for
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.runtime import answer_slices, run_all
from edgecnn.tasks import Task


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of one model on one data set; shares are in 0..1.

    `interval` is the two-sided Wilson interval of `accuracy` at `confidence`; `confusion` `(classes, classes)` counts pictures,
    the row is the true class; `calibration_error` is the expected calibration error of the probabilities. `named` are the
    pictures that get a label, and `named_right` those of them whose label is right; both None of a model without thresholds.
    """

    count: int
    accuracy: float
    interval: tuple[float, float]
    confidence: float
    confusion: NDArray[np.int64]
    calibration_error: float
    labels: tuple[str, ...]
    named: Share | None = None
    named_right: Share | None = None

    def recalls(self) -> NDArray[np.float64]:
        """Return of each class `(classes,)` the share that was recognised; NaN for a class without pictures."""
        counts = self.confusion.sum(axis=1)
        return np.where(counts > 0, self.confusion.diagonal() / np.maximum(counts, 1), np.nan)

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        recalls = {
            label: None if np.isnan(recall) else float(recall)
            for label, recall in zip(self.labels, self.recalls(), strict=True)
        }
        return {
            "count": self.count,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "confidence": self.confidence,
            "calibration_error": self.calibration_error,
            "macro_recall": metrics.macro_recall(self.confusion),
            "recalls": recalls,
            "confusion": self.confusion.tolist(),
            **{
                name: share.to_json()
                for name, share in (("named", self.named), ("right_of_named", self.named_right))
                if share is not None
            },
        }


def evaluate(
    runtime: Runtime,
    dataset: Dataset,
    labels: tuple[str, ...],
    *,
    evidence: Guard | None = None,
    confidence: float = 0.95,
) -> Evaluation:
    """Measure a model on a data set, and what of it gets a label where `evidence` says; DatasetError when it is empty.

    Of a model that knows good parts only, those are right that are not called novel.
    """
    if len(dataset) == 0:
        raise DatasetError("there are no pictures to measure on: this split is empty")
    found = None if evidence is None else run_with_features(runtime, dataset.images)
    probabilities = run_all(runtime, dataset.images) if found is None else found.probabilities
    predicted = probabilities.argmax(axis=1)
    right = predicted == dataset.class_ids
    named = named_right = None
    if evidence is not None and found is not None:
        kept = evidence.keeps(found)
        right &= kept | (len(labels) > 1)
        probabilities = evidence.temper(probabilities)
        named = Share(int(kept.sum()), len(kept), confidence)
        named_right = Share(int((kept & right).sum()), max(1, int(kept.sum())), confidence)
    hits = int(right.sum())
    return Evaluation(
        count=len(dataset),
        accuracy=hits / len(dataset),
        interval=metrics.wilson_interval(hits, len(dataset), confidence),
        confidence=confidence,
        confusion=metrics.confusion_matrix(predicted, dataset.class_ids, len(labels)),
        calibration_error=metrics.expected_calibration_error(probabilities, dataset.class_ids),
        labels=labels,
        named=named,
        named_right=named_right,
    )


def measure_agreement(
    one: Classifier,
    other: Classifier,
    task: Task,
    images: NDArray[np.uint8],
    *,
    severity: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Share]:
    """Return on how many inputs `(n, h, w, c)` two files say the same: the same label, or both unsure, or both novel.

    The first share, `clean`, is of the pictures as they are; with a `severity`, 1 to 5, one of each corruption follows.
    """
    found = {"clean": _agree(one, other, images)}
    for corruption in () if severity is None else corruptions_for(task):
        progress(f"comparing the files under {corruption.name}")
        found[corruption.name] = _agree(one, other, corrupt(images, corruption, severity or 0, seed))
    return found


def _agree(one: Classifier, other: Classifier, images: NDArray[np.uint8]) -> Share:
    said = [
        [(p.verdict, p.label) for part in answer_slices(each.runtime, images) for p in each.interpret_all(part)]
        for each in (one, other)
    ]
    return Share(sum(mine == theirs for mine, theirs in zip(*said, strict=True)), len(images))
