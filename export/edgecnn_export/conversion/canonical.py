"""One name for each thing: bare operations become the layers that do the same, rare layers the common ones they consist of.

What is folded, measured and quantized then need only know the latter.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.endings import TWO_CLASSES
from edgecnn_export.conversion.graph import Graph, Step, Value
from edgecnn_export.conversion.parts import LINEAR, Part

FUSED_ACTIVATIONS = ("linear", "relu", "relu6")
_IDLE = (keras.layers.Identity, keras.layers.ActivityRegularization)
_MERGING = {
    "Add": keras.layers.Add,
    "Subtract": keras.layers.Subtract,
    "Multiply": keras.layers.Multiply,
    "Maximum": keras.layers.Maximum,
    "Minimum": keras.layers.Minimum,
}
_ACTIVATING = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Silu": "silu",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "Selu": "selu",
    "Softplus": "softplus",
}
_POOLING = {"Mean": keras.layers.GlobalAveragePooling2D, "Max": keras.layers.GlobalMaxPooling2D}


def make_canonical(graph: Graph) -> None:
    """Rewrite the steps of a graph of Parts and bare operations."""
    for step in list(graph.steps):
        if not isinstance(step.operation, Part):
            _join_stacked_channels(graph, step)
            _as_layer(step)
    for step in [step for step in graph.steps if _is_idle(step)]:
        graph.remove(step)
    for step in list(graph.steps):
        if isinstance(step.operation, Part) and graph.calls(step.operation) == 1:
            _split(graph, step)
    for step in graph.steps:
        _sigmoid_as_softmax(graph, step)


def layer_part(kind: Any, name: str, **config: Any) -> Part:
    """Make a layer without weights."""
    return Part(kind, config | {"name": name, "dtype": "float32"}, [], None)


def activation_of(config: dict[str, Any]) -> Any:
    """Return a layer's activation by the one name that Keras has for it; something else than a string where it has none."""
    return keras.activations.serialize(keras.activations.get(config["activation"]))


def _as_layer(step: Step) -> None:
    """Let a bare operation that is nothing but a layer be that layer."""
    kind = type(step.operation).__name__
    inputs = step.inputs
    part: Part | None = None
    if (constants := _affine_constants(step)) is not None:
        scale, offset = (_listed(values) for values in constants)
        part = layer_part(keras.layers.Rescaling, step.name, scale=scale, offset=offset)
    elif kind in _MERGING and len(inputs) == 2 and len(inputs[0].shape) == len(inputs[1].shape):
        part = layer_part(_MERGING[kind], step.name)
        step.arguments, step.keywords = (inputs,), {}
    elif kind in _ACTIVATING:
        part = layer_part(keras.layers.Activation, step.name, activation=_ACTIVATING[kind])
    elif kind == "Softmax" and step.operation.axis in (-1, len(inputs[0].shape) - 1):
        part = layer_part(keras.layers.Activation, step.name, activation="softmax")
    elif kind == "LeakyRelu":
        part = layer_part(keras.layers.LeakyReLU, step.name, negative_slope=step.operation.negative_slope)
    elif kind in _POOLING and len(inputs[0].shape) == 4 and _axes(step.operation.axis) == (1, 2):
        part = layer_part(_POOLING[kind], step.name, keepdims=bool(step.operation.keepdims))
    elif kind == "Concatenate" and step.operation.axis in (-1, len(step.output.shape) - 1) and len(inputs) > 1:
        part = layer_part(keras.layers.Concatenate, step.name)
        step.arguments, step.keywords = (inputs,), {}
    elif kind == "Reshape" and None not in step.output.shape[1:] and len(step.output.shape) > 1:
        part = layer_part(keras.layers.Reshape, step.name, target_shape=step.output.shape[1:])
    elif kind == "Transpose" and (axes := _axes(step.operation.axes))[:1] == (0,):
        part = layer_part(keras.layers.Permute, step.name, dims=axes[1:])
    if part is not None:
        step.operation = part
        if len(inputs) == 1:
            step.arguments, step.keywords = (inputs[0],), {}


