"""The fused batch normalisation that trains is the one that Keras saves, in values, weights and moving statistics."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.shipped import find_task
from edgecnn_export.networks import build
from edgecnn_export.training.devices import open_devices
from edgecnn_export.training.fused_batchnorm import FusedBatchNormalization, with_fused_normalization


def _maps(seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(3, 2, (8, 10, 10, 4)).astype(np.float32)


def _normalising() -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((10, 10, 4))
    layer = keras.layers.BatchNormalization(momentum=0.9, gamma_initializer="random_uniform", beta_initializer="random_uniform")
    return keras.Model(image, layer(image))


def test_both_forms_normalise_a_batch_alike() -> None:
    model = _normalising()

    fused = with_fused_normalization(model)

    np.testing.assert_allclose(fused(_maps(), training=True), model(_maps(), training=True), atol=1e-5)


def test_both_forms_normalise_by_moving_statistics_alike() -> None:
    model = _normalising()
    model(_maps(1), training=True)

    fused = with_fused_normalization(model)

    np.testing.assert_allclose(fused(_maps(), training=False), model(_maps(), training=False), atol=1e-5)


def test_both_forms_move_their_statistics_alike_but_for_the_variance_of_a_sample() -> None:
    model = _normalising()
    fused = with_fused_normalization(model)

    model(_maps(), training=True)
    fused(_maps(), training=True)

    values = 8 * 10 * 10
    (_, _, mean, variance), (_, _, fused_mean, fused_variance) = model.get_weights(), fused.get_weights()
    np.testing.assert_allclose(fused_mean, mean, atol=1e-5)
    np.testing.assert_allclose(fused_variance - 0.9, (variance - 0.9) * values / (values - 1), atol=1e-5)


def test_a_normalisation_that_is_not_trained_keeps_its_statistics() -> None:
    fused = with_fused_normalization(_normalising())
    fused.trainable = False
    before = fused.get_weights()

    fused(_maps(), training=True)

    for old, new in zip(before, fused.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("task_name", ["mnist", "neu"])
def test_on_one_processor_the_compact_network_trains_fused_with_the_same_weights(task_name: str) -> None:
    model = build("compact", find_task(task_name))

    prepared = open_devices().prepare(model)

    assert any(isinstance(layer, FusedBatchNormalization) for layer in prepared.layers)
    assert [weights.path for weights in prepared.weights] == [weights.path for weights in model.weights]
    for old, new in zip(model.get_weights(), prepared.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_network_without_normalisation_is_trained_as_it_is() -> None:
    model = build("course", find_task("mnist"))

    assert open_devices().prepare(model) is model
