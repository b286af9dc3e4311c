"""Weights that say where, taught without boxes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.artifacts.contract import TensorSpec
from edgecnn.datasets.dataset import Dataset
from edgecnn.runtimes.head import HeadRuntime, write_weights
from edgecnn.runtimes.runtime import Answers
from edgecnn.where import as_located, class_maps
from edgecnn_export.place_weights import fit_place_weights

_SIDE, _PLACES = 96, 6


class _Graph:
    """A network whose first channel is how much of a place is rough, and whose second is that of the upper half alone.

    The third says nothing.
    """

    name = "graph"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.answer(images).probabilities

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        places = images.reshape(len(images), _PLACES, _SIDE // _PLACES, _PLACES, _SIDE // _PLACES)
        rough = places.std(axis=(2, 4)) / 40
        upper = rough * (np.arange(_PLACES) < _PLACES // 2)[:, None]
        noise = np.random.default_rng(0).uniform(0, 1, rough.shape)
        features = np.stack([rough, upper, noise], axis=-1).astype(np.float32)
        spec = TensorSpec("features", "float32", (None, _PLACES, _PLACES, 3))
        return Answers(np.tile(np.array([[0.9, 0.1]], np.float32), (len(images), 1)), features, spec)


@pytest.fixture
def runtime() -> HeadRuntime:
    """Tell the classes by the upper half of what is rough alone."""
    weights = np.array([[0, 0], [1, -1], [0, 0]], np.float32)
    return HeadRuntime(_Graph(), write_weights(weights, np.zeros(2, np.float32)), 3)


@pytest.fixture
def pictures() -> Dataset:
    """Return even pictures of the first class, each with a rough column from top to bottom."""
    random = np.random.default_rng(3)
    images = np.full((12, _SIDE, _SIDE, 1), 120, np.uint8)
    for image in images:
        left = int(random.integers(0, _SIDE - 20))
        image[:, left : left + 20, 0] = random.integers(60, 180, (_SIDE, 20))
    return Dataset(images, np.zeros(12, np.int64), tuple(f"{i}.png" for i in range(12)))


def test_all_of_what_a_class_looks_like_is_found_though_it_is_told_by_a_part(runtime: HeadRuntime, pictures: Dataset) -> None:
    weights = fit_place_weights(runtime, pictures, 2)

    answers = runtime.answer(pictures.images)
    assert answers.features is not None
    found = as_located(answers.features) @ weights[:, 0]
    column = answers.features[..., 0]
    class_map = np.stack(class_maps(runtime, answers, [0] * len(pictures)))
    assert np.corrcoef(found.ravel(), column.ravel())[0, 1] > 0.9
    assert np.corrcoef(class_map.ravel(), column.ravel())[0, 1] < 0.8


def test_a_class_without_pictures_has_no_weights(runtime: HeadRuntime, pictures: Dataset) -> None:
    weights = fit_place_weights(runtime, pictures, 2)

    assert weights.shape == (3, 2)
    assert weights[:, 0].any()
    assert not weights[:, 1].any()


def test_even_pictures_teach_finite_weights(runtime: HeadRuntime, pictures: Dataset) -> None:
    pictures.images[:] = 7

    assert np.isfinite(fit_place_weights(runtime, pictures, 2)).all()


def test_pictures_between_black_bars_teach_what_they_show(runtime: HeadRuntime, pictures: Dataset) -> None:
    pictures.images[:, :32] = 0
    pictures.images[:, 64:] = 0

    weights = fit_place_weights(runtime, pictures, 2)

    assert np.isfinite(weights).all()
    assert weights[0, 0] > 0
