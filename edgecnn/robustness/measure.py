"""What models keep of their accuracy under each corruption, float beside int8, on the same corrupted pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset, rank_in_class
from edgecnn.errors import DatasetError, InputError
from edgecnn.robustness.corruptions import Corruption, corrupt
from edgecnn.robustness.report import ModelScores, PairScores, RobustnessReport
from edgecnn.runtimes import Runtime

Progress = Callable[[int, int], None]

_BATCH = 256


@dataclass(frozen=True, eq=False)
class Subject:
    """A model to measure: how reports call it, and whether it computes in `float32` or `int8`.

    `reference` names the float model that it was made from and is compared with, where that is measured too.
    """

    name: str
    precision: str
    runtime: Runtime
    reference: str | None = None


def measure(
    subjects: Sequence[Subject],
    dataset: Dataset,
    corruptions: Sequence[Corruption],
    severities: Sequence[int],
    *,
    data: DataInfo,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> RobustnessReport:
    """Run all models on the pictures as they are and under each corruption at each severity.

    Each corrupted picture is made once for all models. `progress(done, total)` counts pictures, clean ones included.
    Raises DatasetError without pictures, InputError when names are used twice, a reference is missing or severities repeat.
    """
    _check(subjects, dataset, severities)
    severities = tuple(sorted(severities))
    cells = [None, *((corruption, severity) for corruption in corruptions for severity in severities)]
    hits = np.zeros((len(subjects), len(cells), len(dataset)), bool)
    for at, cell in enumerate(cells):
        for start in range(0, len(dataset), _BATCH):
            images = dataset.images[start : start + _BATCH]
            if cell is not None:
                images = corrupt(images, *cell, seed)
            true = dataset.class_ids[start : start + _BATCH]
            for i, subject in enumerate(subjects):
                hits[i, at, start : start + len(images)] = subject.runtime.run(images).argmax(axis=1) == true
            if progress:
                progress(at * len(dataset) + start + len(images), len(cells) * len(dataset))
    form = len(corruptions), len(severities), len(dataset)
    return RobustnessReport(
        data=data,
        severities=severities,
        corruptions=tuple(corruptions),
        models=tuple(
            ModelScores(subject.name, subject.precision, subject.runtime.name, own[0], own[1:].reshape(form))
            for subject, own in zip(subjects, hits, strict=True)
        ),
        confidence=confidence,
        seed=seed,
        pairs=tuple(PairScores(subject.reference, subject.name) for subject in subjects if subject.reference),
    )


def choose_pictures(dataset: Dataset, count: int, seed: int) -> Dataset:
    """Return `count` pictures, as many of each class as there are (one more of the first), drawn by `seed`; all when fewer."""
    if count >= len(dataset):
        return dataset
    random = np.random.default_rng(seed)
    order = random.permutation(len(dataset))
    rank = rank_in_class(dataset.class_ids[order])
    chosen = order[np.lexsort((dataset.class_ids[order], rank))[:count]]
    return dataset.take(np.sort(chosen))


def _check(subjects: Sequence[Subject], dataset: Dataset, severities: Sequence[int]) -> None:
    if len(dataset) == 0:
        raise DatasetError("there are no pictures to measure on: this split is empty")
    names = [subject.name for subject in subjects]
    if len(set(names)) != len(names) or not names:
        raise InputError(f"expected models of different names, got {', '.join(names) or 'none'}")
    if missing := {subject.reference for subject in subjects if subject.reference} - set(names):
        raise InputError(f"not measured, so nothing can be compared with it: {', '.join(sorted(missing))}")
    if len(set(severities)) != len(severities) or not severities:
        raise InputError(f"expected different severities, got {list(severities)}")
