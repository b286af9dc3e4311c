"""Choosing the probability below which a model's answer is `unknown`."""

from __future__ import annotations

import numpy as np

from edgecnn.artifacts.contract import RejectionInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.evaluation import run_all
from edgecnn.rejection import CUT_BY, FALSE_ACCEPTS, SCORES, choose_threshold, run_others
from edgecnn.runtimes import Runtime
from edgecnn.tasks import Task

OTHERS = 100  # generated pictures of each kind that is no class


def choose_rejection(
    runtime: Runtime, task: Task, validation: Dataset, seed: int, *, false_accepts: float = FALSE_ACCEPTS
) -> RejectionInfo | None:
    """Choose the reject threshold on the answers that `runtime` gives, and say what it stands for.

    See `edgecnn.rejection.choose_threshold` for the rule. None for a task that can make no pictures of no class, or without
    validation pictures.
    """
    if task.others is None or len(validation) == 0:
        return None
    sureness = SCORES[CUT_BY]
    true = sureness(run_all(runtime, validation.images))
    others = {kind: sureness(given) for kind, given in run_others(runtime, task, OTHERS, seed).items()}
    threshold = choose_threshold(true, others, false_accepts=false_accepts)
    return RejectionInfo(
        threshold=threshold,
        wanted_false_accepts=false_accepts,
        false_accepts=float(np.mean([(scores >= threshold).mean() for scores in others.values()])),
        kept=float((true >= threshold).mean()),
        kinds=tuple(others),
        seed=seed,
    )
