"""Which layer a converter stumbles over: each is converted by itself, since converters seldom say."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from edgecnn.errors import ConversionError
from edgecnn_export.conversion.annotation import is_known
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Step


def find_culprit(folded: Folded, convert: Callable[[Folded], Any]) -> str | None:
    """Return the name of the first layer of a folded model that `convert` refuses by itself.

    None when each can be converted alone, or when the model's layers cannot be seen. Unusual layers are tried first, and of
    layers that differ in their weights only the first.
    """
    tried: list[Any] = []
    for step in sorted(folded.steps, key=is_known):
        sort = _sort(step)
        if sort in tried:
            continue
        tried.append(sort)
        try:
            convert(Folded.of(_alone(step)))
        except ConversionError:
            return step.name
        except (TypeError, ValueError, NotImplementedError):
            continue  # a step that cannot stand alone
    return None


def _sort(step: Step) -> Any:
    """Return what two steps have in common that differ in their weights only."""
    layer = step.operation
    config = layer.get_config() if isinstance(layer, keras.Layer) else vars(layer)
    kept = {key: repr(value) for key, value in config.items() if key != "name" and not key.startswith("_")}
    return type(layer), kept, [value.shape for value in step.inputs]


def _alone(step: Step) -> keras.Model:
    """Make a classifier of one step, whose inputs it cuts out of one row of pixels."""
    shapes = [tuple(side or 1 for side in value.shape[1:]) for value in step.inputs]
    if len(shapes) == 1:
        image = keras.Input(shapes[0])
        pieces = [image]
    else:
        ends = [sum(math.prod(shape) for shape in shapes[: i + 1]) for i in range(len(shapes))]
        image = keras.Input((ends[-1],))
        pieces = [
            keras.layers.Reshape(shape)(image[:, end - math.prod(shape) : end]) for shape, end in zip(shapes, ends, strict=True)
        ]
    known = {id(value): piece for value, piece in zip(step.inputs, pieces, strict=True)}
    arguments, keywords = keras.tree.map_structure(lambda leaf: known.get(id(leaf), leaf), (step.arguments, step.keywords))
    result = keras.tree.flatten(step.operation(*arguments, **keywords))[0]
    scores = keras.layers.Dense(2)(keras.layers.Flatten()(result))
    return keras.Model(image, keras.layers.Activation("softmax")(scores))
