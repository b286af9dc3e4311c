"""Weights rounded by their effect, biases corrected, and both without pictures: an int8 file that answers as its reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Splits
from edgecnn.errors import ConversionError
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.frameworks import require_keras

require_keras()
import keras  # noqa: E402  # only after its start-up messages are held back
from keras import layers  # noqa: E402

from edgecnn_export.calibration_data import find_calibration, record_calibration  # noqa: E402
from edgecnn_export.conversion.calibration import Calibration, measure  # noqa: E402
from edgecnn_export.conversion.convert import Format, convert  # noqa: E402
from edgecnn_export.conversion.fold import fold  # noqa: E402
from edgecnn_export.conversion.folded import DEEP, Folded  # noqa: E402
from edgecnn_export.conversion.simulation import RoundedModel, run_in_batches  # noqa: E402
from edgecnn_export.reference import Reference  # noqa: E402
from edgecnn_export.repair.bias_correction import corrected  # noqa: E402
from edgecnn_export.repair.rounding import round_by_effect, rounded_weights  # noqa: E402
from edgecnn_export.training.levels import put_on_levels  # noqa: E402


def build_deep(blocks: int, classes: int = 3) -> keras.Model:
    """A chain of inverted residual blocks of random weights, as deep as is wanted."""
    keras.utils.set_random_seed(11)
    image = keras.Input((16, 16, 1), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(image)
    x = normalised(layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem"), x, relu=True)
    for i in range(blocks):
        taken = x
        x = normalised(layers.Conv2D(24, 1, use_bias=False, name=f"expand{i}"), x, relu=True)
        x = normalised(layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise{i}"), x, relu=True)
        x = layers.Add()([taken, normalised(layers.Conv2D(8, 1, use_bias=False, name=f"project{i}"), x, relu=False)])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes, activation="softmax", name="answer")(x), name="deep")


def normalised(convolution: keras.Layer, x: keras.KerasTensor, *, relu: bool) -> keras.KerasTensor:
    x = layers.BatchNormalization(name=f"{convolution.name}_norm")(convolution(x))
    return layers.ReLU(6.0)(x) if relu else x


@pytest.fixture(scope="module")
def deep(bar_splits: Splits) -> Reference:
    """Statistics of real activations and a last layer of large weights, so that rounding shows in its answers."""
    model = build_deep(8)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            size = layer.gamma.shape
            layer.set_weights(
                [random.uniform(0.5, 1.5, size), random.normal(0.3, 0.3, size), *random.uniform(0.2, 1, (2, *size))]
            )
    answer = model.get_layer("answer")
    features = np.asarray(keras.Model(model.input, answer.input)(bar_splits.train.images.astype(np.float32)))
    kernel = random.normal(0, 0.5, answer.kernel.shape) / features.std(axis=0)[:, None]
    answer.set_weights([kernel, -features.mean(axis=0) @ kernel])
    task = Task("bars", "drawn bars", ("dark", "upright", "lying"), Preprocessing(16, 16, "gray"))
    return Reference(model, task, "deep")


@pytest.fixture(scope="module")
def plain(deep: Reference, bar_splits: Splits) -> tuple[Folded, Calibration]:
    folded, images = fold(deep.model), bar_splits.train.images
    return folded, Calibration(measure(folded, images), DataInfo("drawn bars", "train", len(images), ""), 0)


def answers(folded: Folded, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return run_in_batches(lambda pixels: folded.model(pixels, training=False), images)


def distance(folded: Folded, calibration: Calibration, wanted: NDArray[np.float32], images: NDArray[np.uint8]) -> float:
    return float(np.abs(RoundedModel(folded, calibration.ranges).run(images) - wanted).mean())


@given(
    seed=st.integers(0, 2**32 - 1),
    groups=st.integers(1, 3),
    inputs=st.integers(1, 12),
    outputs=st.integers(1, 4),
)
def test_rounded_weights_are_levels_and_the_largest_stays_the_largest(
    seed: int, groups: int, inputs: int, outputs: int
) -> None:
    random = np.random.default_rng(seed)
    weights = random.normal(size=(groups, inputs, outputs))
    places = random.normal(size=(groups, 30, inputs)) @ random.normal(size=(groups, inputs, inputs))
    scales = np.broadcast_to(np.abs(weights).max(axis=1, keepdims=True) / 127, weights.shape)

    rounded = rounded_weights(weights, places.transpose(0, 2, 1) @ places, scales)

    levels = rounded / scales
    assert np.abs(levels - np.rint(levels)).max() < 1e-6
    assert np.abs(levels).max() <= 127 + 1e-6
    np.testing.assert_allclose(np.abs(rounded).max(axis=1), np.abs(weights).max(axis=1))


def test_errors_passed_on_shift_the_outputs_less_than_the_nearest_levels() -> None:
    random = np.random.default_rng(0)
    places = np.abs(random.normal(size=(1, 500, 40)) + 2 * random.normal(size=(1, 500, 1)))  # inputs that go along
    weights = random.normal(size=(1, 40, 8))
    scales = np.broadcast_to(np.abs(weights).max(axis=1, keepdims=True) / 127, weights.shape)

    rounded = rounded_weights(weights, places.transpose(0, 2, 1) @ places, scales)

    nearest = np.rint(weights / scales) * scales
    assert np.square(places @ (rounded - weights)).mean() < 0.3 * np.square(places @ (nearest - weights)).mean()


def test_an_input_that_never_changes_is_no_obstacle() -> None:
    weights = np.array([[[1.0, -2.0], [0.3, 0.7]]])

    rounded = rounded_weights(weights, np.zeros((1, 2, 2)), np.broadcast_to([[[1.0, 2.0]]], weights.shape) / 127)

    assert np.abs(rounded - weights).max() < 0.01


def test_rounding_by_effect_brings_a_deep_net_closer_than_nearest_levels(
    plain: tuple[Folded, Calibration], bar_splits: Splits
) -> None:
    folded, calibration = plain
    images = bar_splits.validation.images
    wanted = answers(folded, images)

    rounded = round_by_effect(folded, bar_splits.train.images, calibration.ranges)

    assert distance(rounded, calibration, wanted, images) < 0.6 * distance(folded, calibration, wanted, images)


def test_weights_on_levels_answer_in_floats_as_before_and_are_rounded_no_further(deep: Reference, bar_splits: Splits) -> None:
    model = build_deep(8)
    model.set_weights(deep.model.get_weights())
    images = bar_splits.validation.images

    put_on_levels(model, bar_splits.train.images)

    folded = fold(model)
    assert np.abs(answers(folded, images) - np.asarray(deep.model(images))).mean() < 0.01
    for layer in folded.model.layers:
        if isinstance(layer, layers.Conv2D) and not isinstance(layer, layers.DepthwiseConv2D):
            kernel = layer.kernel.numpy()
            levels = kernel / (np.abs(kernel).max(axis=(0, 1, 2)) / 127)
            assert np.abs(levels - np.rint(levels)).max() < 1e-3


def test_the_biases_of_a_deep_net_are_corrected_when_it_is_calibrated(
    deep: Reference, plain: tuple[Folded, Calibration], bar_splits: Splits
) -> None:
    folded, uncorrected = plain
    images = bar_splits.validation.images

    calibration, _ = find_calibration(deep, folded, bar_splits, 0)

    wanted = answers(folded, images)
    assert calibration.method == "min-max, biases corrected"
    assert distance(calibration.corrected(folded), calibration, wanted, images) < 0.8 * distance(
        folded, uncorrected, wanted, images
    )


def test_a_shallow_net_is_calibrated_as_ever(bar_reference: Reference, bar_splits: Splits) -> None:
    calibration, _ = find_calibration(bar_reference, fold(bar_reference.model), bar_splits, 0)

    assert not fold(bar_reference.model).is_deep
    assert (calibration.method, calibration.corrections) == ("min-max", {})
    assert "corrections" not in calibration.to_json()


def test_depth_counts_layers_with_weights() -> None:
    assert not fold(build_deep((DEEP - 3) // 3)).is_deep
    assert fold(build_deep(DEEP // 3)).is_deep


@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_recorded_corrections_give_the_same_file_as_measured_ones(
    deep: Reference, bar_splits: Splits, file_format: Format
) -> None:
    folded = fold(deep.model)
    measured, _ = find_calibration(deep, folded, bar_splits, 0)

    recorded, images = find_calibration(record_calibration(deep, bar_splits, 0), folded, None, 0)

    assert images is None
    assert recorded.corrections == measured.corrections != {}
    files = [convert(folded, [file_format], each).made[1].sha256 for each in (recorded, measured)]
    assert files[0] == files[1]


def test_corrections_change_the_int8_file_alone(plain: tuple[Folded, Calibration], bar_splits: Splits) -> None:
    folded, calibration = plain
    before = folded.model.get_weights()

    with_corrections = convert(folded, ["tflite"], corrected(folded, calibration, bar_splits.train.images)).made

    without = convert(folded, ["tflite"], calibration).made
    assert all(np.array_equal(old, new) for old, new in zip(before, folded.model.get_weights(), strict=True))
    assert with_corrections[0].sha256 == without[0].sha256
    assert with_corrections[1].sha256 != without[1].sha256


def test_corrections_of_another_model_are_refused(plain: tuple[Folded, Calibration]) -> None:
    folded, calibration = plain
    wrong = dataclasses.replace(calibration, corrections={"stem": (0.5,)})

    with pytest.raises(ConversionError, match="does not fit the model: no biases for stem"):
        wrong.check(folded)


def test_the_digest_of_a_calibration_tells_its_corrections(plain: tuple[Folded, Calibration]) -> None:
    _, calibration = plain
    changed = dataclasses.replace(calibration, corrections={"stem": (0.5,) * 8})

    assert changed.digest() != calibration.digest()
    assert Calibration.from_json(changed.to_json()) == changed
