"""Where a folded model is quantized: which layers' outputs get a range, which keep their input's, and which are fixed."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from edgecnn_export.conversion.graph import Graph, Step, has_graph, read_graph

INPUT = "input"
# Scales that TFLite prescribes: 1/256 from 0 for probabilities, 1/128 around 0 for tanh (LiteRT 8-bit quantization spec).
PROBABILITY_RANGE = (0.0, 255 / 256)
TANH_RANGE = (-1.0, 127 / 128)
PIXEL_RANGE = (0.0, 255.0)
_ACTIVATIONS = {
    "relu": None,
    "relu6": None,
    "softmax": PROBABILITY_RANGE,
    "sigmoid": PROBABILITY_RANGE,
    "tanh": TANH_RANGE,
}
# These only choose among their input's values, rearrange them or add zeros: one scale before and behind.
_KEEPING = (
    keras.layers.AveragePooling2D,
    keras.layers.Cropping2D,
    keras.layers.Flatten,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.Identity,
    keras.layers.MaxPooling2D,
    keras.layers.Permute,
    keras.layers.Reshape,
    keras.layers.ZeroPadding2D,
)
_MEASURED = (
    keras.layers.Add,
    keras.layers.Concatenate,
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.LeakyReLU,
    keras.layers.Multiply,
    keras.layers.Subtract,
)
_FUSING = (keras.layers.Conv2D, keras.layers.Dense, keras.layers.DepthwiseConv2D, keras.layers.Add)


@dataclass(frozen=True)
class Placement:
    """Layers of a folded model, by name, whose output is quantized: with a measured range, or with a fixed one."""

    measured: tuple[str, ...]
    fixed: dict[str, tuple[float, float]]

    def __contains__(self, name: str) -> bool:
        return name in self.measured or name in self.fixed


def place(model: keras.Model) -> Placement | None:
    """Find the quantized tensors of a folded model; None when it has a layer of which it isn't known how it quantizes."""
    if not has_graph(model):
        return None
    graph = read_graph(model)
    measured: list[str] = []
    fixed: dict[str, tuple[float, float]] = {}
    for step in graph.steps:
        if not _is_known(step):
            return None
        if isinstance(step.operation, _KEEPING) or _is_fused(graph, step):
            continue
        if (limits := _fixed_range(step)) is not None:
            fixed[step.name] = limits
        elif step.name not in measured:
            measured.append(step.name)
    return Placement(tuple(measured), fixed)


def end_layers(graph: Graph) -> list[str]:
    """Name the last activation and the steps before it down to the last layer with weights."""
    names = [graph.steps[-1].name]
    for step in reversed(graph.steps[:-1]):
        if not isinstance(graph.steps[-1].operation, keras.layers.Activation | keras.layers.Softmax):
            break
        names.append(step.name)
        if not isinstance(step.operation, keras.layers.Flatten | keras.layers.Reshape):
            break
    return names


def start_layers(graph: Graph) -> list[str]:
    """Name the steps from the pixels to the first convolution that looks at more than one of them, in order.

    Empty when they are no chain: the pixels then go into several layers.
    """
    names, value = list[str](), graph.input
    while (step := graph.only_consumer(value)) is not None:
        names.append(step.name)
        kernel = getattr(step.operation, "kernel", None)
        if kernel is not None and (len(kernel.shape) == 2 or tuple(kernel.shape[:2]) != (1, 1)):
            return names
        value = step.output
    return []


def _is_known(step: Step) -> bool:
    layer = step.operation
    if isinstance(layer, keras.layers.ReLU):
        return not layer.threshold and layer.max_value in (None, 6)
    if isinstance(layer, keras.layers.Softmax):
        return layer.axis in (-1, len(step.output.shape) - 1) and len(step.inputs) == 1
    if isinstance(layer, keras.layers.Activation):
        return _activation(layer) in _ACTIVATIONS
    if type(layer) is keras.layers.Dense and len(step.output.shape) != 2:
        return False
    if type(layer) in (keras.layers.Conv2D, keras.layers.Dense, keras.layers.DepthwiseConv2D):
        return _activation(layer) in ("linear", "relu", "relu6")
    return type(layer) in _KEEPING + _MEASURED


def _activation(layer: keras.Layer) -> str:
    name = keras.activations.serialize(layer.activation)
    return name if isinstance(name, str) else "custom"


def _is_fused(graph: Graph, step: Step) -> bool:
    """True for a linear layer whose ReLU the converters fuse: only what the ReLU lets through needs a range."""
    follower = graph.only_consumer(step.output)
    if follower is None or type(step.operation) not in _FUSING:
        return False
    layer = follower.operation
    if isinstance(layer, keras.layers.ReLU):
        return not layer.negative_slope
    return isinstance(layer, keras.layers.Activation) and _activation(layer) in ("relu", "relu6")


def _fixed_range(step: Step) -> tuple[float, float] | None:
    if isinstance(step.operation, keras.layers.Softmax):
        return PROBABILITY_RANGE
    return _ACTIVATIONS[_activation(step.operation)] if isinstance(step.operation, keras.layers.Activation) else None
