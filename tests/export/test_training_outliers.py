"""Training with pictures that belong to no class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.errors import InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.training import trainer
from edgecnn_export.training.recipes import Recipe

SIDE = 12


def noise(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 1)).astype(np.uint8)


TASK = Task("halves", "halves", ("left", "right"), Preprocessing(SIDE, SIDE), outliers=noise)


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
def exposed(tmp_path_factory: pytest.TempPathFactory) -> tuple[trainer.TrainingRun, list[tuple[int, int]]]:
    """A training with as many outliers as pictures, and the count and seed of each draw."""
    draws: list[tuple[int, int]] = []

    def drawn(count: int, seed: int) -> NDArray[np.uint8]:
        draws.append((count, seed))
        return noise(count, seed)

    task = dataclasses.replace(TASK, outliers=drawn)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "find_recipe", lambda model, task: recipe(outliers=1.0))
        return trainer.train(task, halves(), out=tmp_path_factory.mktemp("exposed"), seed=1), draws


def recipe(outliers: float) -> Recipe:
    return Recipe(6, 16, 1e-2, False, 0.0, 0.0, None, patience=8, outliers=outliers)


def test_a_model_trained_with_outliers_is_unsure_of_them_and_sure_of_its_classes(
    exposed: tuple[trainer.TrainingRun, list[tuple[int, int]]],
) -> None:
    runtime = exposed[0].reference.runtime()

    of_noise, of_halves = (runtime.run(images).max(axis=1).mean() for images in (noise(100, 99), halves().train.images))

    assert of_noise < 0.7
    assert of_halves > 0.8


def test_outliers_are_drawn_again_each_epoch(exposed: tuple[trainer.TrainingRun, list[tuple[int, int]]]) -> None:
    _, draws = exposed

    assert {count for count, _ in draws} == {64}
    assert len(set(draws)) == 6


def test_a_task_without_outliers_refuses_to_train_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = dataclasses.replace(TASK, outliers=None)
    monkeypatch.setattr(trainer, "find_recipe", lambda model, task: recipe(outliers=0.25))

    with pytest.raises(InputError, match="has no generator of outliers"):
        trainer.train(task, halves(), out=tmp_path)
