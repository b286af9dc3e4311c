from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers
from numpy.typing import NDArray
from onnx import numpy_helper

from edgecnn.artifacts.contract import DataInfo
from edgecnn.artifacts.operators import read_graph
from edgecnn.datasets.dataset import Splits
from edgecnn.errors import ConversionError
from edgecnn.runtimes.select import open_tflite
from edgecnn_export.conversion.calibration import Calibration, calibrate, measure
from edgecnn_export.conversion.convert import Conversion, check_integer_only, convert
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.onnx import to_int8_onnx, to_onnx
from edgecnn_export.conversion.onnx_quantize import quantize_weights
from edgecnn_export.conversion.tflite import to_int8_tflite, to_int8_tflite_by_pictures
from edgecnn_export.exporter import formats_named
from edgecnn_export.reference import Reference

DATA = DataInfo("drawn bars", "train", 120, "0" * 64)
Pixels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Converted:
    """The tiny net, its calibration, its four conversions by suffix, and its answers to the validation pictures."""

    folded: Folded
    calibration: Calibration
    files: dict[str, Conversion]
    images: Pixels
    answers: Probabilities


@pytest.fixture(scope="session")
def converted(bar_reference: Reference, bar_splits: Splits) -> Converted:
    folded = fold(bar_reference.model)
    calibration = calibrate(folded, bar_splits.train.images, DATA, 0)
    files = {each.suffix: each for each in convert(folded, ("tflite", "onnx"), calibration).made}
    images = bar_splits.validation.images
    return Converted(folded, calibration, files, images, bar_reference.runtime().run(images))


def run(conversion: Conversion, images: Pixels) -> Probabilities:
    if conversion.format == "tflite":
        return open_tflite(conversion.model, with_features=conversion.features is not None).run(images)
    session = onnxruntime.InferenceSession(conversion.model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"image": images})[0])


