"""Generated pictures of what is no class, by kind."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.datasets.synthetic.outliers import generate_counter_marks
from edgecnn.shipped import shipped_tasks
from edgecnn.tasks import Task

TASKS = list(shipped_tasks().values())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_each_kind_fits_the_model_and_repeats_for_a_seed(task: Task) -> None:
    assert task.ood is not None

    kinds, again, other = task.ood(3, 5), task.ood(3, 5), task.ood(3, 6)

    assert len(kinds) >= 10
    for kind, images in kinds.items():
        assert images.shape == (3, *task.preprocessing.shape), kind
        assert images.dtype == np.uint8, kind
        assert np.array_equal(images, again[kind]), kind
    assert any(not np.array_equal(images, other[kind]) for kind, images in kinds.items())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_larger_set_of_a_kind_begins_with_the_smaller_one(task: Task) -> None:
    assert task.ood is not None

    small, large = task.ood(2, 1), task.ood(4, 1)

    assert all(np.array_equal(large[kind][:2], images) for kind, images in small.items())


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_kinds_vary(task: Task) -> None:
    assert task.ood is not None

    for kind, images in task.ood(8, 2).items():
        different = len({image.tobytes() for image in images})
        assert different >= (3 if kind == "blank paper" else 8), kind


def test_marks_to_train_on_are_in_the_models_form_and_some_are_empty() -> None:
    marks = generate_counter_marks(32, 0)

    assert marks.shape == (32, 28, 28, 1)
    assert not marks[0].any()
    assert 4 <= (~marks.any(axis=(1, 2, 3))).sum() < 20
