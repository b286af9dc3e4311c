import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.camera_digits import simulate_camera_digit, simulate_non_digit, simulate_training_set
from edgecnn.datasets.synthetic.digits import generate_digits
from edgecnn.datasets.synthetic.school_digits import draw_handwritten

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def digits() -> Image:
    return np.asarray(generate_digits(3, seed=1).images[..., 0], np.uint8)


def test_a_simulated_digit_has_the_form_of_mnist(digits: Image) -> None:
    seen = simulate_camera_digit(digits[0], np.random.default_rng(0))

    assert seen.shape == (28, 28)
    assert seen.dtype == np.uint8
    assert seen.max() == 255


def test_a_simulated_digit_resembles_its_original(digits: Image) -> None:
    rng = np.random.default_rng(0)

    seen = np.mean([simulate_camera_digit(digits[0], rng) for _ in range(30)], axis=0)

    correlations = [np.corrcoef(seen.ravel(), other.ravel())[0, 1] for other in digits[:10]]
    assert int(np.argmax(correlations)) == 0


def test_the_same_seed_draws_the_same_digit(digits: Image) -> None:
    first, second = (simulate_camera_digit(digits[0], np.random.default_rng(7)) for _ in range(2))

    assert np.array_equal(first, second)


def test_non_digits_are_of_many_kinds(digits: Image) -> None:
    rng = np.random.default_rng(0)

    seen = [simulate_non_digit(digits, rng) for _ in range(40)]

    assert all(image.shape == (28, 28) and image.dtype == np.uint8 for image in seen)
    assert len({image.tobytes() for image in seen}) == 40


@pytest.mark.parametrize("class_id", range(10))
def test_handwriting_is_drawn_whole(class_id: int) -> None:
    rng = np.random.default_rng(class_id)

    drawings = [draw_handwritten(class_id, rng) for _ in range(20)]

    for drawing in drawings:
        assert drawing.shape == (112, 112)
        assert 100 < np.count_nonzero(drawing) < 0.5 * drawing.size
        border = np.concatenate([drawing[0], drawing[-1], drawing[:, 0], drawing[:, -1]])
        assert not border.any()


def test_a_training_set_has_as_many_targets_as_pictures(digits: Image) -> None:
    images, targets = simulate_training_set(digits, np.arange(30) % 10, seed=0, drawn=0.5, non_digits=0.2)

    assert images.shape == (30 + 15 + 6, 28, 28, 1)
    assert targets.shape == (51, 10)
    assert np.allclose(targets.sum(axis=1), 1)


def test_non_digits_have_the_same_target_for_every_class(digits: Image) -> None:
    _, targets = simulate_training_set(digits, np.arange(30) % 10, seed=0, drawn=0.0, non_digits=0.2)

    assert np.count_nonzero(targets.max(axis=1) < 0.11) == 6