def tensors(model: bytes) -> list[dict[str, Any]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    return list(interpreter.get_tensor_details())


def constants(model: bytes) -> dict[str, NDArray[Any]]:
    graph = onnx.load_from_string(model).graph
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.mark.parametrize("suffix", ["float32.tflite", "float32.onnx"])
def test_float_files_answer_as_the_reference(converted: Converted, suffix: str) -> None:
    answers = run(converted.files[suffix], converted.images)

    assert np.abs(answers - converted.answers).max() < 1e-5


@pytest.mark.parametrize("suffix", ["int8.tflite", "int8.onnx"])
def test_int8_files_call_the_same_classes(converted: Converted, suffix: str) -> None:
    answers = run(converted.files[suffix], converted.images)

    assert (answers.argmax(axis=1) == converted.answers.argmax(axis=1)).mean() > 0.96


def test_fixed_ranges_are_no_worse_than_the_converters_own_calibration(converted: Converted, bar_splits: Splits) -> None:
    stock = Conversion(to_int8_tflite_by_pictures(converted.folded, bar_splits.train.images), "tflite", "int8")

    ours, theirs = (
        float(np.abs(run(each, converted.images) - converted.answers).mean())
        for each in (converted.files["int8.tflite"], stock)
    )

    assert ours < 1.25 * theirs + 1e-3


def test_int8_tflite_has_no_operator_on_floats(converted: Converted) -> None:
    graph = read_graph(converted.files["int8.tflite"].model, "tflite")

    assert not graph.float_operators()
    assert not graph.counts().keys() & {"QUANTIZE", "DEQUANTIZE", "CAST"}


def test_int8_tflite_takes_pixels_minus_128_and_gives_256_levels(converted: Converted) -> None:
    runtime = open_tflite(converted.files["int8.tflite"].model, with_features=True)

    assert (runtime.input.dtype, runtime.input.scale, runtime.input.zero_point) == ("int8", 1.0, -128)
    assert (runtime.output.dtype, runtime.output.scale, runtime.output.zero_point) == ("int8", 1 / 256, -128)


def test_float_tflite_takes_raw_pixels(converted: Converted) -> None:
    assert open_tflite(converted.files["float32.tflite"].model, with_features=True).input.dtype == "uint8"


def test_tflite_convolutions_have_a_scale_for_each_channel(converted: Converted) -> None:
    kernels = [
        each for each in tensors(converted.files["int8.tflite"].model) if each["shape"].size == 4 and each["shape"][0] == 8
    ]

    scales = [np.unique(each["quantization_parameters"]["scales"]) for each in kernels if each["dtype"] == np.int8]

    assert scales
    assert all(len(each) > 1 for each in scales)


def test_onnx_weights_have_a_scale_for_each_channel(converted: Converted) -> None:
    values = constants(converted.files["int8.onnx"].model)

    scales = [value for name, value in values.items() if name.endswith("/scale") and value.ndim == 1 and value.size == 8]

    assert scales
    assert all(len(np.unique(each)) > 1 for each in scales)


def test_batch_normalisation_leaves_nothing_behind(converted: Converted) -> None:
    operators = {suffix: read_graph(each.model, each.format).counts() for suffix, each in converted.files.items()}

    assert all(not counts.keys() & {"MUL", "Mul", "BatchNormalization", "SUB", "Sub", "Div"} for counts in operators.values())


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_onnx_passes_the_checker_with_one_plain_opset(converted: Converted, precision: str) -> None:
    model = onnx.load_from_string(converted.files[f"{precision}.onnx"].model)

    onnx.checker.check_model(model, full_check=True)

    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_onnx_answers_do_not_depend_on_the_batch(converted: Converted, precision: str) -> None:
    conversion = converted.files[f"{precision}.onnx"]

    together = run(conversion, converted.images[:7])
    alone = np.concatenate([run(conversion, converted.images[i : i + 1]) for i in range(7)])

    assert np.abs(together - alone).max() < 1e-5


def test_onnx_has_no_transpose_and_no_shape_arithmetic(converted: Converted) -> None:
    operators = read_graph(converted.files["float32.onnx"].model, "onnx").counts()

    assert not operators.keys() & {"Transpose", "Shape", "Slice", "Concat", "Gather"}


def test_both_int8_files_round_to_the_same_levels(converted: Converted) -> None:
    in_tflite = {
        np.float32(each["quantization"][0]).item()
        for each in tensors(converted.files["int8.tflite"].model)
        if each["quantization"][0]
    }
    in_onnx = [
        value.item()
        for name, value in constants(converted.files["int8.onnx"].model).items()
        if name.endswith("/scale") and not value.ndim
    ]

    assert in_onnx
    assert all(min(abs(scale - other) / scale for other in in_tflite) < 1e-5 for scale in in_onnx)


def test_the_same_ranges_give_the_same_bytes(converted: Converted) -> None:
    record = Calibration.from_json(converted.calibration.to_json())

    again = convert(converted.folded, ("tflite", "onnx"), record).made

    assert {each.suffix: each.sha256 for each in again} == {suffix: each.sha256 for suffix, each in converted.files.items()}


def test_a_flattened_net_converts_without_moving_pixels() -> None:
    keras.utils.set_random_seed(1)
    folded = fold(
        keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Rescaling(1 / 255),
                layers.Conv2D(4, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(8, activation="relu"),
                layers.Dense(3, activation="softmax"),
            ]
        )
    )
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)

    conversion = Conversion(to_onnx(folded), "onnx", "float32")

    assert read_graph(conversion.model, "onnx").counts().get("Transpose", 0) <= 1  # pixels to channels first, once
    assert np.abs(run(conversion, images) - np.asarray(folded.model(images))).max() < 1e-5


def test_a_net_of_every_annotated_layer_quantizes_both_ways() -> None:
    keras.utils.set_random_seed(2)
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(6, 3)(layers.ZeroPadding2D(1)(layers.Rescaling(1 / 255)(image)))
    x = layers.LeakyReLU()(x)
    y = layers.Activation("tanh")(layers.DepthwiseConv2D(3, padding="same")(x))
    z = layers.Conv2D(6, 1, activation="sigmoid")(x)
    x = layers.Concatenate()([layers.Multiply()([y, z]), layers.AveragePooling2D(1)(x)])
    x = layers.Dense(5, activation="relu")(layers.Flatten()(layers.MaxPooling2D()(x)))
    folded = fold(keras.Model(image, layers.Dense(3, activation="softmax")(x)))
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 1), dtype=np.uint8)

    files = convert(folded, ("tflite", "onnx"), calibrate(folded, images, DATA, 0)).made

    expected = np.asarray(folded.model(images))
    assert all(np.abs(run(each, images) - expected).max() < 0.15 for each in files)


