"""Folding: the same answers from fewer steps.

At inference a batch normalisation is a multiplication and an addition per channel, and so is a rescaling of pixels; both
disappear in the weights of a neighbouring convolution or dense layer (Jacob et al., CVPR 2018, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn_export.conversion.canonical import is_channel_flip, make_canonical
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Graph, Step, has_graph, numbered, read_graph
from edgecnn_export.conversion.parts import LINEAR, Part
from edgecnn_export.conversion.selfcheck import check_same

# A factor that is the same for all pixels may be applied behind these instead of before them (max needs it positive).
_COMMUTING = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.ZeroPadding2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.MaxPooling2D,
)
# These treat each channel alike and by itself.
_SPATIAL = (
    keras.layers.AveragePooling2D,
    keras.layers.Cropping2D,
    keras.layers.MaxPooling2D,
    keras.layers.ZeroPadding2D,
)


@dataclass(frozen=True, eq=False)
class Affine:
    """y = scale * x + offset, each a number per channel `(c,)` or one for all `(1,)`, float64."""

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]

    @property
    def uniform(self) -> bool:
        """True when it is one positive factor for all channels."""
        return self.scale.size == 1 and self.scale[0] > 0 and not self.offset.any()


def fold(model: keras.Model) -> Folded:
    """Return a float32 model that answers as `model` does at inference, with as few steps as possible.

    Batch normalisations and rescalings fold into a neighbouring convolution or dense layer, training-only layers vanish,
    separable convolutions become their two halves, and activations other than ReLU layers of their own, so that each tensor
    that is quantized has a layer to name it. What cannot be folded stays; a subclassed model is returned as it is. The result
    is compared with the model on a few inputs: a layer that holds something beyond its configuration and weights, which would
    be lost here, is a ConversionError that names it, and so is one that Keras itself has quantized.
    """
    if not has_graph(model):
        return Folded.of(model)
    original, graph = read_graph(model), read_graph(model)
    _take_apart(graph)
    make_canonical(graph)
    for step in list(graph.steps):
        _absorb_flip(graph, step)
    while [step for step in list(graph.steps) if step in graph.steps and _absorb(graph, step)]:
        pass
    for step in graph.steps:
        _as_depthwise(step)
    folded = _rebuild(graph, model.name)
    check_same(original, graph, model.name)
    return Folded.of(folded)


def _take_apart(graph: Graph) -> None:
    """Replace each layer of the graph by its Part, a shared layer by one shared Part."""
    parts: dict[int, Part] = {}
    for step in graph.steps:
        if isinstance(step.operation, keras.Layer):
            step.operation = parts.setdefault(id(step.operation), Part.of(step.operation))


def _absorb(graph: Graph, step: Step) -> bool:
    """Fold one affine step into a neighbour and remove it; False when it is none or has no neighbour that can take it."""
    affine = _affine(step)
    if affine is None:
        return False
    before = graph.producer(step.inputs[0])
    if before is not None and _may_change(graph, before) and graph.only_consumer(before.output) is step:
        _append_affine(before.operation, affine)
        before.output.origin = step.output.origin
    elif (behind := _linear_behind(graph, step, affine)) is not None:
        _prepend_affine(behind.operation, affine)
        _forget_between(graph, step, behind)
    else:
        return False
    graph.remove(step)
    return True


def _forget_between(graph: Graph, step: Step, behind: Step) -> None:
    """Note that the tensors from `step` to `behind`, a chain, are no longer those of the model."""
    between: Step | None = step
    while between is not None and between is not behind:
        between.output.origin = None
        between = graph.only_consumer(between.output)


def _affine(step: Step) -> Affine | None:
    """Read a step as y = scale * x + offset, None when it is something else."""
    part = step.operation
    if not isinstance(part, Part) or len(step.inputs) != 1:
        return None
    if part.kind is keras.layers.Rescaling:
        scale, offset = (np.atleast_1d(np.asarray(part.config[key], np.float64)) for key in ("scale", "offset"))
        channels = {scale.size, offset.size} - {1, step.output.shape[-1]}
        return None if channels or scale.ndim > 1 or offset.ndim > 1 else Affine(scale, offset)
    if part.kind is keras.layers.Normalization:
        return _normalization(part)
    if part.kind is keras.layers.BatchNormalization and part.config["axis"] in (-1, len(step.output.shape) - 1):
        return _batch_normalization(part)
    return None


def _batch_normalization(part: Part) -> Affine:
    """Read gamma * (x - mean) / sqrt(variance + epsilon) + beta (Ioffe and Szegedy, ICML 2015, algorithm 2)."""
    weights = [np.asarray(array, np.float64) for array in part.weights]
    mean, variance = weights[-2:]
    gamma = weights[0] if part.config["scale"] else np.ones_like(mean)
    beta = weights[-3] if part.config["center"] else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + part.config["epsilon"])
    return Affine(scale, beta - mean * scale)


def _normalization(part: Part) -> Affine | None:
    """Read (x - mean) / max(sqrt(variance), 1e-7) or its inverse, None where each pixel has a mean of its own."""
    mean, variance = (np.asarray(values, np.float64) for values in (part.original.mean, part.original.variance))
    if mean.size != mean.shape[-1]:
        return None
    mean, deviation = mean.reshape(-1), np.maximum(np.sqrt(variance.reshape(-1)), keras.backend.epsilon())
    return Affine(deviation, mean) if part.original.invert else Affine(1 / deviation, -mean / deviation)


def _may_change(graph: Graph, step: Step) -> bool:
    return isinstance(step.operation, Part) and step.operation.is_linear() and graph.calls(step.operation) == 1


def _linear_behind(graph: Graph, step: Step, affine: Affine) -> Step | None:
    """Return the linear layer behind `step` that can apply `affine` to its own input instead."""
    behind = graph.only_consumer(step.output)
    while behind is not None and affine.uniform and isinstance(behind.operation, Part) and behind.operation.kind in _COMMUTING:
        behind = graph.only_consumer(behind.output)
    if behind is None or not isinstance(behind.operation, Part):
        return None
    part = behind.operation
    # A padded border is zero before the affine step as well as behind it only when nothing is added.
    padded = part.config.get("padding", "valid") != "valid" and bool(affine.offset.any())
    grouped = part.config.get("groups", 1) != 1 and not affine.uniform
    takes = part.kind in LINEAR and part.config.get("data_format", "channels_last") == "channels_last"
    return behind if takes and not padded and not grouped and graph.calls(part) == 1 else None


def _append_affine(part: Part, affine: Affine) -> None:
    """Change a linear layer so that it gives scale * y + offset instead of y."""
    kernel, bias = _kernel_and_bias(part)
    shape = kernel.shape[-2:] if part.kind is keras.layers.DepthwiseConv2D else (1, kernel.shape[-1])
    scale = np.broadcast_to(affine.scale, bias.shape)
    _set_weights(part, kernel * scale.reshape(shape), bias * scale + affine.offset)


def _prepend_affine(part: Part, affine: Affine) -> None:
    """Change a convolution or dense layer so that it takes x instead of scale * x + offset."""
    kernel, bias = _kernel_and_bias(part)
    if affine.offset.any():
        offset = np.broadcast_to(affine.offset, kernel.shape[-2:-1])
        taps = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0) * offset[:, None]
        bias = bias + (taps.reshape(-1) if part.kind is keras.layers.DepthwiseConv2D else taps.sum(axis=0))
    scale = affine.scale if affine.scale.size == 1 else affine.scale[:, None]
    _set_weights(part, kernel * scale, bias)


def _kernel_and_bias(part: Part) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the kernel `(..., in, out)` and the bias, zeros when the layer has none, in float64."""
    kernel = np.asarray(part.weights[0], np.float64)
    outputs = kernel.shape[-1] * (kernel.shape[-2] if part.kind is keras.layers.DepthwiseConv2D else 1)
    bias = np.asarray(part.weights[1], np.float64) if part.config["use_bias"] else np.zeros(outputs)
    return kernel, bias


