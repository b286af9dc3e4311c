"""A folded model as its int8 file computes, in TensorFlow: with gradients, and with each step's values within reach."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgecnn.quiet import quiet
from edgecnn_export.conversion.annotation import PIXEL_RANGE
from edgecnn_export.conversion.calibration import Ranges
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Step
from edgecnn_export.conversion.serving import fake_quantize

_BATCH = 32


class RoundedModel:
    """Rounds weights and activations as the int8 TFLite file does; a change of the model's weights shows at once."""

    def __init__(self, folded: Folded, ranges: Ranges) -> None:
        """Take a folded model and the ranges of its activations; ConversionError when it isn't known how it quantizes."""
        self.graph, self._annotation = folded.annotated()
        self._limits = self._annotation.limits(ranges)

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
        if step.name not in self._annotation:
            return values
        return fake_quantize(values, self._limits[step.name])

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, h, w, c)` to probabilities `(n, classes)`."""
        return run_in_batches(self.answer, images)


class LayerwiseRounding:
    """A folded model on a few pictures, of which one rounding at a time is done: what does each do to the answers?

    Keeps what each step took and gave, so that only the steps behind a change run again.
    """

    def __init__(self, folded: Folded, ranges: Ranges, images: NDArray[np.uint8], *, dense_per_channel: bool = False) -> None:
        """Run the float model on images `(n, h, w, c)`; ConversionError when it isn't known how it quantizes."""
        self._rounded, self._dense_per_channel = RoundedModel(folded, ranges), dense_per_channel
        self.graph = self._rounded.graph
        self._pixels = tf.constant(images.astype(np.float32))
        self._taken: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._given: dict[int, tf.Tensor] = {}
        self.answers = np.asarray(self.graph.run(self._pixels, self._record), np.float32)

    def values(self, step: Step) -> NDArray[np.float32]:
        """Return what a step gives in floats."""
        return np.asarray(self._given[id(step)], np.float32)

    def with_rounded_output(self, step: Step) -> NDArray[np.float32]:
        """Return the probabilities `(n, classes)` when only what one step gives is rounded."""
        return self._answers_from(step, self._rounded.round(step, self._given[id(step)]))

    def with_rounded_weights(self, step: Step) -> NDArray[np.float32]:
        """Return the probabilities `(n, classes)` when only the weights of one step are rounded."""
        arguments, keywords = self._taken[id(step)]
        values = rounded_call(step, arguments, keywords, dense_per_channel=self._dense_per_channel)
        return self._answers_from(step, values)

    def _record(self, step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        self._taken[id(step)] = arguments, keywords
        self._given[id(step)] = step.operation(*arguments, **keywords)
        return self._given[id(step)]

    def _answers_from(self, changed: Step, values: tf.Tensor) -> NDArray[np.float32]:
        position = self.graph.steps.index(changed)
        kept = {id(step) for step in self.graph.steps[:position]}

        def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            if id(step) in kept:
                return self._given[id(step)]
            return values if step is changed else step.operation(*arguments, **keywords)

        return np.asarray(self.graph.run(self._pixels, call), np.float32)


def run_in_batches(answer: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run `answer`, a function of float32 pixels, on images `(n, h, w, c)`, a few at a time."""
    traced = tf.function(answer, autograph=False, reduce_retracing=True)
    batches = [images[at : at + _BATCH].astype(np.float32) for at in range(0, len(images), _BATCH)]
    with quiet():  # TensorFlow finds that much tracing odd
        return np.concatenate([np.asarray(traced(tf.constant(batch)), np.float32) for batch in batches])


def rounded_call(
    step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any], *, dense_per_channel: bool = False
) -> tf.Tensor:
    """Run one step with its layer's weights rounded to int8 (see `round_weights`)."""
    layer = step.operation
    if not isinstance(layer, keras.Layer) or kernel_of(layer) is None:
        return layer(*arguments, **keywords)
    kernel = kernel_of(layer)
    rounded = round_weights(kernel.value, type(layer), dense_per_channel=dense_per_channel)
    with keras.StatelessScope(state_mapping=[(kernel, rounded)]):
        return layer(*arguments, **keywords)


def kernel_of(layer: keras.Layer) -> Any:
    """Return the variable that holds a convolution's or dense layer's weights, None for other layers."""
    linear = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    return next(iter(layer.weights), None) if isinstance(layer, linear) else None


def round_weights(kernel: tf.Tensor, kind: type, *, dense_per_channel: bool = False) -> tf.Tensor:
    """Round weights to int8, symmetric; gradients pass straight through.

    One scale per output channel. Dense layers have one scale in all, as in the TFLite files of this package, with
    `dense_per_channel` one per output channel, as in its ONNX files.
    """
    scale = largest_weights(kernel, kind, dense_per_channel=dense_per_channel) / 127
    return kernel + tf.stop_gradient(tf.round(kernel / scale) * scale - kernel)


def largest_weights(kernel: tf.Tensor, kind: type, *, dense_per_channel: bool = False) -> tf.Tensor:
    """Return the largest magnitude, above 0, among the weights that share a scale; it can be broadcast to them."""
    dense = [0] if dense_per_channel else None
    axes = {keras.layers.DepthwiseConv2D: [0, 1], keras.layers.Dense: dense}.get(kind, [0, 1, 2])
    return tf.maximum(tf.reduce_max(tf.abs(kernel), axis=axes, keepdims=True), 1e-30)
