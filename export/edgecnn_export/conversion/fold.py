"""Folding: the same answers from fewer steps.

At inference a batch normalisation is a multiplication and an addition a channel, and so is a rescaling of pixels; both
disappear in the weights of a neighbouring convolution or dense layer (Jacob et al., CVPR 2018, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn_export.conversion.graph import Graph, Step, has_graph, read_graph

TRAINING_ONLY = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
    keras.layers.Identity,
    keras.layers.RandomBrightness,
    keras.layers.RandomContrast,
    keras.layers.RandomFlip,
    keras.layers.RandomRotation,
    keras.layers.RandomTranslation,
    keras.layers.RandomZoom,
)
FUSED_ACTIVATIONS = ("linear", "relu", "relu6")
_LINEAR = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
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


@dataclass(eq=False)
class Part:
    """A layer before it is built: its class, configuration and weights, all free to be changed."""

    kind: Any
    config: dict[str, Any]
    weights: list[NDArray[Any]]
    original: Any = field(repr=False)

    @classmethod
    def of(cls, layer: keras.Layer) -> Part:
        """Copy a layer; its precision becomes float32."""
        return cls(type(layer), layer.get_config() | {"dtype": "float32"}, layer.get_weights(), layer)

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.config["name"])

    def is_linear(self) -> bool:
        """True for convolutions and dense layers without an activation."""
        plain = self.kind in _LINEAR and self.config["activation"] == "linear"
        return plain and self.config.get("data_format", "channels_last") == "channels_last"

    def layer(self) -> keras.Layer:
        """Make the layer, still without its weights; one that cannot be made from its configuration is used as it is."""
        try:
            return self.kind.from_config(self.config)
        except (TypeError, ValueError, NotImplementedError):
            return self.original


@dataclass(frozen=True, eq=False)
class Affine:
    """y = scale * x + offset, each a number a channel `(c,)` or one for all `(1,)`, float64."""

    scale: NDArray[np.float64]
    offset: NDArray[np.float64]

    @property
    def uniform(self) -> bool:
        """True when it is one positive factor for all channels."""
        return self.scale.size == 1 and self.scale[0] > 0 and not self.offset.any()


def fold(model: keras.Model) -> keras.Model:
    """Return a float32 model that answers as `model` does at inference, with as few steps as possible.

    Batch normalisations and rescalings fold into a neighbouring convolution or dense layer, training-only layers vanish,
    separable convolutions become their two halves, and activations other than ReLU layers of their own, so that each tensor
    that is quantized has a layer to name it. What cannot be folded stays; a subclassed model is returned as it is.
    """
    if not has_graph(model):
        return model
    graph = read_graph(model)
    _take_apart(graph)
    for step in [step for step in graph.steps if _is_training_only(step)]:
        graph.remove(step)
    _split_layers(graph)
    for step in list(graph.steps):
        _absorb_flip(graph, step)
    while any(_absorb(graph, step) for step in list(graph.steps) if step in graph.steps):
        pass
    for step in graph.steps:
        _as_depthwise(step)
    return _rebuild(graph, model.name)


def _take_apart(graph: Graph) -> None:
    """Replace each layer of the graph by its Part, a shared layer by one shared Part."""
    parts: dict[int, Part] = {}
    for step in graph.steps:
        if isinstance(step.operation, keras.Layer):
            step.operation = parts.setdefault(id(step.operation), Part.of(step.operation))


def _is_training_only(step: Step) -> bool:
    """True for layers that pass their input through at inference; layers of others say so by `training_only = True`."""
    part = step.operation
    if not isinstance(part, Part):
        return False
    idle = part.kind is keras.layers.Activation and part.config["activation"] == "linear"
    return idle or part.kind in TRAINING_ONLY or getattr(part.kind, "training_only", False)


def _split_layers(graph: Graph) -> None:
    for step in list(graph.steps):
        if isinstance(step.operation, Part) and graph.calls(step.operation) == 1:
            if step.operation.kind is keras.layers.SeparableConv2D:
                step = _split_separable(graph, step)  # noqa: PLW2901  # its second half may have an activation
            _dense_as_pointwise(step)
            _split_activation(graph, step)


def _dense_as_pointwise(step: Step) -> None:
    """Call a dense layer over a picture's channels the 1 x 1 convolution that it is: converters have an operator for that."""
    part = step.operation
    if part.kind is keras.layers.Dense and len(step.output.shape) == 4:
        config = {key: part.config[key] for key in ("name", "activation", "use_bias", "dtype")}
        config |= {"filters": part.config["units"], "kernel_size": 1}
        weights = [part.weights[0][None, None], *part.weights[1:]]
        step.operation = Part(keras.layers.Conv2D, config, weights, part.original)


def _split_separable(graph: Graph, step: Step) -> Step:
    """Put a depthwise convolution before the step and make the step its pointwise half; return the latter."""
    whole = step.operation
    config, shared = whole.config, ("strides", "padding", "data_format", "dilation_rate", "dtype")
    depthwise = {key: config[key] for key in shared} | {
        "name": f"{whole.name}_depthwise",
        "kernel_size": config["kernel_size"],
        "depth_multiplier": config["depth_multiplier"],
        "use_bias": False,
    }
    first = Part(keras.layers.DepthwiseConv2D, depthwise, whole.weights[:1], whole.original)
    pointwise = {key: config[key] for key in ("name", "data_format", "dtype", "filters", "activation", "use_bias")}
    second = Part(keras.layers.Conv2D, pointwise | {"kernel_size": 1}, whole.weights[1:], whole.original)
    _insert_before(graph, step, first)
    step.operation = second
    return step


