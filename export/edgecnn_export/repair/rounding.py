"""Third technique: weights rounded by what that does to a layer's output, not each to its nearest level.

Rounding one weight up leaves an error that the next ones, on inputs which go along with it, can take back: Frantar, Ashkboos,
Hoefler and Alistarh, GPTQ, ICLR 2023, arXiv:2210.17323 (after LeCun, Denker and Solla, Optimal Brain Damage, 1990). What is
then left of a shift of a channel's mean, the bias takes back (`repair.bias_correction`). Layer by layer from the first, each
on what the rounded layers before it give: seconds, and no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgecnn_export.conversion.annotation import PIXEL_RANGE
from edgecnn_export.conversion.calibration import Ranges
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Graph, Step
from edgecnn_export.conversion.serving import fake_quantize
from edgecnn_export.conversion.simulation import RoundedModel, kernel_of, largest_weights, rounded_call
from edgecnn_export.repair.bias_correction import linear_call
from edgecnn_export.repair.context import RepairContext

_PICTURES = 64  # all activations of all pictures of one layer are held at a time
_PLACES = 4000  # of all pictures, at which a layer is looked at
_MOST_TAPS = 4096  # inputs of one output: the matrix of their products is inverted
_DAMPING = 0.01
_LEVELS = 127

Array = NDArray[np.float64]


def round_weights(context: RepairContext) -> Quantization:
    """Round the weights of the closest model so far by what that does to the layers' outputs."""
    folded, calibration = context.closest()
    rounded = round_by_effect(folded, context.sample, calibration.ranges, context.seed)
    record = context.calibration(calibration.ranges, f"{calibration.method}, weights rounded by effect")
    context.offer(rounded, record)
    return Quantization(rounded, record)


def round_by_effect(folded: Folded, images: NDArray[np.uint8], ranges: Ranges | None = None, seed: int = 0) -> Folded:
    """Return a copy whose weights are levels of int8 already, with biases to match, on images `(n, h, w, c)`.

    With `ranges` the activations are rounded to them as in the int8 file, and the biases make up for that too; without they
    stay as they are, and the copy answers in floats nearly as `folded` does. Layers with groups and very wide ones are rounded
    to the nearest levels. Raises ConversionError for a model of which it isn't known how it quantizes.
    """
    copy = folded.copy()
    work = _Rounding(folded, copy, ranges, np.random.default_rng(seed))
    chosen = images[np.linspace(0, len(images) - 1, min(len(images), _PICTURES)).astype(np.int64)]
    pixels = tf.constant(chosen.astype(np.float32))
    work.rounded.run(_Pair(pixels, pixels if ranges is None else fake_quantize(pixels, PIXEL_RANGE)), work.call)
    return copy


@dataclass(frozen=True, eq=False)
class _Pair:
    """One value as the float model gives it, and as the rounded one does."""

    plain: Any
    rounded: Any


