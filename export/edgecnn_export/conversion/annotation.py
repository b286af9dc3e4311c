"""Annotation of a folded model: which layers' outputs get a range, which keep their input's, and which are fixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import keras

from edgecnn_export.conversion.graph import Graph, Step, Value

INPUT = "input"
# Scales that TFLite prescribes: 1/256 from 0 for probabilities, 1/128 around 0 for tanh (LiteRT 8-bit quantization spec).
PROBABILITY_RANGE = (0.0, 255 / 256)
TANH_RANGE = (-1.0, 127 / 128)
PIXEL_RANGE = (0.0, 255.0)
_ACTIVATIONS = {
    "relu": None,
    "relu6": None,
    "leaky_relu": None,
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
# Both formats have an integer operator of these.
_MEASURED = (
    keras.layers.Add,
    keras.layers.Concatenate,
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.LeakyReLU,
    keras.layers.Maximum,
    keras.layers.Minimum,
    keras.layers.Multiply,
    keras.layers.Subtract,
)
# Their weights of two axes and more may stay floats where one format has no integer operator of the layer.
_SEMI_INTEGER = (keras.layers.Conv2DTranspose, keras.layers.PReLU)
_JOINING = (keras.layers.Concatenate, keras.layers.Maximum, keras.layers.Minimum)
_FUSING = (keras.layers.Conv2D, keras.layers.Dense, keras.layers.DepthwiseConv2D, keras.layers.Add)


@dataclass(frozen=True)
class Annotation:
    """Layers of a folded model, by name, whose output is quantized: with a measured range, or with a fixed one.

    `islands` are those of the measured ones that a format may have no integer operator for: they compute in floats there,
    between quantized tensors. `alike` are groups that must have one range in common: their integers are compared or lined up
    as they are, and left to itself TFLite's converter takes the range of one of them for all, so that the others saturate.
    """

    measured: tuple[str, ...]
    fixed: dict[str, tuple[float, float]]
    islands: tuple[str, ...] = ()
    alike: tuple[frozenset[str], ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.measured or name in self.fixed

    def limits(self, ranges: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Return the range that each tensor is rounded to, given the measured ones."""
        limits = {**self.fixed, **ranges}
        for group in self.alike:
            lows, highs = zip(*(limits[name] for name in group), strict=True)
            limits |= dict.fromkeys(group, (min(lows), max(highs)))
        return limits


def annotate(graph: Graph) -> Annotation | None:
    """Find the quantized tensors of a folded model's graph.

    None when it has a layer with a kernel of which it isn't known how it quantizes, or one that gives something else than one
    tensor of floats.
    """
    measured: list[str] = []
    islands: list[str] = []
    fixed: dict[str, tuple[float, float]] = {}
    for step in graph.steps:
        known = is_known(step)
        if not known and not _can_be_island(step):
            return None
        if isinstance(step.operation, _KEEPING) or _is_fused(graph, step):
            continue
        if (limits := _fixed_range(step)) is not None:
            fixed[step.name] = limits
        elif step.name not in measured:
            measured.append(step.name)
            islands += [] if known else [step.name]
    groups = _groups(graph)
    if any(INPUT in group for group in groups):
        return None
    return Annotation(tuple(measured), fixed, tuple(islands), groups)


def _groups(graph: Graph) -> tuple[frozenset[str], ...]:
    """Find what is joined, directly or in a chain; layers that keep their input's range stand for what gives it."""
    groups: list[frozenset[str]] = []
    for step in graph.steps:
        if isinstance(step.operation, _JOINING):
            group = frozenset({step.name, *(_range_giver(graph, value) for value in step.inputs)})
            touching = [each for each in groups if each & group]
            groups = [each for each in groups if each not in touching] + [group.union(*touching)]
    return tuple(groups)


def _range_giver(graph: Graph, value: Value) -> str:
    step = graph.producer(value)
    while step is not None and isinstance(step.operation, _KEEPING):
        step = graph.producer(step.inputs[0])
    return INPUT if step is None else step.name


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


def is_known(step: Step) -> bool:
    """True for a layer that both formats have an integer operator of, and that is quantized as is known here."""
    layer = step.operation
    if isinstance(layer, keras.layers.ReLU):
        return not layer.threshold and (layer.max_value is None or not layer.negative_slope)
    if isinstance(layer, keras.layers.Softmax):
        return layer.axis in (-1, len(step.output.shape) - 1) and len(step.inputs) == 1
    if isinstance(layer, keras.layers.Activation):
        return _activation(layer) in _ACTIVATIONS
    if type(layer) is keras.layers.Dense and len(step.output.shape) != 2:
        return False
    if type(layer) in (keras.layers.Conv2D, keras.layers.Dense, keras.layers.DepthwiseConv2D):
        return _activation(layer) in ("linear", "relu", "relu6")
    return type(layer) in _KEEPING + _MEASURED


def _can_be_island(step: Step) -> bool:
    """True for a layer whose inside may compute in floats: it has no kernel worth quantizing."""
    layer = step.operation
    if len(step.outputs) != 1 or step.output.dtype != "float32" or not type(layer).__module__.startswith("keras."):
        return False  # the last: a stranger's layer may hold anything
    weights = layer.weights if isinstance(layer, keras.Layer) else []
    return isinstance(layer, _SEMI_INTEGER) or all(len(weight.shape) < 2 for weight in weights)


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
        return not layer.negative_slope and not layer.threshold
    return isinstance(layer, keras.layers.Activation) and _activation(layer) in ("relu", "relu6")


def _fixed_range(step: Step) -> tuple[float, float] | None:
    if isinstance(step.operation, keras.layers.Softmax):
        return PROBABILITY_RANGE
    return _ACTIVATIONS.get(_activation(step.operation)) if isinstance(step.operation, keras.layers.Activation) else None
