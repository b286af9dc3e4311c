"""Generated pictures of what is no class, by kind."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.datasets.synthetic.ood_any import generate_any
from edgecnn.datasets.synthetic.outliers import generate_counter_marks
from edgecnn.preprocessing import Color, Preprocessing
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


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_pictures_for_any_task_have_its_form_repeat_vary_and_show_no_bare_metal(color: Color) -> None:
    preprocessing = Preprocessing(48, 64, color, "crop")

    small, large = generate_any(preprocessing, 4, 1), generate_any(preprocessing, 6, 1)

    assert {"hand", "letters", "flat exposure", "noise", "objects"} <= set(large)
    assert not {"plain steel", "brushed metal"} & set(large)
    for kind, images in large.items():
        assert images.shape == (6, 48, 64, preprocessing.channels), kind
        assert np.array_equal(images[:4], small[kind]), kind
        assert len({image.tobytes() for image in images}) == 6, kind


def test_a_model_that_sees_colors_is_shown_colors_and_gray() -> None:
    drawn = generate_any(Preprocessing(48, 48, "rgb"), 12, 2)

    colored = np.array([np.ptp(image.astype(int), axis=2).max() > 0 for image in drawn["wood"]])

    assert "colors" in drawn
    assert "colors" not in generate_any(Preprocessing(48, 48), 1, 2)
    assert 0 < colored.sum() < 12