def test_a_layer_without_ranges_is_quantized_by_the_converters_own_calibration() -> None:
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1))
    x = layers.Conv1D(4, 3)(layers.Reshape((8, 8))(layers.Rescaling(1 / 255)(image)))
    folded = fold(keras.Model(image, layers.Dense(3, activation="softmax")(layers.Flatten()(x))))
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    calibration = calibrate(folded, images, DATA, 0)

    files = convert(folded, ("tflite", "onnx"), calibration, images).made

    assert not calibration.ranges
    assert [each.suffix for each in files] == ["float32.tflite", "int8.tflite", "float32.onnx", "int8.onnx"]
    assert all(np.abs(run(each, images) - np.asarray(folded.model(images))).max() < 0.05 for each in files)


def test_a_layer_without_ranges_and_pictures_is_one_line() -> None:
    image = keras.Input((8, 8))
    folded = fold(keras.Model(image, layers.Dense(3)(layers.Flatten()(layers.Conv1D(2, 3)(image)))))

    conversions = convert(folded, formats_named("tflite"), Calibration({}, DATA, 0))

    assert [each.suffix for each in conversions.made] == ["float32.tflite"]
    assert "int8 needs pictures" in conversions.failures[0].reason


def test_a_float_operator_is_named(converted: Converted) -> None:
    with pytest.raises(ConversionError, match=r"floating point: ADD, CAST, CONV_2D"):
        check_integer_only(converted.files["float32.tflite"].model)


def test_a_step_that_would_stay_float_is_named(converted: Converted) -> None:
    with pytest.raises(ConversionError, match=r"would stay float in the int8 ONNX file: .*Add"):
        quantize_weights(onnx.load_from_string(converted.files["float32.onnx"].model))


def test_conversions_print_nothing(converted: Converted, capfd: pytest.CaptureFixture[str]) -> None:
    to_int8_tflite(converted.folded, converted.calibration.ranges)
    to_int8_onnx(converted.folded, converted.calibration.ranges)

    assert capfd.readouterr() == ("", "")


def test_models_too_odd_for_a_converter_are_one_line() -> None:
    image = keras.Input((4, 4, 1))
    odd = Folded.of(keras.Model(image, layers.Lambda(lambda x: keras.ops.fft2((x, x))[0])(image)))

    with pytest.raises(ConversionError, match="cannot convert this model"):
        to_onnx(odd)


def test_onnx_files_load_from_a_stream(converted: Converted) -> None:
    model = onnx.load(io.BytesIO(converted.files["int8.onnx"].model))

    assert model.graph.input[0].name == "image"


SMALL_NETS = {
    "dense behind pixels of one channel": [layers.MaxPooling2D(), layers.Flatten()],
    "average of one channel": [layers.DepthwiseConv2D(3, activation="tanh"), layers.GlobalAveragePooling2D()],
    "flattened behind a rounded ReLU": [layers.Conv2D(2, 3), layers.Conv2D(2, 3, activation="relu"), layers.Flatten()],
    "dense on a picture": [layers.Conv2D(2, 3), layers.Dense(3, activation="relu"), layers.Flatten()],
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL_NETS)
def test_small_nets_become_int8_onnx_without_a_float_step_inside(name: str) -> None:
    keras.utils.set_random_seed(4)
    x = image = keras.Input((8, 8, 1))
    for layer in [layers.Rescaling(1 / 255), *SMALL_NETS[name]]:
        x = layer(x)
    folded = fold(keras.Model(image, layers.Dense(3, activation="softmax")(x)))
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)

    int8 = to_int8_onnx(folded, measure(folded, images))

    assert np.abs(run(Conversion(int8, "onnx", "int8"), images) - np.asarray(folded.model(images))).max() < 0.05
