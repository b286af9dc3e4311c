"""The reject threshold: how sure a model must be, so that what belongs to none of its classes is called unknown."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import RejectionInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.rejection.evidence import FALSE_ACCEPTS
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.runtime import run_all
from edgecnn.tasks import Task

LOST = 0.05  # of the pictures of a class may be rejected for it, and no more
OOD_PER_KIND = 100  # out-of-distribution pictures of each kind that a threshold is chosen on

Scores = NDArray[np.float64]


def _probability(probabilities: NDArray[np.float32]) -> Scores:
    return np.asarray(probabilities.max(axis=1), np.float64)


def _margin(probabilities: NDArray[np.float32]) -> Scores:
    second, first = np.sort(probabilities.astype(np.float64), axis=1)[:, -2:].T
    return np.asarray(first - second)


def _negative_entropy(probabilities: NDArray[np.float32]) -> Scores:
    p = probabilities.astype(np.float64)
    return np.asarray((p * np.log(np.maximum(p, 1e-12))).sum(axis=1))


THRESHOLD_SCORE = "highest probability"
# Sureness as a number of the probabilities `(n, classes)`: higher is surer. A contract's threshold is compared with the first
# one (Hendrycks and Gimpel, arXiv:1610.02136); the others are measured beside it, to see whether one would serve better.
SCORES: dict[str, Callable[[NDArray[np.float32]], Scores]] = {
    THRESHOLD_SCORE: _probability,
    "margin to the second": _margin,
    "negative entropy": _negative_entropy,
}


def choose_rejection(
    runtime: Runtime, task: Task, validation: Dataset, seed: int, *, false_accepts: float = FALSE_ACCEPTS
) -> RejectionInfo | None:
    """Choose the reject threshold on the answers that `runtime` gives, and say what it stands for.

    See `choose_threshold` for the rule. None for a task without a generator of out-of-distribution pictures, or without
    validation pictures.
    """
    if task.ood is None or len(validation) == 0:
        return None
    sureness = SCORES[THRESHOLD_SCORE]
    true = sureness(run_all(runtime, validation.images))
    ood = {kind: sureness(run_all(runtime, images)) for kind, images in draw_ood(task, OOD_PER_KIND, seed).items()}
    threshold = choose_threshold(true, ood, false_accepts=false_accepts)
    return RejectionInfo(
        threshold=threshold,
        wanted_false_accepts=false_accepts,
        false_accepts=float(np.mean([(scores >= threshold).mean() for scores in ood.values()])),
        kept=float((true >= threshold).mean()),
        kinds=tuple(ood),
        seed=seed,
    )


def choose_threshold(true: Scores, ood: Mapping[str, Scores], *, false_accepts: float = FALSE_ACCEPTS) -> float:
    """Return the threshold that accepts `false_accepts` of the OOD pictures, but rejects no more than LOST of the true ones.

    `true` `(n,)` are the highest probabilities of held-out pictures of the classes, `ood` those of out-of-distribution ones by
    kind. The rate is held over the half of the kinds that are accepted most: black pictures and the like, which every model
    rejects, would otherwise leave room for the hard ones. Rounded to three digits, to the side that keeps both promises.
    """
    hardest = sorted(ood.values(), key=lambda scores: -float(np.quantile(scores, 1 - false_accepts)))
    wanted = threshold_for(dict(enumerate(hardest[: math.ceil(len(hardest) / 2)])), false_accepts)
    bearable = float(np.quantile(true, LOST, method="lower"))
    return min(math.ceil(1000 * wanted), math.floor(1000 * bearable)) / 1000


def threshold_for(ood: Mapping[Any, Scores], false_accepts: float) -> float:
    """Return the lowest threshold at which no more than `false_accepts` of all scores are accepted (score >= threshold)."""
    scores = np.sort(np.concatenate(list(ood.values())))
    allowed = math.floor(false_accepts * len(scores))
    if allowed >= len(scores):
        return 0.0
    # Just above the highest score that must be rejected: equal scores, which int8 has many of, fall together.
    return float(np.nextafter(scores[len(scores) - allowed - 1], np.inf))


def draw_ood(task: Task, per_kind: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Draw out-of-distribution pictures `(per_kind, h, w, c)` by kind: the task's own, or what belongs to nobody's parts."""
    if task.ood is not None:
        return task.ood(per_kind, seed)
    from edgecnn.datasets.synthetic.ood_any import generate_any

    return generate_any(task.preprocessing, per_kind, seed)


def draw_outliers(task: Task, count: int, seed: int) -> NDArray[np.uint8]:
    """Draw outliers `(count, h, w, c)` such as training shows, by other painters than those of `draw_ood`.

    They are the task's own or, for a folder of one's own, surfaces in gray.
    """
    if task.outliers is not None:
        return _outliers(task.outliers, count, seed)
    from edgecnn.datasets.synthetic.outliers import generate_counter_surfaces

    return np.stack([task.preprocessing(each) for each in _outliers(generate_counter_surfaces, count, seed)[..., 0]])


@functools.lru_cache(maxsize=2)
def _outliers(paint: Callable[[int, int], NDArray[np.uint8]], count: int, seed: int) -> NDArray[np.uint8]:
    """Draw outliers once for all exports of a process."""
    drawn = paint(count, seed)
    drawn.flags.writeable = False
    return drawn
