from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import ConversionError, InputError
from edgecnn_export.conversion.annotation import PROBABILITY_RANGE
from edgecnn_export.conversion.calibration import Calibration, choose_calibration, measure
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.serving import quantized_limits
from edgecnn_export.reference import Reference

DATA = DataInfo("somewhere", "train", 3, "0" * 64)


def unbalanced(counts: tuple[int, ...]) -> Dataset:
    class_ids = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    images = np.arange(len(class_ids), dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    return Dataset(images, class_ids, tuple(map(str, range(len(class_ids)))))


def test_calibration_pictures_are_drawn_evenly_from_the_classes() -> None:
    chosen = choose_calibration(unbalanced((100, 20, 50)), count=30, seed=1)

    assert np.bincount(chosen.class_ids).tolist() == [10, 10, 10]


def test_a_class_with_few_pictures_gives_all_of_them() -> None:
    chosen = choose_calibration(unbalanced((100, 3)), count=30, seed=1)

    assert np.bincount(chosen.class_ids).tolist() == [15, 3]


def test_the_seed_decides_which_pictures_are_drawn() -> None:
    train = unbalanced((50, 50))

    digests = [choose_calibration(train, count=10, seed=seed).digest() for seed in (1, 1, 2)]

    assert digests[0] == digests[1] != digests[2]


def test_an_empty_training_split_cannot_be_calibrated_on() -> None:
    with pytest.raises(InputError, match="no training pictures"):
        choose_calibration(unbalanced((0, 0)))


def test_ranges_hold_what_each_layer_gives() -> None:
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(1, 1, kernel_initializer="ones", name="same")(image)
    folded = fold(keras.Model(image, layers.Dense(2, name="answer")(layers.Flatten()(x))))
    pixels = np.array([[3, 0], [7, 11]], np.uint8).repeat(2, 0).repeat(2, 1)[None, :, :, None]

    ranges = measure(folded, pixels)

    assert ranges["same"] == (0.0, 11.0)


def test_ranges_do_not_depend_on_the_batch(bar_reference: Reference, bar_splits: Splits) -> None:
    folded = fold(bar_reference.model)

    one, many = (measure(folded, bar_splits.train.images, batch=batch) for batch in (1, 64))

    assert one == many


def test_each_quantized_layer_of_the_net_has_a_range(bar_reference: Reference, bar_splits: Splits) -> None:
    folded = fold(bar_reference.model)
    annotation = folded.annotation

    ranges = measure(folded, bar_splits.train.images)

    assert annotation is not None
    assert set(ranges) == set(annotation.measured)
    assert annotation.fixed == {"answer": PROBABILITY_RANGE}


def test_a_layer_that_is_always_zero_is_refused() -> None:
    image = keras.Input((4, 4, 1))
    folded = fold(keras.Model(image, layers.Conv2D(1, 1, kernel_initializer="zeros", name="dead")(image)))

    with pytest.raises(ConversionError, match="'dead' gives zero"):
        measure(folded, np.ones((2, 4, 4, 1), np.uint8))


def test_a_layer_that_overflows_is_refused() -> None:
    image = keras.Input((4, 4, 1))
    folded = fold(keras.Model(image, layers.Conv2D(1, 1, name="broken")(image)))
    folded.model.get_layer("broken").kernel.assign(np.full((1, 1, 1, 1), np.inf))

    with pytest.raises(ConversionError, match="'broken' gives"):
        measure(folded, np.ones((2, 4, 4, 1), np.uint8))


def test_a_record_survives_json() -> None:
    record = Calibration({"conv": (-1.25, 3.0)}, DATA, 4)

    restored = Calibration.from_json(json.loads(json.dumps(record.to_json())))

    assert restored == record
    assert restored.digest() == record.digest()


@pytest.mark.parametrize("damage", [{"ranges": None}, {"ranges": {"conv": [1]}}, {"data": {}}, {"seed": "x"}])
def test_a_malformed_record_is_one_line(damage: dict[str, object]) -> None:
    record = Calibration({"conv": (-1.25, 3.0)}, DATA, 4).to_json() | damage

    with pytest.raises(InputError, match="malformed calibration record"):
        Calibration.from_json(record)


def test_a_record_of_another_model_is_refused(bar_reference: Reference) -> None:
    record = Calibration({"elsewhere": (0.0, 1.0)}, DATA, 0)

    with pytest.raises(ConversionError, match="elsewhere"):
        record.check(fold(bar_reference.model))


@given(low=st.floats(-1e4, 0), width=st.floats(1e-3, 1e4))
def test_the_limits_of_int8_hold_zero_as_a_whole_level(low: float, width: float) -> None:
    high = max(low + width, 0.0)

    reached_low, reached_high = quantized_limits((low, high))

    scale = (reached_high - reached_low) / 255
    assert reached_low / scale == pytest.approx(round(reached_low / scale), abs=1e-6)
    assert reached_high - reached_low == pytest.approx(high - low)


def test_a_kernel_of_unknown_quantization_is_not_annotated() -> None:
    image = keras.Input((4, 4))
    model = keras.Model(image, layers.Conv1D(1, 1)(image))

    assert fold(model).annotation is None


@pytest.mark.parametrize("activation", ["softplus", "gelu", "mish"])
def test_a_layer_without_a_kernel_that_no_format_knows_is_annotated_as_an_island(activation: str) -> None:
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, layers.Conv2D(1, 1, activation=activation, name="odd")(image))

    annotation = fold(model).annotation

    assert annotation is not None
    assert (annotation.measured, annotation.islands) == (("odd_linear", "odd"), ("odd",))
