"""The function that is converted: the folded model at inference, for the int8 files with its quantization written into it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgecnn_export.conversion.annotation import INPUT, PIXEL_RANGE
from edgecnn_export.conversion.calibration import Ranges
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Step

INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"


class Serving(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """Owns the model's variables while its function is converted: without an owner TFLite files come out without weights."""

    def __init__(self, model: keras.Model, answer: Callable[[tf.Tensor], tf.Tensor]) -> None:
        """Take the model and the function of an image batch that answers with it."""
        super().__init__()
        self.owned = [variable.value for variable in model.variables]
        self.answer = tf.function(lambda image: {OUTPUT_NAME: answer(image)}, autograph=False)

    def concrete(self, shape: tuple[int | None, ...], dtype: tf.DType) -> Any:
        """Trace the function for an input of `shape` and `dtype`."""
        return self.answer.get_concrete_function(tf.TensorSpec(shape, dtype, name=INPUT_NAME))


def serve(folded: Folded) -> Serving:
    """Return the model's answers to raw pixels of any dtype, in float32."""
    model, graph = folded.model, folded.graph
    if graph is None:
        return Serving(model, lambda image: model(tf.cast(image, tf.float32), training=False))
    return Serving(model, lambda image: graph.run(tf.cast(image, tf.float32), _run))


def serve_quantized(folded: Folded, ranges: Ranges, *, to_the_end: bool, unrounded: Collection[str] = ()) -> Serving:
    """Return the answers of a folded model whose tensors are rounded to eight bits, each to its range.

    Both converters turn these roundings into quantization parameters and measure nothing themselves. With `to_the_end` the
    probabilities are rounded as well, otherwise the last layer stays float behind its quantized inputs. `unrounded` names
    layers whose outputs stay as they are, and INPUT for the pixels. Raises ConversionError when it isn't known how the model
    quantizes.
    """
    graph, annotation = folded.annotated()
    limits = annotation.limits(ranges)
    left = {*unrounded, *(_float_end(graph.steps) if not to_the_end else ())}

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if step.name not in annotation or step.name in left:
            return _run(step, arguments, keywords)
        capped = _is_capped(step.operation)
        result = tf.nn.relu(*arguments) if capped else _run(step, arguments, keywords)
        return fake_quantize(result, limits[step.name])

    def answer(image: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(image, tf.float32)
        return graph.run(pixels if INPUT in left else fake_quantize(pixels, PIXEL_RANGE, name="pixels"), call)

    return Serving(folded.model, answer)


def _run(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Run one step in operations that both converters know."""
    layer = step.operation
    if isinstance(layer, keras.layers.Conv2D) and layer.groups > 1 and layer.data_format == "channels_last":
        return _grouped_convolution(layer, arguments[0])
    return getattr(layer, "traced", layer)(*arguments, **keywords)


def _grouped_convolution(layer: keras.layers.Conv2D, values: tf.Tensor) -> tf.Tensor:
    """Keras compiles a convolution in groups by XLA, which no converter looks into."""
    padding = layer.padding.upper()
    result = tf.nn.conv2d(values, layer.kernel, layer.strides, padding, dilations=layer.dilation_rate)
    if layer.use_bias:
        result = tf.nn.bias_add(result, layer.bias)
    return layer.activation(result)


def _is_capped(operation: Any) -> bool:
    """True for a ReLU with a ceiling of its own: rounding to a range that ends there does the same."""
    is_relu = isinstance(operation, keras.layers.ReLU) and not operation.negative_slope
    return is_relu and operation.max_value not in (None, 6)


def fake_quantize(values: tf.Tensor, limits: tuple[float, float], name: str | None = None) -> tf.Tensor:
    """Round to the 256 levels of `limits`, the zero point moved to a whole level."""
    low, high = quantized_limits(limits)
    return tf.quantization.fake_quant_with_min_max_vars(values, low, high, num_bits=8, name=name)


def quantized_limits(limits: tuple[float, float]) -> tuple[float, float]:
    """Return the limits that int8 really reaches: scale = (max - min) / 255 and zero a whole level (Jacob et al., eq. 13)."""
    scale = (limits[1] - limits[0]) / 255
    levels_below = round(-limits[0] / scale)
    return -levels_below * scale, (255 - levels_below) * scale


def _float_end(steps: list[Step]) -> set[str]:
    """Names of the last activation and the layer before it."""
    names = {steps[-1].name}
    if isinstance(steps[-1].operation, keras.layers.Activation | keras.layers.Softmax) and len(steps) > 1:
        names.add(steps[-2].name)
    return names


def parameter_count(folded: Folded) -> int:
    """Count the numbers that a folded model's weights hold, or the constants of a SavedModel's graph."""
    constants = sum(getattr(layer, "constants", 0) for layer in folded.model._flatten_layers())
    return int(constants + sum(np.prod(weight.shape) for weight in folded.model.weights))
