"""What a layer holds beyond its configuration and weights is carried into the folded model, or the layer is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgecnn.errors import ConversionError
from edgecnn.runtimes.select import open_tflite
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.onnx import to_onnx
from edgecnn_export.conversion.tflite import to_tflite

import keras  # isort: skip
from keras import layers  # isort: skip

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3)).astype(np.uint8)


def ended(start: Callable[[Any], Any], shape: tuple[int | None, ...] = (12, 12, 3)) -> keras.Model:
    """Put a small classifier behind `start`, whose weights were drawn by a seed."""
    keras.utils.set_random_seed(3)
    image = keras.Input(shape)
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(start(image))
    return keras.Model(image, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))


def reloaded(model: keras.Model, folder: Path) -> keras.Model:
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def kinds(folded: Folded) -> list[str]:
    return [type(step.operation).__name__ for step in folded.steps]


def adapted(**options: Any) -> keras.Layer:
    layer = layers.Normalization(**options)
    layer.adapt(PIXELS.astype(np.float32))
    return layer


NORMALIZATIONS = {
    "adapted by channel": lambda: adapted(axis=-1),
    "adapted as a whole": lambda: adapted(axis=None),
    "adapted by pixel": lambda: adapted(axis=(1, 2, 3)),
    "adapted by row": lambda: adapted(axis=1),
    "adapted and inverted": lambda: adapted(axis=-1, invert=True),
    "constructed by channel": lambda: layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3400.0, 3300.0, 3200.0]),
    "constructed as a whole": lambda: layers.Normalization(axis=None, mean=127.5, variance=127.5**2),
}
PREPROCESSING = {
    "-1..1": keras.applications.mobilenet_v2.preprocess_input,
    "caffe": keras.applications.resnet.preprocess_input,
    "torch": keras.applications.densenet.preprocess_input,
    "BGR by hand": lambda x: x[..., ::-1] / 255.0,
    "inverted": lambda x: 1.0 - x / 255.0,
    "negated": lambda x: -x,
    "by tensor": lambda x: (x - keras.ops.convert_to_tensor([120.0, 110.0, 100.0])) / 58.0,
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_normalization_is_carried_wherever_its_figures_came_from(name: str, tmp_path: Path) -> None:
    model = reloaded(ended(NORMALIZATIONS[name]()), tmp_path)

    folded = fold(model)

    np.testing.assert_allclose(np.asarray(folded.model(PIXELS)), model.predict(PIXELS, verbose=0), atol=1e-5)
    np.testing.assert_allclose(open_tflite(to_tflite(folded)).run(PIXELS), model.predict(PIXELS, verbose=0), atol=1e-5)


@pytest.mark.parametrize("name", ["adapted by channel", "adapted as a whole", "constructed by channel"])
def test_a_normalization_disappears_in_the_first_convolution(name: str) -> None:
    assert kinds(fold(ended(NORMALIZATIONS[name]()))) == ["Conv2D", "Flatten", "Dense", "Activation"]


@pytest.mark.parametrize("name", PREPROCESSING)
@pytest.mark.parametrize("from_file", [False, True], ids=["in memory", "from a file"])
def test_preprocessing_inside_a_model_disappears_in_the_first_convolution(name: str, from_file: bool, tmp_path: Path) -> None:
    model = ended(PREPROCESSING[name])
    model = reloaded(model, tmp_path) if from_file else model

    folded = fold(model)

    assert kinds(folded) == ["Conv2D", "Flatten", "Dense", "Activation"]
    np.testing.assert_allclose(np.asarray(folded.model(PIXELS)), model.predict(PIXELS, verbose=0), atol=1e-5)


@pytest.mark.parametrize("start", [*NORMALIZATIONS, *PREPROCESSING])
def test_no_constant_of_a_model_becomes_an_input_of_its_onnx_file(start: str) -> None:
    step = NORMALIZATIONS[start]() if start in NORMALIZATIONS else PREPROCESSING[start]

    proto = onnx.load_from_string(to_onnx(fold(ended(step))))

    assert [tensor.name for tensor in proto.graph.input] == ["image"]


def test_an_adapter_is_part_of_the_kernel() -> None:
    model = ended(lambda x: x)
    model.layers[-1].enable_lora(2)
    for weight in model.layers[-1].weights:
        weight.assign(np.random.default_rng(1).normal(0, 0.1, weight.shape))

    folded = fold(model)

    np.testing.assert_allclose(np.asarray(folded.model(PIXELS)), model.predict(PIXELS, verbose=0), atol=1e-5)


def test_a_layer_that_keras_has_quantized_is_named() -> None:
    model = ended(lambda x: x)
    model.layers[-1].name = "answer"
    model.layers[-1].quantize("int8")

    with pytest.raises(ConversionError, match=r"layer 'answer' was quantized by Keras' own quantize\('int8'\)"):
        fold(model)


class Shifted(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Holds a number that neither its configuration nor its weights know."""

    shift = 0.0

    def call(self, x: Any) -> Any:
        return x + self.shift


