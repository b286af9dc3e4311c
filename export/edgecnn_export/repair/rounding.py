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
from numpy.typing import NDArray

from edgecnn_export.conversion.annotation import PIXEL_RANGE
from edgecnn_export.conversion.calibration import Ranges
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Arguments, Graph, Step
from edgecnn_export.conversion.serving import fake_quantize
from edgecnn_export.conversion.simulation import RoundedModel, kernel_of, largest_weights, rounded_call
from edgecnn_export.repair.bias_correction import in_blocks
from edgecnn_export.repair.context import RepairContext

_PICTURES = 64  # what one layer takes or gives for all of them is held at a time
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
    simulated = None if ranges is None else RoundedModel(copy, ranges)
    graph: Graph = copy.annotated()[0] if simulated is None else simulated.graph
    chosen = images[np.linspace(0, len(images) - 1, min(len(images), _PICTURES)).astype(np.int64)]
    pixels = in_blocks(chosen)
    looks = _look(folded.annotated()[0], pixels, np.random.default_rng(seed))
    by_step = dict(zip(map(id, graph.steps), looks, strict=True))

    def prepare(step: Step, taken: list[Arguments]) -> None:
        look = by_step[id(step)]
        if look is not None:
            _round(step.operation, look, [_first(arguments) for arguments in taken])

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        result = rounded_call(step, arguments, keywords)
        return result if simulated is None else simulated.round(step, result)

    seen = pixels if ranges is None else [fake_quantize(block, PIXEL_RANGE) for block in pixels]
    graph.run_in_blocks(seen, call, prepare)
    return copy


@dataclass(eq=False)
class _Look:
    """Some `places` of what a layer gives, and what it gives there on average, before its activation, in the float model.

    `places` are indices of pictures, rows and columns, each `(places,)`, for dense layers those of all rows. `taken` is the sum
    of what the layer looks at there, `(groups, taps)`; `kernel` and `bias` are its own.
    """

    places: tuple[NDArray[np.int64], ...]
    kernel: Array
    bias: Array | None
    taken: Array | float = 0.0

    @property
    def wanted(self) -> Array:
        """What the layer gives on average `(channels,)`."""
        assert self.bias is not None
        return self.bias + _applied(np.asarray(self.taken / len(self.places[0])), self.kernel)


def _look(graph: Graph, blocks: list[Any], random: np.random.Generator) -> list[_Look | None]:
    """Run the float model on blocks of pictures; return of each step what its layer is rounded by, None where it is not."""
    count = sum(map(len, blocks))
    looks = {id(step): look for step in graph.steps if (look := _begin(graph, step, count, random)) is not None}
    first = 0

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if (look := looks.get(id(step))) is not None:
            inputs = _inputs_of_block(step.operation, np.asarray(_first((arguments, keywords))), look.places, first)
            look.taken = look.taken + inputs.sum(axis=1)
        return step.operation(*arguments, **keywords)

    for block in blocks:
        graph.run(block, call)
        first += len(block)
    return [looks.get(id(step)) for step in graph.steps]


def _begin(graph: Graph, step: Step, count: int, random: np.random.Generator) -> _Look | None:
    """Choose the places at which the layer of a step is looked at, by its output for `count` pictures."""
    layer = step.operation
    if not isinstance(layer, keras.Layer) or kernel_of(layer) is None or graph.calls(layer) != 1:
        return None
    sizes = (count, *(int(side or 1) for side in step.output.shape[1:-1]))
    dense, depthwise = isinstance(layer, keras.layers.Dense), isinstance(layer, keras.layers.DepthwiseConv2D)
    taps = int(np.prod(layer.kernel.shape[: 2 if depthwise else -1]))
    odd = not dense and (layer.data_format != "channels_last" or getattr(layer, "groups", 1) != 1)
    if odd or taps > _MOST_TAPS:
        return None
    chosen = np.arange(np.prod(sizes))
    if not dense:  # a channel's few taps need fewer places, and there are many channels
        chosen = np.sort(random.permutation(chosen)[: _PLACES // 3 if depthwise else _PLACES])
    kernel = _by_group(np.asarray(layer.kernel, np.float64), layer)
    bias = getattr(layer, "bias", None)
    return _Look(np.unravel_index(chosen, sizes), kernel, None if bias is None else np.asarray(bias, np.float64))


def _round(layer: keras.Layer, look: _Look, blocks: list[Any]) -> None:
    """Round a layer's weights and set its bias, by what it takes in the rounded model."""
    inputs = np.concatenate(
        [
            _inputs_of_block(layer, np.asarray(block), look.places, int(first))
            for first, block in zip(np.cumsum([0, *map(len, blocks[:-1])]), blocks, strict=True)
        ],
        axis=1,
    )
    shape = layer.kernel.shape
    largest = np.broadcast_to(np.asarray(largest_weights(layer.kernel.value, type(layer)), np.float64), shape)
    weights = rounded_weights(look.kernel, _gram(inputs), _by_group(largest, layer) / _LEVELS)
    layer.kernel.assign(_from_groups(weights, layer, shape).astype(np.float32))
    if look.bias is not None:
        layer.bias.assign((look.wanted - _applied(inputs.mean(axis=1), weights)).astype(np.float32))


def _applied(inputs: Array, weights: Array) -> Array:
    """Return what weights `(groups, taps, outputs)` make of inputs `(groups, taps)`, `(channels,)`."""
    return np.asarray(np.einsum("gd,gdo->go", inputs, weights).reshape(-1))


def _first(arguments: Arguments) -> Any:
    """Return the tensor that a layer takes."""
    return keras.tree.flatten(arguments)[0]


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
    # In one piece: NumPy multiplies matrices with gaps between their values without BLAS, 20 times slower.
    centred = np.ascontiguousarray(taken - taken.mean(axis=1, keepdims=True))
    return np.asarray(centred.transpose(0, 2, 1) @ centred)


def _inputs_of_block(
    layer: keras.Layer, block: NDArray[np.float32], places: tuple[NDArray[np.int64], ...], first: int
) -> Array:
    """Return what a layer looks at `(groups, k, taps)` at those places that lie in a block of pictures from `first` on.

    Only what is looked at is computed with in double precision.
    """
    own = (places[0] >= first) & (places[0] < first + len(block))
    at = (places[0][own] - first, *(indices[own] for indices in places[1:]))
    if isinstance(layer, keras.layers.Dense):
        return block[at].astype(np.float64)[None]
    patches = _patches(layer, block, *at)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return patches.transpose(2, 0, 1)
    return patches.reshape(1, len(patches), -1)


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
