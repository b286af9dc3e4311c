"""Fourth technique: cross-layer equalization, the same function by weights whose channels have like ranges.

Nagel et al., ICCV 2019, arXiv:1906.04721, section 4.1: a channel that one layer gives s times smaller and the next takes s
times larger changes nothing as long as what stands between is positively homogeneous, as ReLU is. There the weights have one
scale per layer, and s balances the weights of both layers. Here each output channel's weights have a scale of their own; what
the channels share is the range of the activations between the layers, so this takes the place of the first layer's weights.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn_export.conversion.calibration import look_at_activations
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Graph, Step
from edgecnn_export.repair.bias_correction import correct_biases
from edgecnn_export.repair.context import RepairContext, SkippedError
from edgecnn_export.repair.ranges import best_ranges

_LINEAR = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_PASSING = (
    keras.layers.AveragePooling2D,
    keras.layers.Cropping2D,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.ZeroPadding2D,
)
# A channel that is silent on the calibration pictures may speak later; it is not blown up further than this.
_QUIETEST = 1e-4


@dataclass(frozen=True, eq=False)
class Link:
    """Two layers with weights, `tensor` the layer whose output between them is rounded, `ceiling` what a ReLU6 limits it to."""

    first: keras.Layer
    second: keras.Layer
    tensor: str
    ceiling: float | None


def equalize_layers(context: RepairContext) -> Quantization:
    """Equalize neighbouring layers, choose ranges again, correct biases where that comes closer to the float model."""
    context.check_annotated()
    equalized = equalized_copy(context.folded, context.sample)
    method, ranges = best_ranges(context, equalized)
    calibration = context.calibration(ranges, f"{method}, equalized")
    distance = context.offer(equalized, calibration)
    corrected = correct_biases(equalized, ranges, context.sample)
    corrected_calibration = context.calibration(ranges, f"{method}, equalized, biases corrected")
    if context.offer(corrected, corrected_calibration) < distance:
        return Quantization(corrected, corrected_calibration)
    return Quantization(equalized, calibration)


def equalized_copy(folded: Folded, images: NDArray[np.uint8]) -> Folded:
    """Return a model of the same function whose channels have like ranges on images `(n, h, w, c)`.

    Under ReLU6 a channel is only enlarged, and at most until its largest value is 6: the function is the same up to that
    value, beyond it is clipped, as it is by any calibrated range. Raises SkippedError when no two layers can be balanced.
    """
    copy = folded.copy()
    links = find_links(copy.annotated()[0])
    if not links:
        raise SkippedError("no two neighbouring layers can be balanced: something that is not ReLU stands between them")
    largest = channel_maxima(copy, images, {link.tensor for link in links})
    for link in links:
        rescale(link, equalizing_factors(link, largest[link.tensor]))
    return copy


def find_links(graph: Graph) -> list[Link]:
    """Find the pairs of layers, in order, whose channels between them can be rescaled."""
    found = [_link(graph, step) for step in graph.steps if _is_linear(graph, step)]
    return [link for link in found if link is not None]


def channel_maxima(folded: Folded, images: NDArray[np.uint8], layers: Container[str]) -> dict[str, NDArray[np.float64]]:
    """Return the largest magnitude of each channel `(c,)` of some layers that are called once, over images `(n, h, w, c)`."""
    largest = dict[str, NDArray[np.float64]]()

    def see(name: str, values: NDArray[np.float32]) -> None:
        if name in layers:
            highest = np.abs(values).max(axis=tuple(range(values.ndim - 1))).astype(np.float64)
            largest[name] = np.maximum(largest.get(name, 0.0), highest)

    look_at_activations(folded, images, see)
    return largest


def equalizing_factors(link: Link, largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return s `(c,)`, by which each channel is divided: sqrt(activation range / range of the weights that take it).

    The weights' range counts relative to their output channel, whose scale they share. Behind a depthwise layer each
    channel's weights have a scale of their own, so that all channels can become equally large.
    """
    if not largest.any():
        return np.ones_like(largest)
    ranges = np.maximum(largest, largest.max() * _QUIETEST)
    if isinstance(link.second, keras.layers.DepthwiseConv2D):
        factors = ranges
    else:
        weights = _taking_ranges(link.second, len(ranges))
        factors = np.sqrt(ranges / np.maximum(weights, weights.max() * _QUIETEST))
    factors = factors * (largest / factors).max() / largest.max()  # so that the largest value stays as it is
    if link.ceiling is not None:
        factors = np.clip(factors, np.maximum(largest / link.ceiling, _QUIETEST), 1.0)
    return np.where(largest > 0, factors, 1.0)


def rescale(link: Link, factors: NDArray[np.float64]) -> None:
    """Divide the channels between two layers by `factors` `(c,)`, all above 0."""
    kernel, *rest = (np.asarray(weights, np.float64) for weights in link.first.get_weights())
    shape = kernel.shape[-2:] if isinstance(link.first, keras.layers.DepthwiseConv2D) else (1, kernel.shape[-1])
    divided = [kernel / factors.reshape(shape), *(bias / factors for bias in rest)]
    link.first.set_weights([array.astype(np.float32) for array in divided])
    kernel, *rest = (np.asarray(weights, np.float64) for weights in link.second.get_weights())
    multiplied = _by_input_channel(kernel, len(factors)) * factors[:, None]
    link.second.set_weights([multiplied.reshape(kernel.shape).astype(np.float32), *(b.astype(np.float32) for b in rest)])


def _link(graph: Graph, first: Step) -> Link | None:
    tensor, ceiling = first, _fused_ceiling(first.operation)
    behind = graph.only_consumer(first.output)
    while behind is not None and not _is_linear(graph, behind):
        layer = behind.operation
        if _is_relu(layer) and graph.calls(layer) == 1:
            tensor, ceiling = behind, None if layer.max_value is None else float(layer.max_value)
        elif not isinstance(layer, _PASSING):
            return None
        behind = graph.only_consumer(behind.output)
    if behind is None or getattr(behind.operation, "groups", 1) != 1:
        return None
    return Link(first.operation, behind.operation, tensor.name, ceiling)


def _is_relu(layer: Any) -> bool:
    return isinstance(layer, keras.layers.ReLU) and not layer.negative_slope and not layer.threshold


def _is_linear(graph: Graph, step: Step) -> bool:
    layer = step.operation
    if not isinstance(layer, _LINEAR) or graph.calls(layer) != 1:
        return False
    return keras.activations.serialize(layer.activation) in ("linear", "relu", "relu6")


def _fused_ceiling(layer: Any) -> float | None:
    return 6.0 if keras.activations.serialize(layer.activation) == "relu6" else None


def _taking_ranges(layer: keras.Layer, channels: int) -> NDArray[np.float64]:
    """Return by how much of its output channels' weight range a layer takes each of its input channels, `(channels,)`."""
    kernel = np.abs(_by_input_channel(np.asarray(layer.get_weights()[0], np.float64), channels))
    outputs = kernel.max(axis=(0, 1), keepdims=True)
    if isinstance(layer, keras.layers.Dense):  # one scale for all
        outputs = outputs.max(keepdims=True)
    return np.asarray((kernel / np.maximum(outputs, 1e-30)).max(axis=(0, 2)))


def _by_input_channel(kernel: NDArray[np.float64], channels: int) -> NDArray[np.float64]:
    """Look at weights as `(taps, channels, outputs)`; behind a Flatten a dense layer has several taps per channel."""
    return kernel.reshape(-1, channels, kernel.shape[-1])
