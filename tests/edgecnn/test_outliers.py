"""Generated surfaces of no class, to train on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.datasets.neu import TASK
from edgecnn.datasets.synthetic.outliers import generate_counter_surfaces


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 4))
def test_a_larger_set_of_counter_surfaces_begins_with_the_smaller_one(seed: int, count: int) -> None:
    small, large = generate_counter_surfaces(count, seed), generate_counter_surfaces(count + 1, seed)

    assert np.array_equal(large[:count], small)


def test_counter_surfaces_have_the_form_of_the_models_input() -> None:
    assert TASK.outliers is not None

    drawn = TASK.outliers(3, 0)

    assert drawn.shape == (3, *TASK.preprocessing.shape)
    assert drawn.dtype == np.uint8


def test_counter_surfaces_come_in_every_light_and_contrast() -> None:
    drawn = generate_counter_surfaces(70, 4).astype(np.float32)

    means, deviations = drawn.mean(axis=(1, 2, 3)), drawn.std(axis=(1, 2, 3))
    assert means.min() < 60 and means.max() > 190
    assert deviations.min() < 8 and deviations.max() > 40


def test_no_two_counter_surfaces_are_alike() -> None:
    drawn = generate_counter_surfaces(70, 5)

    assert len({picture.tobytes() for picture in drawn}) == 70
