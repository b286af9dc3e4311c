"""Networks as people build them, small: what Keras predicts is what all four files answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.runtimes.select import open_tflite
from edgecnn_export.conversion.calibration import calibrate
from edgecnn_export.conversion.convert import Conversion, convert
from edgecnn_export.conversion.fold import fold
from edgecnn_export.foreign import ForeignOptions
from edgecnn_export.models import open_reference

import keras  # isort: skip
from keras import layers  # isort: skip

Pixels = NDArray[np.uint8]
Build = Callable[[Any], Any]
LABELS = ("a", "b", "c", "d")
DATA = DataInfo("patterns", "train", 48, "0" * 64)


def patterns(shape: tuple[int, int, int], count: int = 48) -> Pixels:
    """Draw coarse patterns of many brightnesses."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 4, 4, shape[2])) * random.uniform(0.2, 1, (count, 1, 1, 1))
    return np.kron(coarse, np.ones((1, shape[0] // 4, shape[1] // 4, 1))).astype(np.uint8)


def convolved(x: Any, filters: int, size: int = 3, stride: int = 1, activation: str | None = "relu", **options: Any) -> Any:
    x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False, **options)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def residual(x: Any) -> Any:
    """ResNet: bottlenecks whose shortcut is projected."""
    x = layers.MaxPooling2D(3, 2, padding="same")(convolved(x / 127.5 - 1, 8, 5, 2))
    for filters, stride in ((8, 1), (16, 2)):
        y = convolved(convolved(x, filters // 2, 1, stride), filters, 3, activation=None)
        x = layers.ReLU()(layers.Add()([y, convolved(x, filters, 1, stride, activation=None)]))
    return layers.GlobalAveragePooling2D()(x)


def inverted(x: Any) -> Any:
    """MobileNetV3: inverted residuals, hard swish, hard squeeze and excitation written as operations."""
    x = layers.Activation("hard_silu")(convolved(layers.Rescaling(1 / 127.5, -1)(x), 8, stride=2, activation=None))
    for _ in range(2):
        y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(convolved(x, 16, 1))
        y = layers.Activation("hard_silu")(layers.BatchNormalization()(y))
        gate = layers.Conv2D(4, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(y))
        gate = layers.ReLU(6.0)(layers.Conv2D(16, 1)(gate) + 3.0) * (1.0 / 6.0)
        x = layers.Add()([x, convolved(layers.Multiply()([y, gate]), 8, 1, activation=None)])
    return layers.GlobalAveragePooling2D()(x)


def efficient(x: Any) -> Any:
    """EfficientNet: an adapted normalization, swish, squeeze and excitation by Reshape, dropped paths."""
    normalization = layers.Normalization(mean=[120.0, 115.0, 100.0], variance=[3300.0, 3200.0, 3400.0])
    x = convolved(layers.Rescaling(1 / 255)(layers.Rescaling(255.0)(normalization(x))), 8, stride=2, activation="silu")
    y = layers.DepthwiseConv2D(5, padding="same", use_bias=False)(convolved(x, 16, 1, activation="silu"))
    y = layers.Activation("silu")(layers.BatchNormalization()(y))
    gate = layers.Reshape((1, 1, 16))(layers.GlobalAveragePooling2D()(y))
    gate = layers.Conv2D(16, 1, activation="sigmoid")(layers.Conv2D(4, 1, activation="silu")(gate))
    y = convolved(layers.Multiply()([y, gate]), 8, 1, activation=None)
    return layers.GlobalAveragePooling2D()(layers.Add()([layers.Dropout(0.2, noise_shape=(None, 1, 1, 1))(y), x]))


def dense_blocks(x: Any) -> Any:
    """DenseNet: batch normalization before each convolution, outputs lined up."""
    x = layers.Conv2D(6, 3, strides=2, padding="same")(layers.Rescaling(1 / 255)(x))
    for _ in range(3):
        y = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same", use_bias=False)(y)])
    x = layers.AveragePooling2D(2)(layers.Conv2D(8, 1)(layers.ReLU()(layers.BatchNormalization()(x))))
    return layers.GlobalAveragePooling2D()(x)


def inception(x: Any) -> Any:
    """Inception: towers of several sizes beside a pooled one."""
    x = convolved(layers.Rescaling(1 / 255)(x), 8, stride=2)
    towers = [convolved(x, 4, 1), convolved(convolved(x, 4, 1), 4, (1, 5)), convolved(convolved(x, 4, 1), 4, 3)]
    towers.append(convolved(layers.AveragePooling2D(3, 1, padding="same")(x), 4, 1))
    return layers.GlobalMaxPooling2D()(layers.concatenate(towers))


def xception(x: Any) -> Any:
    """Xception: separable convolutions, also with an activation inside."""
    x = convolved(layers.Rescaling(1 / 127.5, -1)(x), 8, stride=2)
    y = layers.BatchNormalization()(layers.SeparableConv2D(12, 3, padding="same", use_bias=False)(layers.ReLU()(x)))
    y = layers.MaxPooling2D(3, 2, padding="same")(layers.SeparableConv2D(12, 3, padding="same", activation="relu")(y))
    return layers.GlobalAveragePooling2D()(layers.Add()([y, convolved(x, 12, 1, 2, activation=None)]))


def modern(x: Any) -> Any:
    """ConvNeXt: patches, layer normalization, GELU, scaled residuals."""
    x = layers.LayerNormalization()(layers.Conv2D(8, 4, strides=4)(layers.Rescaling(1 / 255)(x)))
    y = layers.LayerNormalization(epsilon=1e-6)(layers.DepthwiseConv2D(3, padding="same")(x))
    x = x + layers.Dense(8)(layers.Dense(16, activation="gelu")(y)) * 0.5
    return layers.LayerNormalization()(layers.GlobalAveragePooling2D()(x))


def transformer(x: Any) -> Any:
    """ViT: patches, attention, layer normalization."""
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 8, strides=8)(layers.Rescaling(1 / 255)(x)))
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
    x = layers.Add()([x, layers.Dense(8)(layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x)))])
    return layers.GlobalAveragePooling1D()(x)


