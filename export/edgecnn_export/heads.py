"""The end of another tool's Keras model: its last activation, and the layers that make probabilities `(n, classes)` of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.endings import TWO_CLASSES, Ending, Head

if TYPE_CHECKING:
    import keras


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


def last_activation(model: keras.Model) -> str | None:
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
