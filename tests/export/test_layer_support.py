"""Each kind of layer, in a small net: float files answer as Keras does, int8 files agree, and what cannot be made is named."""

# ruff: noqa: PLW0108  # each net gets layers of its own, drawn by the same seed

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.artifacts.operators import read_graph
from edgecnn.runtimes.select import open_tflite
from edgecnn_export.conversion.calibration import calibrate
from edgecnn_export.conversion.convert import Conversion, Conversions, convert
from edgecnn_export.conversion.fold import fold

import keras  # isort: skip
from keras import layers  # isort: skip

IMAGES = np.random.default_rng(0).integers(0, 256, (48, 12, 12, 3)).astype(np.uint8)
IMAGES[::2] //= 3  # bright ones and dark ones: features that differ from picture to picture
DATA = DataInfo("noise", "train", len(IMAGES), "0" * 64)
Values = NDArray[np.float32]
Start = Callable[[Any], Any]


def net(middle: Start) -> keras.Model:
    """Put `middle` between two convolutions and a classifier, its weights drawn by a seed."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(5)
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, strides=2, name="first")(layers.Rescaling(1 / 255)(image))
    x = layers.Flatten()(middle(x))
    model = keras.Model(image, layers.Dense(4, activation="softmax", name="answer")(x))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([3 * kernel, bias])
    return model


def converted(model: keras.Model) -> Conversions:
    folded = fold(model)
    return convert(folded, ("tflite", "onnx"), calibrate(folded, IMAGES, DATA, 0), IMAGES)


def run(conversion: Conversion) -> Values:
    if conversion.format == "tflite":
        return open_tflite(conversion.model, with_features=conversion.features is not None).run(IMAGES)
    session = onnxruntime.InferenceSession(conversion.model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"image": IMAGES})[0])


def activation(name: str) -> Start:
    return lambda x: layers.Activation(name)(x)


def squeezed(x: Any, gate: str = "sigmoid") -> Any:
    y = layers.Conv2D(4, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply()([x, layers.Conv2D(8, 1, activation=gate)(y)])


def attended(x: Any) -> Any:
    return layers.MultiHeadAttention(2, 4)(x, x)


def merged(kind: Any) -> Start:
    return lambda x: kind()([x, layers.Conv2D(8, 1)(x)])


INTEGER: dict[str, Start] = {
    "ReLU": lambda x: layers.ReLU()(x),
    "ReLU6": lambda x: layers.ReLU(6.0)(x),
    "ReLU to 1": lambda x: layers.ReLU(max_value=1.0)(x),
    "ReLU to 0.5": lambda x: layers.ReLU(max_value=0.5)(x),
    "ReLU with a slope": lambda x: layers.ReLU(negative_slope=0.3)(x),
    "LeakyReLU": lambda x: layers.LeakyReLU(0.2)(x),
    "leaky_relu": activation("leaky_relu"),
    "PReLU": lambda x: layers.PReLU("uniform", shared_axes=[1, 2])(x),
    "PReLU by pixel": lambda x: layers.PReLU("uniform")(x),
    "ELU": lambda x: layers.ELU()(x),
    "elu": activation("elu"),
    "swish": activation("swish"),
    "hard swish": activation("hard_swish"),
    "GELU": activation("gelu"),
    "sigmoid": activation("sigmoid"),
    "hard sigmoid": activation("hard_sigmoid"),
    "tanh": activation("tanh"),
    "hard tanh": activation("hard_tanh"),
    "exponential": activation("exponential"),
    "convolution in groups": lambda x: layers.Conv2D(8, 3, groups=4, activation="relu")(x),
    "dilated convolution": lambda x: layers.Conv2D(8, 3, dilation_rate=2)(x),
    "transposed convolution": lambda x: layers.Conv2DTranspose(4, 3, strides=2)(x),
    "separable convolution": lambda x: layers.SeparableConv2D(8, 3, activation="swish")(x),
    "depthwise convolution": lambda x: layers.DepthwiseConv2D(3, depth_multiplier=2)(x),
    "dense over channels": lambda x: layers.Dense(5, activation="relu")(x),
    "batch normalization": lambda x: layers.BatchNormalization()(layers.ReLU()(x)),
    "global maximum": lambda x: layers.GlobalMaxPooling2D()(x),
    "global maximum, kept": lambda x: layers.GlobalMaxPooling2D(keepdims=True)(x),
    "global average": lambda x: layers.GlobalAveragePooling2D()(x),
    "maximum pooling": lambda x: layers.MaxPooling2D(2)(x),
    "average pooling": lambda x: layers.AveragePooling2D(2)(x),
    "upsampling": lambda x: layers.UpSampling2D(2)(x),
    "bilinear upsampling": lambda x: layers.UpSampling2D(2, interpolation="bilinear")(x),
    "resizing": lambda x: layers.Resizing(4, 4)(x),
    "cropping": lambda x: layers.Cropping2D(1)(x),
    "padding": lambda x: layers.Conv2D(4, 3)(layers.ZeroPadding2D(1)(x)),
    "permutation": lambda x: layers.Permute((2, 1, 3))(x),
    "squeeze and excitation": squeezed,
    "hard squeeze and excitation": lambda x: squeezed(x, "hard_sigmoid"),
    "sum": merged(layers.Add),
    "difference": merged(layers.Subtract),
    "product": merged(layers.Multiply),
    "maximum": merged(layers.Maximum),
    "minimum": merged(layers.Minimum),
    "average": merged(layers.Average),
    "concatenation": merged(layers.Concatenate),
    "operators": lambda x: keras.ops.relu(x * 0.5 + 0.1) - layers.Conv2D(8, 1)(x) / 2,
    "mean of a tensor": lambda x: keras.ops.mean(keras.ops.relu(x), axis=(1, 2)),
    "maximum of a tensor": lambda x: keras.ops.max(x, axis=(1, 2), keepdims=True),
    "reshaped tensor": lambda x: keras.ops.reshape(keras.ops.transpose(x, (0, 2, 1, 3)), (-1, 200)),
    "a power": lambda x: x**2,
    "one-dimensional convolution": lambda x: layers.Conv1D(4, 3)(layers.Reshape((25, 8))(x)),
    "attention": lambda x: attended(layers.Reshape((25, 8))(x)),
}
MIXED: dict[str, Start] = {
    "LayerNormalization": lambda x: layers.LayerNormalization(name="odd")(x),
    "GroupNormalization": lambda x: layers.GroupNormalization(4, name="odd")(x),
    "RMSNormalization": lambda x: layers.RMSNormalization(name="odd")(x),
    "UnitNormalization": lambda x: layers.UnitNormalization(name="odd")(x),
    "softplus": lambda x: layers.Activation("softplus", name="odd")(x),
    "mish": lambda x: layers.Conv2D(8, 1, activation="mish", name="odd")(x),
    "selu": lambda x: layers.Activation("selu", name="odd")(x),
    "celu": lambda x: layers.Activation("celu", name="odd")(x),
}


def check(made: Conversions, model: keras.Model, tolerance: float = 0.06) -> dict[str, Conversion]:
    """Compare each file with the model; return them by suffix."""
    expected = model.predict(IMAGES, verbose=0)
    for each in made.made:
        differences = np.abs(run(each) - expected)
        assert differences.max() < (1e-4 if each.precision == "float32" else tolerance), each.suffix
    return {each.suffix: each for each in made.made}


@pytest.mark.parametrize("name", INTEGER)
def test_a_layer_of_integer_operators_comes_out_in_all_four_files(name: str) -> None:
    model = net(INTEGER[name])

    files = check(converted(model), model)

    assert files.keys() == {"float32.tflite", "int8.tflite", "float32.onnx", "int8.onnx"}
    graph = read_graph(files["int8.tflite"].model, "tflite")
    assert [each.name for each in graph.operators if not each.is_integer and each.name != "QUANTIZE"] == []


@pytest.mark.parametrize("name", MIXED)
def test_a_layer_without_an_integer_operator_computes_in_floats_and_is_named(name: str) -> None:
    model = net(MIXED[name])

    files = check(converted(model), model, tolerance=0.1)

    assert files.keys() == {"float32.tflite", "mixed.tflite", "float32.onnx", "int8.onnx"}
    assert files["mixed.tflite"].float_layers == files["int8.onnx"].float_layers == ("odd",)
    kernels = ("CONV_2D", "FULLY_CONNECTED")
    graph = read_graph(files["mixed.tflite"].model, "tflite")
    assert all(each.is_integer for each in graph.operators if each.name in kernels)


def test_what_one_converter_refuses_is_named_and_the_other_files_are_made() -> None:
    def recurrent(x: Any) -> Any:
        return layers.GRU(4, name="memory")(layers.Reshape((25, 8))(x))

    model = net(recurrent)

    made = converted(model)

    assert check(made, model).keys() == {"float32.tflite"}
    reasons = {each.suffix: each.reason for each in made.failures}
    assert reasons.keys() == {"int8.tflite", "float32.onnx", "int8.onnx"}
    assert all("'memory'" in reason for reason in reasons.values())


def test_what_is_joined_is_rounded_to_one_range() -> None:
    image = keras.Input((8, 8, 1))
    small, large = (layers.Conv2D(2, 3, name=name)(image) for name in ("small", "large"))
    gate = layers.Activation("sigmoid", name="gate")(small)
    joined = layers.Concatenate(name="joined")([layers.MaxPooling2D(1)(large), gate])
    folded = fold(keras.Model(image, layers.Dense(2, activation="softmax", name="answer")(layers.Flatten()(joined))))

    _, annotation = folded.annotated()

    limits = annotation.limits({"small": (-1.0, 1.0), "large": (-9.0, 5.0), "joined": (-9.0, 5.0), "answer_linear": (0.0, 1.0)})
    assert limits["gate"] == limits["large"] == limits["joined"] == (-9.0, 5.0)
    assert limits["small"] == (-1.0, 1.0)


def test_equal_biases_keep_each_channels_scale() -> None:
    def biased(x: Any) -> Any:
        kernel = keras.initializers.Constant(np.geomspace(0.001, 1, 8 * 8).reshape(1, 1, 8, 8))
        return layers.Conv2D(8, 1, kernel_initializer=kernel, bias_initializer=keras.initializers.Constant(0.5))(x)

    model = net(biased)

    check(converted(model), model)


def test_a_relu_whose_result_is_joined_with_negative_ones_comes_out_in_all_four_files() -> None:
    def branches(x: Any) -> Any:
        a, b = (layers.Conv2D(8, 3, padding="same", activation="relu")(x) for _ in range(2))
        return layers.Concatenate()([layers.Add()([a, b]), layers.Subtract()([a, b]), layers.Maximum()([a, b])])

    model = net(branches)
    expected = model.predict(IMAGES, verbose=0)

    conversions = converted(model)

    assert conversions.failures == ()
    for each in conversions.made:
        np.testing.assert_allclose(run(each), expected, atol=1e-4 if each.precision == "float32" else 0.05, err_msg=each.suffix)
