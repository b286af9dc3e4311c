"""Choosing the probability below which a model's answer is `unknown`."""

from __future__ import annotations

import math

import numpy as np

from edgecnn.datasets.dataset import Dataset
from edgecnn.runtimes import Runtime
from edgecnn.tasks import Task

OTHERS = 400  # generated pictures of no class
FALSE_ACCEPTS = 0.05  # of these may be taken for a class
LOST = 0.003  # of the validation pictures may be rejected for it


def choose_reject_threshold(runtime: Runtime, task: Task, validation: Dataset, seed: int) -> float | None:
    """Return the threshold that FALSE_ACCEPTS asks for, but none that costs more than LOST of the validation pictures.

    Measured with the generated pictures of no class that the task can make; None when it can make none.
    """
    if task.others is None or len(validation) == 0:
        return None
    others = runtime.run(task.others(OTHERS, seed)).max(axis=1)
    true = runtime.run(validation.images).max(axis=1)
    wanted = float(np.quantile(others, 1 - FALSE_ACCEPTS, method="higher"))
    bearable = float(np.quantile(true, LOST, method="lower"))
    return math.floor(1000 * min(wanted, bearable)) / 1000
