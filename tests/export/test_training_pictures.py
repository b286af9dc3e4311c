import numpy as np
import pytest

from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.synthetic.digits import generate_digits
from edgecnn.errors import InputError
from edgecnn_export.training.pictures import TrainingPictures


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return generate_digits(2, seed=1)


def test_without_simulation_an_epoch_sees_the_training_pictures_themselves(digits: Dataset) -> None:
    pictures = TrainingPictures(digits, 10, simulated=0, simulations=1, seed=0)

    images, targets = pictures.of_epoch(3)

    assert images is digits.images
    assert np.array_equal(targets.argmax(axis=1), digits.class_ids)


def test_the_simulated_pictures_come_after_the_training_pictures(digits: Dataset) -> None:
    pictures = TrainingPictures(digits, 10, simulated=0.5, simulations=1, seed=0)

    images, targets = pictures.of_epoch(0)

    assert np.array_equal(images[: len(digits)], digits.images)
    assert len(images) == len(targets) > 1.5 * len(digits)


def test_epochs_take_turns_at_the_versions(digits: Dataset) -> None:
    pictures = TrainingPictures(digits, 10, simulated=0.5, simulations=2, seed=0)

    first, second, third = (pictures.of_epoch(epoch)[0] for epoch in range(3))

    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)


def test_a_version_does_not_depend_on_those_drawn_before_it(digits: Dataset) -> None:
    resumed = TrainingPictures(digits, 10, simulated=0.5, simulations=2, seed=7)
    whole = TrainingPictures(digits, 10, simulated=0.5, simulations=2, seed=7)
    whole.of_epoch(0)

    assert np.array_equal(resumed.of_epoch(1)[0], whole.of_epoch(1)[0])


@pytest.mark.parametrize(("simulated", "simulations"), [(1.5, 1), (-0.1, 1), (0.5, 0)])
def test_an_impossible_share_or_count_is_refused(digits: Dataset, simulated: float, simulations: int) -> None:
    with pytest.raises(InputError, match="must be"):
        TrainingPictures(digits, 10, simulated=simulated, simulations=simulations, seed=0)