def _affine_constants(step: Step) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Read a bare operation of a tensor and a constant as y = scale * x + offset; None when it is something else."""
    kind, inputs, one, zero = type(step.operation).__name__, step.inputs, np.ones(1), np.zeros(1)
    if len(inputs) != 1:
        return None
    if kind == "Negative":
        return -one, zero
    arguments = [*step.arguments, *step.keywords.values()]
    if kind not in ("Add", "Subtract", "Multiply", "Divide", "TrueDivide") or len(arguments) != 2:
        return None
    first = arguments[0] is inputs[0]
    constant = _per_channel(arguments[1 if first else 0], inputs[0])
    if constant is None:
        return None
    match kind:
        case "Add":
            return one, constant
        case "Multiply":
            return constant, zero
        case "Subtract":
            return (one, -constant) if first else (-one, constant)
        case _:
            return (1 / constant, zero) if first and constant.all() else None


def _per_channel(value: Any, tensor: Value) -> NDArray[np.float64] | None:
    """Return a constant as one number `(1,)` or as one per channel `(c,)`; None when it is neither."""
    array = np.asarray(value, np.float64)
    channels = array.shape[-1] if array.ndim else 1
    if array.size != channels or array.ndim > len(tensor.shape) or channels not in (1, tensor.shape[-1]):
        return None
    return array.reshape(-1)


def _listed(values: NDArray[np.float64]) -> Any:
    return float(values[0]) if values.size == 1 else values.tolist()


def _axes(axes: Any) -> tuple[int, ...]:
    return () if axes is None else tuple(axes) if isinstance(axes, list | tuple) else (axes,)


def _join_stacked_channels(graph: Graph, stack: Step) -> None:
    """Let channels that are taken out one by one and stacked in another order be one step that turns them round."""
    if type(stack.operation).__name__ != "Stack" or len(stack.output.shape) != 4:
        return
    channels = stack.output.shape[-1]
    if stack.operation.axis not in (-1, 3) or len(stack.inputs) != channels:
        return
    taken = [graph.producer(value) for value in stack.inputs]
    keys = [None if step is None else item_key(step) for step in taken]
    source = taken[0].inputs[0] if taken[0] is not None and keys[0] is not None else None
    reversed_channels = [(Ellipsis, channels - 1 - i) for i in range(channels)]
    if source is None or keys != reversed_channels or source.shape[-1] != channels:
        return
    if any(step is None or step.inputs[0] is not source for step in taken):
        return
    stack.operation = keras.ops.flip  # named by what it does; `is_channel_flip` knows it
    stack.arguments, stack.keywords = (source,), {"axis": -1}
    for step in taken:
        if step is not None and not graph.consumers(step.output):
            graph.steps.remove(step)


def item_key(step: Step) -> tuple[Any, ...] | None:
    """Return what a step takes out of a tensor, as in `tensor[key]`; None when it is something else."""
    if type(step.operation).__name__ != "GetItem":
        return None
    key = step.arguments[1] if len(step.arguments) > 1 else step.keywords.get("key")
    return tuple(key) if isinstance(key, tuple | list) else (key,)  # a list where it comes from a file


def is_channel_flip(step: Step) -> bool:
    """True for a step that turns the channels of a picture round, as `x[..., ::-1]` does."""
    if len(step.output.shape) != 4:
        return False
    if step.operation is keras.ops.flip:
        return True
    if type(step.operation).__name__ == "Flip":
        return step.operation.axis in (-1, 3)
    *before, last = item_key(step) or (None,)
    untouched = before == [Ellipsis] or (len(before) == 3 and all(part == slice(None) for part in before))
    return bool(untouched and last == slice(None, None, -1))


def _is_idle(step: Step) -> bool:
    """True for layers that pass their input through at inference; layers of others say so by `training_only = True`.

    Those that do something in training only are found by what they do, and not by their names: they are called with
    training=False on values of all sizes and must give them back.
    """
    part = step.operation
    if not isinstance(part, Part) or len(step.inputs) != 1:
        return False
    if part.kind in _IDLE or getattr(part.kind, "training_only", False):
        return True
    if part.kind is keras.layers.Activation:
        return bool(activation_of(part.config) == "linear")
    layer, value = part.original, step.inputs[0]
    takes_training = layer is not None and "training" in inspect.signature(layer.call).parameters
    if not takes_training or isinstance(layer, keras.Model) or layer.trainable_variables or step.output.shape != value.shape:
        return False
    return _gives_back(layer, tuple(side or 8 for side in value.shape[1:]))


def _gives_back(layer: keras.Layer, shape: tuple[int, ...]) -> bool:
    random = np.random.default_rng(0)
    signed = random.normal(0, 1, (2, *shape)) * 10.0 ** random.integers(-3, 3, (2, *shape))
    pixels = random.integers(0, 256, (2, *shape))
    for values in (signed.astype(layer.compute_dtype), pixels.astype(layer.compute_dtype)):
        try:
            given = np.asarray(layer(values, training=False))
        except Exception:  # a layer of anybody's that does not take this is not an idle one
            return False
        if given.shape != values.shape or not np.array_equal(given, values):
            return False
    return True


def _split(graph: Graph, step: Step) -> None:
    """Replace a layer that no runtime has as one operator by those that it consists of."""
    if step.operation.kind is keras.layers.SeparableConv2D:
        _split_separable(graph, step)
    _dense_as_pointwise(step)
    _split_activation(graph, step)
    part = step.operation
    if part.kind is keras.layers.Average:
        _split_average(graph, step)
    elif part.kind is keras.layers.Activation and activation_of(part.config) == "silu":
        _split_silu(graph, step)
    elif part.kind is keras.layers.Activation and activation_of(part.config) == "hard_sigmoid":
        _split_hard_sigmoid(graph, step)


def _dense_as_pointwise(step: Step) -> None:
    """Call a dense layer over a picture's channels the 1 x 1 convolution that it is: converters have an operator for that."""
    part = step.operation
    if part.kind is keras.layers.Dense and len(step.output.shape) == 4:
        config = {key: part.config[key] for key in ("name", "activation", "use_bias", "dtype")}
        config |= {"filters": part.config["units"], "kernel_size": 1}
        weights = [part.weights[0][None, None], *part.weights[1:]]
        step.operation = Part(keras.layers.Conv2D, config, weights, part.original)


