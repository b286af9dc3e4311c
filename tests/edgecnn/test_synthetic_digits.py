import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.mnist import TASK
from edgecnn.datasets.synthetic import draw_digit, generate_digits
from edgecnn.datasets.synthetic.digits import GLYPHS
from edgecnn.errors import InputError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return generate_digits(20, seed=5)


def test_every_class_of_mnist_has_glyphs() -> None:
    assert len(GLYPHS) == len(TASK.labels)


def test_digits_have_the_form_of_mnist(digits: Dataset) -> None:
    assert digits.images.shape == (200, 28, 28, 1)
    assert digits.images.dtype == np.uint8
    assert digits.class_ids.dtype == np.int64


def test_every_prefix_of_ten_digits_holds_each_class_once(digits: Dataset) -> None:
    assert np.array_equal(digits.class_ids.reshape(20, 10), np.tile(np.arange(10), (20, 1)))


def test_names_of_digits_say_synthetic_and_differ(digits: Dataset) -> None:
    assert digits.names[:2] == ("synthetic/0_0000", "synthetic/1_0000")
    assert len(set(digits.names)) == len(digits)
    assert all(name.startswith("synthetic/") for name in digits.names)


def test_no_two_digits_are_alike(digits: Dataset) -> None:
    assert len({image.tobytes() for image in digits.images}) == len(digits)


def test_digits_are_light_ink_on_black(digits: Dataset) -> None:
    corners = digits.images[:, [0, 0, -1, -1], [0, -1, 0, -1]]

    assert corners.max() == 0
    assert (digits.images.max(axis=(1, 2, 3)) == 255).all()


def test_pens_differ_in_width(digits: Dataset) -> None:
    ink = (digits.images[digits.class_ids == 1] > 127).sum(axis=(1, 2, 3))

    assert ink.max() > 1.5 * ink.min()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_centre_of_mass_of_a_digit_lies_in_the_middle(seed: int) -> None:
    images = generate_digits(1, seed).images[..., 0]

    moments = [cv2.moments(image) for image in images]

    centres = np.array([(m["m10"] / m["m00"], m["m01"] / m["m00"]) for m in moments])
    assert np.abs(centres - 14).max() < 1.0


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4))
def test_a_larger_set_of_digits_begins_with_the_smaller_one(seed: int, count: int) -> None:
    small, large = generate_digits(count, seed), generate_digits(count + 1, seed)

    assert np.array_equal(large.images[: len(small)], small.images)


def test_another_seed_gives_other_digits(digits: Dataset) -> None:
    assert generate_digits(20, seed=6).digest() != digits.digest()


@settings(max_examples=25, deadline=None)
@given(class_id=st.integers(0, 9), seed=st.integers(0, 2**32 - 1), size=st.integers(32, 300))
@example(class_id=4, seed=16778, size=32)
def test_a_drawn_digit_stays_inside_its_mask(class_id: int, seed: int, size: int) -> None:
    mask = draw_digit(class_id, np.random.default_rng(seed), size)

    assert mask.shape == (size, size)
    assert mask.max() == 255
    assert not np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).any()


def test_an_eleventh_digit_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected a digit 0\.\.9, got 10"):
        draw_digit(10, np.random.default_rng(0), 64)


def test_a_mask_too_small_for_a_digit_is_refused() -> None:
    with pytest.raises(InputError, match="at least 16 pixels, got 4"):
        draw_digit(1, np.random.default_rng(0), 4)


def test_no_digits_at_all_are_refused() -> None:
    with pytest.raises(InputError, match="at least one picture a class, got 0"):
        generate_digits(0, seed=1)