def test_a_layer_whose_state_would_be_lost_is_named() -> None:
    layer = Shifted(name="secret")
    layer.shift = 40.0
    model = ended(lambda x: layer(layers.Rescaling(1 / 255)(x)))

    with pytest.raises(ConversionError, match=r"layer 'secret' \(Shifted\) answers differently once it is taken out"):
        fold(model)


def test_a_model_of_reduced_precision_is_compared_within_that_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = ended(layers.Rescaling(1 / 255))
    finally:
        keras.config.set_dtype_policy("float32")

    folded = fold(model)

    assert {layer.compute_dtype for layer in folded.model.layers} == {"float32"}


def test_weights_that_are_no_numbers_are_named() -> None:
    model = ended(lambda x: x)
    model.layers[1].name = "broken"
    model.layers[1].kernel.assign(np.full(model.layers[1].kernel.shape, np.nan))

    with pytest.raises(ConversionError, match=r"layer 'broken' of model .* gives answers that are not numbers"):
        fold(model)


IMAGE_LAYERS = sorted(
    name
    for name in dir(layers)
    if isinstance(getattr(layers, name), type)
    and "keras.src.layers.preprocessing.image_preprocessing" in getattr(layers, name).__module__
)
NEEDED: dict[str, dict[str, Any]] = {
    "CenterCrop": {"height": 12, "width": 12},
    "RandomColorDegeneration": {"factor": 0.5},
    "RandomContrast": {"factor": 0.2},
    "RandomBrightness": {"factor": 0.2},
    "RandomCrop": {"height": 12, "width": 12},
    "RandomGrayscale": {"factor": 0.5},
    "RandomHue": {"factor": 0.5, "value_range": (0, 255)},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.1},
    "RandomSaturation": {"factor": 0.5},
    "RandomSharpness": {"factor": 0.5, "value_range": (0, 255)},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomZoom": {"height_factor": 0.1},
    "Resizing": {"height": 12, "width": 12},
    "MaxNumBoundingBoxes": {"max_number": 1},
}


@pytest.mark.parametrize("name", [name for name in IMAGE_LAYERS if "Box" not in name])
def test_every_augmentation_of_keras_vanishes_or_stays_as_it_answers(name: str) -> None:
    layer = getattr(layers, name)(**NEEDED.get(name, {}))
    model = ended(lambda x: layers.Rescaling(1 / 255)(layer(x)))

    folded = fold(model)

    np.testing.assert_allclose(np.asarray(folded.model(PIXELS)), model.predict(PIXELS, verbose=0), atol=1e-5)
    if name.startswith("Random") or name in ("MixUp", "CutMix", "AugMix"):
        assert type(layer).__name__ not in kinds(folded) or name == "RandomCrop"


def test_training_that_was_asked_for_when_the_model_was_built_is_overruled_as_keras_does() -> None:
    model = ended(lambda x: layers.Dropout(0.5)(x, training=True))

    folded = fold(model)

    np.testing.assert_allclose(np.asarray(folded.model(PIXELS)), model.predict(PIXELS, verbose=0), atol=1e-5)
