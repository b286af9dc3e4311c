"""The end of another tool's model: what it gives, and the layers that make probabilities `(n, classes)` of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError

if TYPE_CHECKING:
    import keras

# The layer that makes 1 - p and p of p; folding knows it by this name.
TWO_CLASSES = "two_classes"
Head = Literal["probabilities", "logits", "probability", "logit", "independent"]


@dataclass(frozen=True)
class Ending:
    """What a model gives: `head` says what its numbers are, `note` what is done about it, None where nothing is."""

    head: Head
    note: str | None = None


def find_ending(model: keras.Model, scores: NDArray[np.float32], labels: tuple[str, ...]) -> Ending:
    """Tell what a model of one output `(n, k)` gives, by its last activation where it can be seen and by `scores` of pictures.

    Raises InputError when those can be no probabilities of `labels`, nor be turned into them.
    """
    outputs, last = scores.shape[1], _last_activation(model)
    within = bool((scores >= -1e-6).all() and (scores <= 1 + 1e-6).all())
    if outputs == 1 and len(labels) == 2:
        if last == "sigmoid" or (last is None and within):
            return Ending("probability", f"its one output is taken for the probability of {labels[1]} (the second label)")
        if last in ("linear", None):
            return Ending(
                "logit", f"its one output is taken for the logit of {labels[1]} (the second label): a sigmoid follows"
            )
    if outputs != len(labels):
        given = "1 output, which serves two classes," if outputs == 1 else f"{outputs} classes,"
        raise InputError(f"it has {given} but {len(labels)} labels: {', '.join(labels)}")
    if np.allclose(scores.sum(axis=1), 1, atol=1e-3) and within:
        return Ending("probabilities")
    if last == "sigmoid" or (within and last != "linear"):
        raise InputError(
            "it gives each class a probability of its own (sigmoid), so that several may be true at once; "
            "end the model in a softmax: exactly one class is true here"
        )
    return Ending("logits", "its outputs are no probabilities but logits: a softmax follows")


def ended(model: keras.Model, ending: Ending) -> keras.Model:
    """Put the layers behind a model that make probabilities of what it gives; weights are shared."""
    import keras

    if ending.head == "probabilities":
        return model
    scores = model.outputs[0] if ending.head == "logits" else two_classes(ending.head)(model.outputs[0])
    if ending.head != "probability":
        scores = keras.layers.Activation("softmax", name="probabilities")(scores)
    return keras.Model(model.inputs[0], scores, name=model.name)


def two_classes(head: Head) -> keras.Layer:
    """Make the layer that turns a probability p into 1 - p and p, or a logit z into 0 and z: softmax then gives the same."""
    import keras

    layer = keras.layers.Dense(2, name=TWO_CLASSES, trainable=False)
    layer.build((None, 1))
    kernel, bias = ([[-1.0, 1.0]], [1.0, 0.0]) if head == "probability" else ([[0.0, 1.0]], [0.0, 0.0])
    layer.set_weights([np.array(kernel, np.float32), np.array(bias, np.float32)])
    return layer


def _last_activation(model: keras.Model) -> str | None:
    """Name the activation that a model ends in: `softmax`, `sigmoid`, `linear`; None where it can't be seen or is another."""
    import keras

    from edgecnn_export.conversion.graph import has_graph, read_graph

    if not has_graph(model):
        return None
    graph = read_graph(model)
    step = graph.producer(graph.output)
    passing = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.Identity, keras.layers.Dropout)
    while step is not None and (
        isinstance(step.operation, passing) or (_activation(step.operation) == "linear" and not _weighted(step))
    ):
        step = graph.producer(step.inputs[0])
    if step is None:
        return None
    return _activation(step.operation)


def _activation(operation: Any) -> str | None:
    import keras

    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    if not isinstance(operation, keras.Layer):
        return {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(type(operation).__name__)
    activation = getattr(operation, "activation", None)
    name = None if activation is None else keras.activations.serialize(activation)
    return name if name in ("softmax", "sigmoid", "linear") else None


def _weighted(step: Any) -> bool:
    return bool(getattr(step.operation, "weights", ()))
