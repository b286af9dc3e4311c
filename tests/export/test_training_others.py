"""Training with pictures that belong to no class."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.training import fitting
from edgecnn_export.training.others import draw_counter_examples, scramble
from edgecnn_export.training.recipes import Recipe

SIDE = 12


def noise(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 1)).astype(np.uint8)


TASK = Task("halves", "halves", ("left", "right"), Preprocessing(SIDE, SIDE), counter_examples=noise)


def halves(count: int = 64) -> Splits:
    """Make pictures whose left or right half is bright."""
    class_ids = np.arange(count) % 2
    images = np.full((count, SIDE, SIDE, 1), 40, np.uint8)
    for image, class_id in zip(images, class_ids, strict=True):
        image[:, class_id * SIDE // 2 : (class_id + 1) * SIDE // 2] = 200
    images += np.random.default_rng(0).integers(0, 30, images.shape).astype(np.uint8)
    whole = Dataset(images, class_ids, tuple(str(i) for i in range(count)))
    return Splits(whole, whole, whole, SplitInfo("halves", "all in all", synthetic=True))


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> tuple[fitting.TrainingRun, list[tuple[int, int]]]:
    """A training with as many counter-examples as pictures, and the count and seed of each draw from the task."""
    draws: list[tuple[int, int]] = []

    def drawn(count: int, seed: int) -> NDArray[np.uint8]:
        draws.append((count, seed))
        return noise(count, seed)

    task = dataclasses.replace(TASK, counter_examples=drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "find_recipe", lambda model, task: recipe(others=1.0))
        return fitting.train(task, halves(), out=tmp_path_factory.mktemp("exposed"), seed=1), draws


def recipe(others: float) -> Recipe:
    return Recipe(6, 16, 1e-2, False, 0.0, 0.0, None, patience=8, others=others)


def test_a_model_trained_with_counter_examples_is_unsure_of_them_and_sure_of_its_classes(
    exposed: tuple[fitting.TrainingRun, list[tuple[int, int]]],
) -> None:
    runtime = exposed[0].reference.runtime()

    of_noise, of_halves = (runtime.run(images).max(axis=1).mean() for images in (noise(100, 99), halves().train.images))

    assert of_noise < 0.7
    assert of_halves > 0.8


def test_counter_examples_are_drawn_anew_each_epoch(exposed: tuple[fitting.TrainingRun, list[tuple[int, int]]]) -> None:
    _, draws = exposed

    assert {count for count, _ in draws} == {32}
    assert len(set(draws)) == 6


def test_half_of_the_counter_examples_are_scrambled_training_pictures() -> None:
    even = np.full((3, SIDE, SIDE, 1), 77, np.uint8)  # scrambled, it stays what it is

    drawn = draw_counter_examples(even, TASK, 7, (0, 0))

    assert [bool((image == 77).all()) for image in drawn] == [False] * 4 + [True] * 3


def test_a_task_that_can_generate_none_trains_with_scrambled_pictures() -> None:
    task = dataclasses.replace(TASK, counter_examples=None)

    drawn = draw_counter_examples(halves().train.images, task, 5, (0, 0))

    assert drawn.shape == (5, SIDE, SIDE, 1)
    assert np.array_equal(drawn, draw_counter_examples(halves().train.images, task, 5, (0, 0)))
    assert not np.array_equal(drawn, draw_counter_examples(halves().train.images, task, 5, (0, 1)))


@pytest.mark.parametrize("shape", [(12, 12, 1), (11, 14, 3)])
def test_a_scrambled_picture_keeps_light_and_spectrum_and_loses_its_content(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    image = np.full(shape, 100, np.uint8)
    image[2:5, 3:6] = 130

    scrambled = scramble(image, random)

    assert scrambled.mean() == pytest.approx(image.mean(), abs=0.5)
    assert scrambled.std() == pytest.approx(image.std(), rel=0.1)
    spectra = [np.abs(np.fft.rfft2(picture, axes=(0, 1))) for picture in (image, scrambled)]
    assert np.corrcoef(*(spectrum.ravel()[1:] for spectrum in spectra))[0, 1] > 0.95
    assert abs(np.corrcoef(image.ravel(), scrambled.ravel())[0, 1]) < 0.6