def _split_separable(graph: Graph, step: Step) -> None:
    """Put a depthwise convolution before the step and make the step its pointwise half."""
    whole = step.operation
    config, shared = whole.config, ("strides", "padding", "data_format", "dilation_rate", "dtype")
    depthwise = {key: config[key] for key in shared} | {
        "name": f"{whole.name}_depthwise",
        "kernel_size": config["kernel_size"],
        "depth_multiplier": config["depth_multiplier"],
        "use_bias": False,
        "activation": "linear",
    }
    first = Part(keras.layers.DepthwiseConv2D, depthwise, whole.weights[:1], whole.original)
    pointwise = {key: config[key] for key in ("name", "data_format", "dtype", "filters", "activation", "use_bias")}
    step.operation = Part(keras.layers.Conv2D, pointwise | {"kernel_size": 1}, whole.weights[1:], whole.original)
    graph.insert_before(step, first, first.name)


def _split_activation(graph: Graph, step: Step) -> None:
    """Make an activation that no runtime fuses a step of its own."""
    part = step.operation
    if part.kind not in LINEAR or activation_of(part.config) in FUSED_ACTIVATIONS:
        return
    config = part.config | {"name": f"{part.name}_linear", "activation": "linear"}
    graph.insert_before(step, Part(part.kind, config, part.weights, part.original), config["name"])
    activation = {"name": part.name, "activation": part.config["activation"], "dtype": "float32"}
    step.operation = Part(keras.layers.Activation, activation, [], part.original)
    step.arguments, step.keywords = (step.inputs[0],), {}


def _split_average(graph: Graph, step: Step) -> None:
    """Average = the sum, divided by the count."""
    count, name = len(step.inputs), step.name
    total = Value(step.output.shape)
    graph.steps.insert(
        graph.steps.index(step),
        Step(layer_part(keras.layers.Add, f"{name}_sum"), (step.inputs,), {}, [total], f"{name}_sum"),
    )
    step.operation = layer_part(keras.layers.Rescaling, name, scale=1 / count, offset=0.0)
    step.arguments, step.keywords = (total,), {}


def _split_silu(graph: Graph, step: Step) -> None:
    """SiLU (swish) = x * sigmoid(x)."""
    (value,) = step.inputs
    gate = graph.insert_before(step, layer_part(keras.layers.Activation, f"{step.name}_gate", activation="sigmoid"), "")
    gate.name = gate.operation.name
    step.operation = layer_part(keras.layers.Multiply, step.name)
    step.arguments, step.keywords = ([value, gate.output],), {}


def _split_hard_sigmoid(graph: Graph, step: Step) -> None:
    """Hard sigmoid = x / 6 + 1/2, between 0 and 1 (Howard et al., ICCV 2019, section 5.2)."""
    name = f"{step.name}_line"
    graph.insert_before(step, layer_part(keras.layers.Rescaling, name, scale=1 / 6, offset=0.5), name)
    step.operation = layer_part(keras.layers.ReLU, step.name, max_value=1.0, negative_slope=0.0, threshold=0.0)


def _sigmoid_as_softmax(graph: Graph, step: Step) -> None:
    """Let 1 - p and p behind a sigmoid be the softmax of 0 and its logit: quantized as well as that of other classifiers."""
    part, before = step.operation, graph.producer(step.inputs[0]) if len(step.inputs) == 1 else None
    if not isinstance(part, Part) or part.config.get("name") != TWO_CLASSES or before is None:
        return
    gate = before.operation
    is_sigmoid = isinstance(gate, Part) and gate.kind is keras.layers.Activation and activation_of(gate.config) == "sigmoid"
    if not is_sigmoid or graph.only_consumer(before.output) is not step or part.weights[1][0] != 1:
        return
    weights = [np.array([[0.0, 1.0]], np.float32), np.zeros(2, np.float32)]
    before.operation, before.name = Part(part.kind, part.config, weights, part.original), step.name
    before.output.shape, before.output.origin = step.output.shape, None
    step.operation = layer_part(keras.layers.Activation, "probabilities", activation="softmax")
    step.name = "probabilities"
