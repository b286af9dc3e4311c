"""The threshold below which an answer is `unknown`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task, shipped_tasks
from edgecnn_export.rejecting import FALSE_ACCEPTS, LOST, choose_reject_threshold


class SureAs:
    """Gives as its highest probability what the first pixel says, in percent."""

    name = "sure as the first pixel"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        sure = images[:, 0, 0, 0] / 100
        return np.stack([sure, 1 - sure], axis=1).astype(np.float32)


def _pictures(percents: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.broadcast_to(percents.astype(np.uint8)[:, None, None, None], (len(percents), 2, 2, 1)).copy()


def _task(others_percents: NDArray[np.int64]) -> Task:
    return Task(
        "two", "two classes", ("a", "b"), Preprocessing(2, 2), others=lambda count, seed: _pictures(others_percents[:count])
    )


def _validation(percents: NDArray[np.int64]) -> Dataset:
    return Dataset(_pictures(percents), np.zeros(len(percents), np.int64), tuple(str(i) for i in range(len(percents))))


def test_others_below_the_true_pictures_are_rejected_but_for_the_allowed_share() -> None:
    others = np.linspace(50, 80, 400).round().astype(np.int64)

    threshold = choose_reject_threshold(SureAs(), _task(others), _validation(np.full(1000, 95)), seed=0)

    assert threshold is not None
    assert (others / 100 >= threshold).mean() <= FALSE_ACCEPTS + 0.03  # the percents come in whole steps
    assert threshold == pytest.approx(0.78, abs=0.015)


def test_true_pictures_are_not_sacrificed_to_others_that_look_the_same() -> None:
    true = np.linspace(60, 99, 1000).round().astype(np.int64)

    threshold = choose_reject_threshold(SureAs(), _task(np.full(400, 99)), _validation(true), seed=0)

    assert threshold is not None
    assert (true / 100 < threshold).mean() <= LOST


def test_a_task_that_can_make_no_others_has_no_threshold() -> None:
    task = dataclasses.replace(_task(np.full(400, 50)), others=None)

    assert choose_reject_threshold(SureAs(), task, _validation(np.full(10, 95)), seed=0) is None


@pytest.mark.parametrize("name", list(shipped_tasks()))
def test_others_of_a_shipped_task_fit_its_model_and_repeat_for_a_seed(name: str) -> None:
    task = shipped_tasks()[name]
    assert task.others is not None

    others = task.others(6, 3)

    assert others.shape == (6, *task.preprocessing.shape)
    assert np.array_equal(others, task.others(6, 3))
    assert not np.array_equal(others, task.others(6, 4))
