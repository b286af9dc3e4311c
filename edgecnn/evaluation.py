"""Measuring a model on labelled pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn import metrics
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import DatasetError
from edgecnn.runtimes import Runtime

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of one model on one data set; shares lie in 0..1.

    `interval` is the two-sided Wilson interval of `accuracy` at `confidence`; `confusion` `(classes, classes)` counts pictures,
    the row is the true class; `calibration_error` is the expected calibration error of the probabilities.
    """

    count: int
    accuracy: float
    interval: tuple[float, float]
    confidence: float
    confusion: NDArray[np.int64]
    calibration_error: float
    labels: tuple[str, ...]

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
        }


def run_all(
    runtime: Runtime, images: NDArray[np.uint8], *, progress: Callable[[int], None] | None = None
) -> NDArray[np.float32]:
    """Run `(n, h, w, c)` uint8 in slices and return `(n, classes)`; `progress` is called with the number of pictures done."""
    parts = []
    for at in range(0, len(images), _BATCH):
        parts.append(runtime.run(images[at : at + _BATCH]))
        if progress is not None:
            progress(min(at + _BATCH, len(images)))
    return np.concatenate(parts)


def evaluate(runtime: Runtime, dataset: Dataset, labels: tuple[str, ...], *, confidence: float = 0.95) -> Evaluation:
    """Measure a model on a data set; DatasetError when it is empty."""
    if len(dataset) == 0:
        raise DatasetError("there are no pictures to measure on: this split is empty")
    probabilities = run_all(runtime, dataset.images)
    predicted = probabilities.argmax(axis=1)
    hits = int((predicted == dataset.class_ids).sum())
    return Evaluation(
        count=len(dataset),
        accuracy=hits / len(dataset),
        interval=metrics.wilson_interval(hits, len(dataset), confidence),
        confidence=confidence,
        confusion=metrics.confusion_matrix(predicted, dataset.class_ids, len(labels)),
        calibration_error=metrics.expected_calibration_error(probabilities, dataset.class_ids),
        labels=labels,
    )