def _split_activation(graph: Graph, step: Step) -> None:
    """Make an activation that no runtime fuses a step of its own."""
    part = step.operation
    if part.kind not in _LINEAR or part.config["activation"] in FUSED_ACTIVATIONS:
        return
    linear = Part(part.kind, part.config | {"name": f"{part.name}_linear", "activation": "linear"}, part.weights, part.original)
    config = {"name": part.name, "activation": part.config["activation"], "dtype": "float32"}
    _insert_before(graph, step, linear)
    step.operation = Part(keras.layers.Activation, config, [], part.original)


def _insert_before(graph: Graph, step: Step, part: Part) -> None:
    """Let `part` take what the step took, and the step take what `part` gives."""
    from edgecnn_export.conversion.graph import Value

    between = Value(step.output.shape)
    graph.steps.insert(graph.steps.index(step), Step(part, step.arguments, {}, [between]))
    step.arguments, step.keywords = (between,), {}


def _absorb(graph: Graph, step: Step) -> bool:
    """Fold one affine step into a neighbour and remove it; False when it is none or has no neighbour that can take it."""
    affine = _affine(step)
    if affine is None:
        return False
    before = graph.producer(step.inputs[0])
    if before is not None and _may_change(graph, before) and graph.only_consumer(before.output) is step:
        _append_affine(before.operation, affine)
    elif (behind := _linear_behind(graph, step, affine)) is not None:
        _prepend_affine(behind.operation, affine)
    else:
        return False
    graph.remove(step)
    return True


def _affine(step: Step) -> Affine | None:
    """Read a step as y = scale * x + offset, None when it is something else."""
    part = step.operation
    if not isinstance(part, Part) or len(step.inputs) != 1:
        return None
    if part.kind is keras.layers.Rescaling:
        scale, offset = (np.atleast_1d(np.asarray(part.config[key], np.float64)) for key in ("scale", "offset"))
        channels = {scale.size, offset.size} - {1, step.output.shape[-1]}
        return None if channels or scale.ndim > 1 or offset.ndim > 1 else Affine(scale, offset)
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
    takes = part.kind in _LINEAR and part.config.get("data_format", "channels_last") == "channels_last"
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
    part.config = part.config | {"use_bias": True}
    part.weights = [kernel.astype(np.float32), bias.astype(np.float32)]


def _absorb_flip(graph: Graph, step: Step) -> None:
    """Let the convolution behind a step that turns the channels round (RGB to BGR) read them in the other order instead.

    Where there is none, the step becomes the 1 x 1 convolution that it is.
    """
    channels = step.output.shape[-1]
    if not _is_channel_flip(step) or channels is None:
        return
    passed: list[Part] = []
    behind = graph.only_consumer(step.output)
    while behind is not None and isinstance(behind.operation, Part) and graph.calls(behind.operation) == 1:
        part = behind.operation
        if part.kind is keras.layers.Conv2D and _takes_all_channels(part):
            for each in passed:
                config = {key: np.squeeze(np.atleast_1d(each.config[key])[::-1]).tolist() for key in ("scale", "offset")}
                each.config = each.config | config
            part.weights = [np.ascontiguousarray(part.weights[0][:, :, ::-1]), *part.weights[1:]]
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


def _is_channel_flip(step: Step) -> bool:
    """True for `x[..., ::-1]` of a picture."""
    if type(step.operation).__name__ != "GetItem" or len(step.output.shape) != 4:
        return False
    key = step.arguments[1] if len(step.arguments) > 1 else step.keywords.get("key")
    *before, last = key if isinstance(key, tuple) else (key,)
    untouched = before == [Ellipsis] or (len(before) == 3 and all(part == slice(None) for part in before))
    return bool(untouched and last == slice(None, None, -1))


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
    """Make a functional model of the graph's parts."""
    layers, taken = dict[int, keras.Layer](), set[str]()
    image = keras.Input(graph.input.shape[1:], dtype="float32", name="image")

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        part = step.operation
        if not isinstance(part, Part):
            return part(*arguments, **keywords)
        if id(part) not in layers:
            part.config = part.config | {"name": _unique(part.name, taken)}
            layers[id(part)] = part.layer()
        return layers[id(part)](*arguments, **keywords)

    folded = keras.Model(image, graph.run(image, call), name=name)
    for part in {id(step.operation): step.operation for step in graph.steps}.values():
        if isinstance(part, Part) and layers[id(part)] is not part.original:
            layers[id(part)].set_weights(part.weights)
    folded.trainable = False
    return folded


def _unique(name: str, taken: set[str]) -> str:
    """Return a name that nested models have not used before."""
    count, unique = 1, name
    while unique in taken:
        count, unique = count + 1, f"{name}_{count}"
    taken.add(unique)
    return unique