def _set_weights(part: Part, kernel: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
    part.config, part.whole = part.config | {"use_bias": True}, False
    part.weights = [kernel.astype(np.float32), bias.astype(np.float32)]


def _absorb_flip(graph: Graph, step: Step) -> None:
    """Let the convolution behind a step that turns the channels round (RGB to BGR) read them in the other order instead.

    Where there is none, the step becomes the 1 x 1 convolution that it is.
    """
    channels = step.output.shape[-1]
    if not is_channel_flip(step) or channels is None:
        return
    passed: list[Part] = []
    behind = graph.only_consumer(step.output)
    while behind is not None and isinstance(behind.operation, Part) and graph.calls(behind.operation) == 1:
        part = behind.operation
        if part.kind is keras.layers.Conv2D and _takes_all_channels(part):
            for each in passed:
                config = {key: np.squeeze(np.atleast_1d(each.config[key])[::-1]).tolist() for key in ("scale", "offset")}
                each.config = each.config | config
            part.weights, part.whole = [np.ascontiguousarray(part.weights[0][:, :, ::-1]), *part.weights[1:]], False
            _forget_between(graph, step, behind)
            graph.remove(step)
            return
        if part.kind is keras.layers.Rescaling:
            passed.append(part)
        elif part.kind not in _SPATIAL:
            break
        behind = graph.only_consumer(behind.output)
    config = {"name": "flip", "filters": channels, "kernel_size": 1, "use_bias": False, "activation": "linear"}
    kernel = np.eye(channels, dtype=np.float32)[::-1][None, None]
    step.operation = Part(keras.layers.Conv2D, config | {"dtype": "float32"}, [np.ascontiguousarray(kernel)], step.operation)
    step.arguments, step.keywords = (step.inputs[0],), {}


def _takes_all_channels(part: Part) -> bool:
    return bool(part.config.get("groups", 1) == 1 and part.config.get("data_format", "channels_last") == "channels_last")


def _as_depthwise(step: Step) -> None:
    """Make an affine step over a picture that found no neighbour a 1 x 1 depthwise convolution: one operator, not two."""
    affine = _affine(step)
    channels = step.output.shape[-1]
    if affine is None or len(step.output.shape) != 4 or channels is None:
        return
    kernel, bias = (np.broadcast_to(values, (channels,)) for values in (affine.scale, affine.offset))
    config = {"name": step.name, "kernel_size": 1, "dtype": "float32", "use_bias": True}
    weights = [kernel.reshape(1, 1, channels, 1).astype(np.float32), bias.astype(np.float32)]
    step.operation = Part(keras.layers.DepthwiseConv2D, config, weights, step.operation.original)
    step.keywords = {}


def _rebuild(graph: Graph, name: str) -> keras.Model:
    """Make a functional model of the graph's parts; the graph's steps call its layers then."""
    layers, taken = dict[int, keras.Layer](), set[str]()
    image = keras.Input(graph.input.shape[1:], dtype="float32", name="image")

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        part = step.operation
        arguments, keywords = keras.tree.map_structure(_as_constant, (arguments, keywords))
        if not isinstance(part, Part):
            return part(*arguments, **keywords)
        if id(part) not in layers:
            part.config = part.config | {"name": numbered(part.name, taken)}
            taken.add(part.name)
            layers[id(part)] = part.layer()
        return layers[id(part)](*arguments, **keywords)

    folded = keras.Model(image, graph.run(image, call), name=name)
    for part in {id(step.operation): step.operation for step in graph.steps}.values():
        if isinstance(part, Part):
            part.fill(layers[id(part)])
    folded.trainable = False
    for step in graph.steps:
        step.operation = layers.get(id(step.operation), step.operation)
    return folded


def _as_constant(leaf: Any) -> Any:
    """Return a tensor that a step was given when the model was built as plain numbers.

    The converters make constants of those, of a captured tensor an input.
    """
    is_tensor = keras.ops.is_tensor(leaf) and not isinstance(leaf, keras.KerasTensor)
    return keras.ops.convert_to_numpy(leaf) if is_tensor else leaf