def shared(x: Any) -> Any:
    """One branch, nested, sees the picture and its mirror image."""
    branch = keras.Sequential(
        [layers.Conv2D(6, 3, strides=2), layers.BatchNormalization(), layers.LeakyReLU(0.1)], name="branch"
    )
    x = layers.Rescaling(1 / 255)(x)
    both = [layers.GlobalAveragePooling2D()(branch(x)), layers.GlobalAveragePooling2D()(branch(x[:, :, ::-1]))]
    return layers.Dense(8, activation="relu")(layers.Maximum()(both))


def hourglass(x: Any) -> Any:
    """Down and up again by a transposed convolution."""
    x = convolved(layers.Rescaling(1 / 255)(x), 6, stride=2)
    y = layers.Conv2DTranspose(6, 2, strides=2)(convolved(x, 8, stride=2))
    return layers.Flatten()(layers.MaxPooling2D(4)(layers.Concatenate()([x, layers.ReLU()(y)])))


def grouped(x: Any) -> Any:
    """ResNeXt and ShuffleNet: convolutions in groups, channels shuffled between them."""
    x = convolved(layers.Rescaling(1 / 255)(x), 8, stride=2)
    x = convolved(x, 8, groups=2)
    x = layers.Reshape((16, 16, 8))(layers.Permute((1, 2, 4, 3))(layers.Reshape((16, 16, 2, 4))(x)))
    return layers.GlobalAveragePooling2D()(convolved(x, 8, groups=4, activation="elu"))


def lenet(x: Any) -> Any:
    """LeNet on gray pictures."""
    x = layers.AveragePooling2D(2)(layers.Conv2D(6, 5, activation="tanh")(layers.Rescaling(1 / 255)(x)))
    x = layers.AveragePooling2D(2)(layers.Conv2D(8, 5, activation="sigmoid")(x))
    return layers.Dense(12, activation="tanh")(layers.Flatten()(x))


NETWORKS: dict[str, tuple[Build, int]] = {
    build.__name__: (build, 1 if build is lenet else 3)
    for build in (
        residual, inverted, efficient, dense_blocks, inception, xception, modern, transformer, shared, hourglass, grouped, lenet
    )
}  # fmt: skip


def settled(build: Build, images: Pixels) -> keras.Model:
    """Build a network whose batch normalizations have seen the pictures and whose answers differ from picture to picture."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(11)
    image = keras.Input(images.shape[1:])
    features = build(image)
    model = keras.Model(image, layers.Dense(len(LABELS), activation="softmax")(features), name="whole")
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    for _ in range(4):  # statistics settle from the first layer to the last
        model(images.astype(np.float32), training=True)
    given = keras.Model(image, features).predict(images, verbose=0)
    kernel, _ = model.layers[-1].get_weights()
    kernel = 1.5 * kernel / max(float(given.std(axis=0).mean()), 1e-3)
    model.layers[-1].set_weights([kernel, -given.mean(axis=0) @ kernel])
    return model


def run(conversion: Conversion, images: Pixels) -> NDArray[np.float32]:
    if conversion.format == "tflite":
        return open_tflite(conversion.model, with_features=conversion.features is not None).run(images)
    session = onnxruntime.InferenceSession(conversion.model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"image": images})[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_as_keras_predicts_in_all_four_files(name: str, tmp_path: Path) -> None:
    build, channels = NETWORKS[name]
    images = patterns((32, 32, channels))
    model = settled(build, images)
    model.save(tmp_path / "whole.keras")
    expected = model.predict(images, verbose=0)

    folded = fold(open_reference(tmp_path / "whole.keras", ForeignOptions(labels=LABELS)).model)
    made = convert(folded, ("tflite", "onnx"), calibrate(folded, images, DATA, 0), images)

    assert made.failures == ()
    assert len(np.unique(expected.argmax(axis=1))) > 1
    for each in made.made:
        answers = run(each, images)
        if each.precision == "float32":
            np.testing.assert_allclose(answers, expected, atol=1e-4, err_msg=each.suffix)
        else:
            assert np.abs(answers - expected).mean() < 0.05, each.suffix
            assert (answers.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.7, each.suffix
