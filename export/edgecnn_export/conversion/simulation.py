"""A folded model as its int8 file computes, in TensorFlow: with gradients, and with each step's values within reach."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgecnn.errors import ConversionError
from edgecnn_export.conversion.annotation import PIXEL_RANGE, place
from edgecnn_export.conversion.calibration import Ranges
from edgecnn_export.conversion.graph import Step, read_graph
from edgecnn_export.conversion.quiet import quiet
from edgecnn_export.conversion.serving import fake_quantize

_BATCH = 32


class RoundedModel:
    """Rounds weights and activations as the int8 TFLite file does; a change of the model's weights shows at once."""

    def __init__(self, folded: keras.Model, ranges: Ranges) -> None:
        """Take a folded model and the ranges of its activations; ConversionError when ranges cannot be placed in it."""
        placement = place(folded)
        if placement is None:
            raise ConversionError(f"model {folded.name!r} has layers that cannot be quantized by ranges")
        self.graph, self._placement, self._limits = read_graph(folded), placement, placement.limits(ranges)

    def answer(self, images: tf.Tensor, *, to_the_end: bool = True) -> tf.Tensor:
        """Map pixels `(n, h, w, c)` float32 to probabilities `(n, classes)`, unrounded unless `to_the_end`.

        Gradients pass straight through roundings (Bengio, Leonard and Courville, arXiv:1308.3432).
        """

        def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tf.Tensor:
            if step is self.graph.steps[-1] and not to_the_end:
                return rounded_call(step, arguments, keywords)
            return self.call(step, arguments, keywords)

        return self.graph.run(fake_quantize(images, PIXEL_RANGE), call)

    def call(self, step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tf.Tensor:
        """Run one step with rounded weights and round what it gives."""
        return self.round(step, rounded_call(step, arguments, keywords))

    def round(self, step: Step, values: tf.Tensor) -> tf.Tensor:
        """Round the output of a step where it is rounded in the file."""
        if step.name not in self._placement:
            return values
        return fake_quantize(values, self._limits[step.name])

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, h, w, c)` to probabilities `(n, classes)`."""
        return run_in_batches(self.answer, images)


def run_in_batches(answer: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run `answer`, a function of float32 pixels, on images `(n, h, w, c)`, a few at a time."""
    traced = tf.function(answer, autograph=False, reduce_retracing=True)
    batches = [images[at : at + _BATCH].astype(np.float32) for at in range(0, len(images), _BATCH)]
    with quiet():  # TensorFlow finds that much tracing odd
        return np.concatenate([np.asarray(traced(tf.constant(batch)), np.float32) for batch in batches])


def rounded_call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tf.Tensor:
    """Run one step with its layer's weights rounded to int8."""
    layer = step.operation
    if not isinstance(layer, keras.Layer) or kernel_of(layer) is None:
        return layer(*arguments, **keywords)
    kernel = kernel_of(layer)
    with keras.StatelessScope(state_mapping=[(kernel, round_weights(kernel.value, type(layer)))]):
        return layer(*arguments, **keywords)


def kernel_of(layer: keras.Layer) -> Any:
    """Return the variable that holds a convolution's or dense layer's weights, None for other layers."""
    linear = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    return next(iter(layer.weights), None) if isinstance(layer, linear) else None


def round_weights(kernel: tf.Tensor, kind: type) -> tf.Tensor:
    """Round weights to int8, symmetric; gradients pass straight through.

    One scale an output channel, for dense layers one in all: as the TFLite files of this package have them.
    """
    scale = largest_weights(kernel, kind) / 127
    return kernel + tf.stop_gradient(tf.round(kernel / scale) * scale - kernel)


def largest_weights(kernel: tf.Tensor, kind: type) -> tf.Tensor:
    """Return the largest magnitude, above 0, among the weights that share a scale; it can be broadcast to them."""
    axes = {keras.layers.DepthwiseConv2D: [0, 1], keras.layers.Dense: None}.get(kind, [0, 1, 2])
    return tf.maximum(tf.reduce_max(tf.abs(kernel), axis=axes, keepdims=True), 1e-30)