class _Rounding:
    """Runs both models side by side, and rounds each layer of the copy before it is run."""

    def __init__(self, folded: Folded, copy: Folded, ranges: Ranges | None, random: np.random.Generator) -> None:
        simulated = None if ranges is None else RoundedModel(copy, ranges)
        self.rounded: Graph = copy.annotated()[0] if simulated is None else simulated.graph
        self._simulated, self._random = simulated, random
        self._plain = {id(step): own for step, own in zip(self.rounded.steps, folded.steps, strict=True)}

    def call(self, step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> _Pair:
        """Run one step of both models."""
        plain, plain_keywords = _side(arguments, "plain"), _side(keywords, "plain")
        rounded, rounded_keywords = _side(arguments, "rounded"), _side(keywords, "rounded")
        own = self._plain[id(step)]
        layer = step.operation
        if isinstance(layer, keras.Layer) and kernel_of(layer) is not None and self.rounded.calls(layer) == 1:
            self._round(layer, np.asarray(rounded[0]), np.asarray(linear_call(own, plain, plain_keywords, _run)))
        result = rounded_call(step, rounded, rounded_keywords)
        if self._simulated is not None:
            result = self._simulated.round(step, result)
        return _Pair(own.operation(*plain, **plain_keywords), result)

    def _round(self, layer: keras.Layer, inputs: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
        """Round a layer's weights and set its bias, by its inputs and by what it should give before its activation."""
        kernel = np.asarray(layer.kernel, np.float64)
        taken, targets = _looked_at(layer, inputs, wanted, self._random)
        weights = _by_group(kernel, layer)
        if taken is not None:
            largest = np.broadcast_to(np.asarray(largest_weights(layer.kernel.value, type(layer)), np.float64), kernel.shape)
            weights = rounded_weights(weights, _gram(taken), _by_group(largest, layer) / _LEVELS)
            layer.kernel.assign(_from_groups(weights, layer, kernel.shape).astype(np.float32))
        if taken is not None and getattr(layer, "bias", None) is not None:
            given = np.einsum("gnd,gdo->ngo", taken, weights, optimize=True).reshape(len(targets), -1)
            layer.bias.assign((targets - given).mean(axis=0).astype(np.float32))


def rounded_weights(weights: Array, gram: Array, scales: Array) -> Array:
    """Round weights `(groups, inputs, outputs)` to multiples of `scales` of that shape, each error passed on to those after it.

    `gram` `(groups, inputs, inputs)` are the products of the inputs, summed over places. The largest weight of a scale stays
    the largest, so that the scale can be read off the rounded weights again.
    """
    order = np.argsort(-np.diagonal(gram, axis1=1, axis2=2), axis=1, kind="stable")
    back = np.argsort(order, axis=1)[:, :, None]
    left = np.take_along_axis(weights, order[:, :, None], axis=1)
    scales = np.take_along_axis(scales, order[:, :, None], axis=1)
    products = np.take_along_axis(np.take_along_axis(gram, order[:, :, None], axis=1), order[:, None, :], axis=2)
    upper = np.linalg.cholesky(np.linalg.inv(_damped(products))).transpose(0, 2, 1)
    pinned = np.abs(left) >= scales * _LEVELS * (1 - 1e-6)
    pins = np.sign(left) * _LEVELS
    rounded = np.zeros_like(left)
    for i in range(left.shape[1]):
        levels = np.clip(np.rint(left[:, i] / scales[:, i]), -_LEVELS, _LEVELS)
        rounded[:, i] = np.where(pinned[:, i], pins[:, i], levels) * scales[:, i]
        errors = (left[:, i] - rounded[:, i]) / upper[:, i, i, None]
        left[:, i + 1 :] -= upper[:, i, i + 1 :, None] * errors[:, None]
    return np.asarray(np.take_along_axis(rounded, back, axis=1))


def _damped(products: Array) -> Array:
    """Add to the diagonal what makes inputs that are always zero, or always alike, no obstacle."""
    size = products.shape[1]
    mean = np.trace(products, axis1=1, axis2=2) / size
    return np.asarray(products + (np.maximum(mean, 1e-6) * _DAMPING)[:, None, None] * np.eye(size))


def _gram(taken: Array) -> Array:
    """Return the products of inputs `(groups, places, taps)` about their means: the bias takes care of those."""
    centred = taken - taken.mean(axis=1, keepdims=True)
    return np.asarray(centred.transpose(0, 2, 1) @ centred)


def _looked_at(
    layer: keras.Layer, inputs: NDArray[np.float32], wanted: NDArray[np.float32], random: np.random.Generator
) -> tuple[Array | None, Array]:
    """Return the inputs of a layer `(groups, places, taps)` and what it should give `(places, channels)` at some places.

    Neither for a layer that is not rounded by its effect. Only what is looked at is computed with in double precision.
    """
    targets = wanted.reshape(-1, wanted.shape[-1])
    nothing = targets[:0].astype(np.float64)
    if isinstance(layer, keras.layers.Dense):
        features = inputs.reshape(1, -1, inputs.shape[-1]).astype(np.float64)
        return (features, targets.astype(np.float64)) if features.shape[2] <= _MOST_TAPS else (None, nothing)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    taps = int(np.prod(layer.kernel_size)) * (1 if depthwise else inputs.shape[-1])
    if layer.data_format != "channels_last" or getattr(layer, "groups", 1) != 1 or taps > _MOST_TAPS:
        return None, nothing
    # A channel's few taps need fewer places, and there are many channels.
    chosen = np.sort(random.permutation(len(targets))[: _PLACES // 3 if depthwise else _PLACES])
    pictures, rows, columns = np.unravel_index(chosen, wanted.shape[:3])
    patches = _patches(layer, inputs, pictures, rows, columns)
    if depthwise:
        return patches.transpose(2, 0, 1), targets[chosen].astype(np.float64)
    return patches.reshape(1, len(chosen), -1), targets[chosen].astype(np.float64)


def _patches(layer: keras.Layer, inputs: NDArray[np.float32], pictures: Any, rows: Any, columns: Any) -> Array:
    """Return what a convolution looks at, `(places, taps, channels)`."""
    starts = list[list[Any]]()
    for axis, at in ((0, rows), (1, columns)):
        stride, side, dilation = layer.strides[axis], layer.kernel_size[axis], layer.dilation_rate[axis]
        before, reach = 0, (side - 1) * dilation + 1
        if layer.padding == "same":  # as TensorFlow does: the odd one behind
            before = max((-(-inputs.shape[axis + 1] // stride) - 1) * stride + reach - inputs.shape[axis + 1], 0) // 2
        starts.append([at * stride + tap * dilation - before for tap in range(side)])
    taps = [_at(inputs, pictures, y, x) for y in starts[0] for x in starts[1]]
    return np.stack(taps, axis=1).astype(np.float64)


def _at(inputs: NDArray[np.float32], pictures: Any, rows: Any, columns: Any) -> NDArray[np.float32]:
    """Return the values `(places, channels)` at some places, 0 beyond the border: a padded copy would be as large again."""
    height, width = inputs.shape[1:3]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    values = inputs[pictures, np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]
    return np.where(inside[:, None], values, np.float32(0))


def _by_group(kernel: Array, layer: keras.Layer) -> Array:
    """Return a kernel as `(groups, taps, outputs)`: each channel of a depthwise one is a group."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return np.asarray(kernel.reshape(-1, *kernel.shape[2:]).transpose(1, 0, 2))
    return kernel.reshape(1, -1, kernel.shape[-1])


def _from_groups(weights: Array, layer: keras.Layer, shape: tuple[int, ...]) -> Array:
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return weights.transpose(1, 0, 2).reshape(shape)
    return weights.reshape(shape)


def _side(structure: Any, side: str) -> Any:
    return keras.tree.map_structure(lambda leaf: getattr(leaf, side) if isinstance(leaf, _Pair) else leaf, structure)


def _run(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return step.operation(*arguments, **keywords)
