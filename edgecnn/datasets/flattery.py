"""By how much a random split flatters: a quick classifier, cross-validated by random folds and by folds of whole groups.

The classifier is a linear one by ridge regression on histograms of oriented gradients (Dalal and Triggs, CVPR 2005), how much
structure of each size a picture has where, and a small version of it: seconds for a thousand pictures. It is weaker than a
network; what counts is the difference. Its penalty was chosen on NEU. Features of a pretrained network take the place of these
where somebody gives them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.split import deal_folds
from edgecnn.progress import on_all_cores

CLASSIFIER = "a linear classifier on gradients and structure"
FOLDS, SEEDS = 5, 5
_SIDE, _CELL, _SMALL = 64, 16, 8
_SIGMAS = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  # pixels, between which structure is measured
_PENALTY = 0.1  # of the mean square of standardised features
_DRAWS = 1000


@dataclass(frozen=True)
class Accuracy:
    """A mean over seeds, with the 95 % interval of a bootstrap over groups: pictures of one part are one draw."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Flattery:
    """The accuracy of a quick `classifier` by `random` folds and by folds of whole groups, over `seeds` seeds."""

    classifier: str
    random: Accuracy
    grouped: Accuracy
    folds: int
    seeds: int


@dataclass(frozen=True, eq=False)
class Described:
    """Better features than ours: `features` `(k, d)` of the pictures numbered `chosen` `(k,)`, and what the classifier is."""

    classifier: str
    chosen: NDArray[np.int64]
    features: NDArray[np.float32]


def measure_flattery(
    images_gray: Sequence[NDArray[np.uint8]],
    class_ids: NDArray[np.int64],
    groups: NDArray[np.int64],
    *,
    described: Described | None = None,
    seed: int = 0,
) -> Flattery | None:
    """Cross-validate on gray pictures `(h, w)` with classes and groups `(n,)`; None where a class has fewer than FOLDS groups.

    Those that are `described` already are measured by that.

    Progress is reported through `edgecnn.progress`.
    """
    if described is not None:
        class_ids, groups = class_ids[described.chosen], groups[described.chosen]
    if min(len(np.unique(groups[class_ids == class_id])) for class_id in np.unique(class_ids)) < FOLDS:
        return None
    if described is not None:
        features, classifier = described.features, described.classifier
    else:
        everything, classifier = range(len(class_ids)), CLASSIFIER
        features = np.stack(list(on_all_cores(lambda i: _features(images_gray[i]), everything, "describing pictures")))
    ways = {"random": np.arange(len(class_ids)), "grouped": groups}
    jobs = [(units, seed + repeat) for units in ways.values() for repeat in range(SEEDS)]
    hits = np.stack(
        list(on_all_cores(lambda job: _hits(features, class_ids, *job), jobs, "comparing random and grouped folds"))
    )
    random, grouped = (_accuracy(part.mean(axis=0), groups, seed) for part in (hits[:SEEDS], hits[SEEDS:]))
    return Flattery(classifier, random, grouped, FOLDS, SEEDS)


def _features(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    image = np.asarray(cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    hog = cv2.HOGDescriptor((_SIDE, _SIDE), (2 * _CELL, 2 * _CELL), (_CELL, _CELL), (_CELL, _CELL), 9)
    small = cv2.resize(image, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA).reshape(-1)
    layers = [picture.astype(np.float32), *(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), sigma) for sigma in _SIGMAS)]
    bands = [np.abs(fine - coarse) for fine, coarse in itertools.pairwise(layers)]
    structure = [np.log1p(cv2.resize(band, (4, 4), interpolation=cv2.INTER_AREA)).reshape(-1) for band in bands]
    return np.asarray(np.concatenate([np.asarray(hog.compute(image)).reshape(-1), small, *structure]), np.float32)


def _hits(
    features: NDArray[np.float32], class_ids: NDArray[np.int64], units: NDArray[np.int64], seed: int
) -> NDArray[np.bool_]:
    """Return which pictures `(n,)` are named rightly by the classifier that has not seen their fold."""
    classes = int(class_ids.max()) + 1
    folds = deal_folds(class_ids, units, classes, FOLDS, seed=seed)
    right = np.zeros(len(class_ids), bool)
    for fold in range(FOLDS):
        held = folds == fold
        scores = _scores(features[~held], np.eye(classes)[class_ids[~held]], features[held])
        right[held] = scores.argmax(axis=1) == class_ids[held]
    return right


def _scores(train: NDArray[np.float32], targets: NDArray[np.float64], test: NDArray[np.float32]) -> NDArray[np.float64]:
    """Fit a linear classifier and return its scores `(n, classes)`."""
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-3
    rows, asked = ((part - mean).astype(np.float64) / deviation for part in (train, test))
    centre = targets.mean(axis=0)
    curvature = rows.T @ rows / len(rows) + _PENALTY * np.eye(rows.shape[1])
    slope = np.linalg.solve(curvature, rows.T @ (targets - centre) / len(rows))
    return np.asarray(asked @ slope + centre)


def _accuracy(hits: NDArray[np.float64], groups: NDArray[np.int64], seed: int) -> Accuracy:
    numbers = np.unique(groups, return_inverse=True)[1].reshape(-1)
    right, sizes = np.bincount(numbers, hits), np.bincount(numbers)
    drawn = np.random.default_rng(seed).integers(0, len(sizes), (_DRAWS, len(sizes)))
    shares = right[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return Accuracy(float(hits.mean()), (float(low), float(high)))
