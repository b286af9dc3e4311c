"""What a head says of pictures that it was not fitted to, nor to any of their groups."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgecnn.progress import report
from edgecnn_export.training.head import Head, fit_head

FOLDS, REPEATS = 5, 2
PENALTY = 0.1  # of the head: on principal components as good as any from .001 to 1, and the quietest
_STAGE = "answers to held-out pictures"


def grouped_folds(class_ids: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Return in which fold each of `(n,)` pictures is held out, -1 for those that never are; groups stay whole.

    Groups go from the largest on, each to the fold that has the fewest of its classes' pictures. Never held out is a group
    without which a class would have no picture left to learn from.
    """
    _, rows = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(rows.max(initial=-1)) + 1, int(class_ids.max(initial=-1)) + 1))
    np.add.at(counts, (rows.reshape(-1), class_ids), 1)
    alone = (counts > 0) & ((counts > 0).sum(axis=0) == 1)
    have = np.zeros((folds, counts.shape[1]))
    fold_of = np.full(len(counts), -1, np.int64)
    order = np.random.default_rng(seed).permutation(len(counts))
    for group in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        if alone[group].any():
            continue
        wanted = np.maximum(counts.sum(axis=0) / folds, 1e-9)
        fold = int(((2 * have + counts[group]) * counts[group] / wanted).sum(axis=1).argmin())
        fold_of[group], have[fold] = fold, have[fold] + counts[group]
    return fold_of[rows.reshape(-1)]


def held_out(class_ids: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Yield for each fold which of `(n,)` pictures it holds out, never all of a class."""
    fold_of = grouped_folds(class_ids, groups, folds, seed)
    for fold in range(folds):
        out = fold_of == fold
        if out.any() and np.isin(class_ids[out], class_ids[~out]).all():
            yield out


def fit(features: NDArray[np.float32], class_ids: NDArray[np.int64], classes: int, penalty: float = PENALTY) -> Head:
    """Fit a head to principal components `(n, d)`, which are not standardised once more: the last ones are noise."""
    return fit_head(features, class_ids, classes, penalty=penalty, scales=np.ones(features.shape[1]))


def answers(
    features: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: int,
    *,
    folds: int = FOLDS,
    repeats: int = REPEATS,
    penalty: float = PENALTY,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the probabilities `(n, classes)` that heads give to pictures of groups that they were not fitted to.

    They are means over `repeats` divisions into `folds`; NaN stands for a picture that was never held out.
    """
    total, times = np.zeros((len(features), classes)), np.zeros(len(features))
    report(_STAGE, 0, folds * repeats)
    for repeat in range(repeats):
        for fold, out in enumerate(held_out(class_ids, groups, folds, seed + repeat), 1):
            head = fit(features[~out], class_ids[~out], classes, penalty)
            total[out] += np.exp(head.log_probabilities(features[out]))
            times[out] += 1
            report(_STAGE, folds * repeat + fold, folds * repeats)
    report(_STAGE, folds * repeats, folds * repeats)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / times[:, None])
