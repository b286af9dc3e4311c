"""What an epoch trains on: the same for the same seed, with pictures of no class whose target is every class alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.synthetic.digits import generate_digits
from edgecnn.errors import InputError
from edgecnn.shipped import find_task
from edgecnn_export.training.epoch_pictures import TrainingPictures
from edgecnn_export.training.recipes import Recipe, find_recipe

TASK = find_task("mnist")
PLAIN = dataclasses.replace(find_recipe("compact", TASK), simulated=0.0, outliers=0.0)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return generate_digits(2, seed=0)


def test_without_more_the_training_pictures_are_taken_as_they_are(digits: Dataset) -> None:
    images, targets = TrainingPictures(digits, TASK, PLAIN, seed=0).of_epoch(0)

    assert np.array_equal(images[:], digits.images)
    assert np.array_equal(targets[:].argmax(axis=1), digits.class_ids)


def test_outliers_come_after_the_pictures_with_every_class_alike(digits: Dataset) -> None:
    pictures = TrainingPictures(digits, TASK, dataclasses.replace(PLAIN, outliers=0.5), seed=0)

    images, targets = pictures.of_epoch(0)

    assert len(images) == len(targets) == 30
    assert np.array_equal(images[:20], digits.images)
    np.testing.assert_allclose(targets[20:], 0.1)


def test_simulated_pictures_have_their_share_of_outliers(digits: Dataset) -> None:
    recipe = dataclasses.replace(PLAIN, simulated=1.0, simulations=1, outliers=0.5)
    seen = TrainingPictures(digits, TASK, dataclasses.replace(recipe, outliers=0.0), seed=0).of_epoch(0)[0]

    images, _ = TrainingPictures(digits, TASK, recipe, seed=0).of_epoch(0)

    assert len(images) == len(seen) + round(0.5 * len(seen))


def test_epochs_take_turns_at_ten_draws_of_outliers(digits: Dataset) -> None:
    pictures = TrainingPictures(digits, TASK, dataclasses.replace(PLAIN, outliers=0.5), seed=0)

    drawn = [pictures.of_epoch(epoch)[0][20:] for epoch in range(20)]

    assert len({images.tobytes() for images in drawn[:10]}) == 10
    assert all(np.array_equal(first, again) for first, again in zip(drawn[:10], drawn[10:], strict=True))


def test_a_resumed_training_draws_what_an_uninterrupted_one_did(digits: Dataset) -> None:
    recipe = dataclasses.replace(PLAIN, outliers=0.5)
    whole, resumed = (TrainingPictures(digits, TASK, recipe, seed=3) for _ in range(2))
    for epoch in range(4):
        whole.of_epoch(epoch)

    np.testing.assert_array_equal(resumed.of_epoch(4)[0][:], whole.of_epoch(4)[0][:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"simulated": 1.5}, "simulated must be a share .* got 1.5"),
        ({"simulations": 0}, "simulations must be at least 1, got 0"),
    ],
)
def test_an_impossible_recipe_is_one_line(digits: Dataset, change: dict[str, float], message: str) -> None:
    recipe: Recipe = dataclasses.replace(PLAIN, **change)  # type: ignore[arg-type]

    with pytest.raises(InputError, match=message):
        TrainingPictures(digits, TASK, recipe, seed=0)


def test_a_task_that_can_make_no_outliers_says_so(digits: Dataset) -> None:
    task = dataclasses.replace(TASK, outliers=None)

    with pytest.raises(InputError, match="'mnist' has no generator of outliers; train it with outliers=0"):
        TrainingPictures(digits, task, dataclasses.replace(PLAIN, outliers=0.1), seed=0)


def _simulated(digits: Dataset, *, simulated: float, simulations: int, seed: int = 0) -> TrainingPictures:
    return TrainingPictures(digits, TASK, dataclasses.replace(PLAIN, simulated=simulated, simulations=simulations), seed=seed)


def test_the_simulated_pictures_come_after_the_training_pictures(digits: Dataset) -> None:
    images, targets = _simulated(digits, simulated=0.5, simulations=1).of_epoch(0)

    assert np.array_equal(images[: len(digits)], digits.images)
    assert len(images) == len(targets) > 1.5 * len(digits)


def test_epochs_take_turns_at_the_versions(digits: Dataset) -> None:
    pictures = _simulated(digits, simulated=0.5, simulations=2)

    first, second, third = (pictures.of_epoch(epoch)[0][:] for epoch in range(3))

    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)


def test_a_version_does_not_depend_on_those_drawn_before_it(digits: Dataset) -> None:
    resumed, whole = (_simulated(digits, simulated=0.5, simulations=2, seed=7) for _ in range(2))
    whole.of_epoch(0)

    assert np.array_equal(resumed.of_epoch(1)[0][:], whole.of_epoch(1)[0][:])


@pytest.mark.parametrize(("simulated", "simulations"), [(1.5, 1), (-0.1, 1), (0.5, 0)])
def test_an_impossible_share_or_count_is_refused(digits: Dataset, simulated: float, simulations: int) -> None:
    with pytest.raises(InputError, match="must be"):
        _simulated(digits, simulated=simulated, simulations=simulations)
