"""Whether a folded graph still answers as the model that it came from, and if not, from which layer on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ConversionError
from edgecnn_export.conversion.graph import Graph, Step, Value

# Of the largest value. Sums in another order differ by 1e-5 in networks of a hundred layers; a lost constant by far more.
_TOLERANCE, _LOW_PRECISION_TOLERANCE = 1e-3, 3e-2
_ENDINGS = (keras.layers.Activation, keras.layers.Softmax)
Values = dict[int, NDArray[Any]]


def check_same(original: Graph, folded: Graph, name: str) -> None:
    """Compare a model's graph with its folded one, whose steps call built layers, on pictures of noise and of extremes.

    Scores before the last activation are compared too: behind a softmax that is sure of itself nothing shows. Where they
    differ, each step is given what it got in the model: a network may enlarge the last bits of its sums without end, so that
    only a step that differs by itself is to blame. Raises ConversionError that names it, or a layer that gives no numbers.
    """
    images = _images(original.input)
    values, taken = _run(original, images), _run(folded, images)
    ends = [end for end in (original.output, *_scores(original)) if end.origin in values]
    if any(not np.isfinite(values[_origin(end)]).all() for end in ends):
        raise ConversionError(_not_finite(original, values, name))
    tolerance = _LOW_PRECISION_TOLERANCE if _is_low(original) else _TOLERANCE
    if all(_same(values[_origin(end)], taken.get(_origin(end)), tolerance) for end in ends if end.origin in taken):
        return
    if (odd := _differing_alone(folded, images, values, tolerance)) is not None:
        layer = next(step for step in original.steps if step.output.origin == odd)
        raise ConversionError(
            f"layer {layer.name!r} ({type(layer.operation).__name__}) answers differently once it is taken out of model "
            f"{name!r}: it holds something beyond its configuration and weights, which an exported file would lose; "
            "replace the layer"
        )


def _images(value: Value) -> NDArray[np.float32]:
    batch, *sides = value.shape
    shape, random = tuple(side or 32 for side in sides), np.random.default_rng(0)
    images = [random.integers(0, 256, shape), np.zeros(shape), np.full(shape, 255), random.integers(0, 64, shape)]
    return np.stack([images[i % len(images)] for i in range(batch or len(images))]).astype(np.float32)


def _run(graph: Graph, images: NDArray[np.float32]) -> Values:
    """Run a graph and return its tensors by their origin, the pictures among them."""
    values: Values = {} if graph.input.origin is None else {graph.input.origin: images}

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        results = step.operation(*arguments, **keywords)
        for value, result in zip(step.outputs, keras.tree.flatten(results), strict=True):
            if value.origin is not None:
                values[value.origin] = keras.ops.convert_to_numpy(result)
        return results

    graph.run(keras.ops.convert_to_tensor(images), call)
    return values


def _differing_alone(folded: Graph, images: NDArray[np.float32], values: Values, tolerance: float) -> int | None:
    """Run a folded graph, each step on what the model's tensors are where they are known; the first that then differs."""
    odd: list[int] = []

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        results = step.operation(*arguments, **keywords)
        origin = step.output.origin
        if origin is None or origin not in values:
            return results
        if not _same(values[origin], keras.ops.convert_to_numpy(keras.tree.flatten(results)[0]), tolerance):
            odd.append(origin)
        return keras.ops.convert_to_tensor(values[origin]) if len(step.outputs) == 1 else results

    folded.run(keras.ops.convert_to_tensor(images), call)
    return odd[0] if odd else None


def _scores(graph: Graph) -> list[Value]:
    last = graph.producer(graph.output)
    return last.inputs if last is not None and isinstance(last.operation, _ENDINGS) else []


def _origin(value: Value) -> int:
    assert value.origin is not None
    return value.origin


def _is_low(graph: Graph) -> bool:
    return any(getattr(step.operation, "compute_dtype", "float32") in ("float16", "bfloat16") for step in graph.steps)


def _same(expected: NDArray[Any], found: NDArray[Any] | None, tolerance: float) -> bool:
    if found is None or expected.shape != found.shape or not np.isfinite(found).all():
        return False
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    return bool(np.abs(expected - found).max(initial=0) <= tolerance * max(1.0, np.abs(expected).max(initial=0)))


def _not_finite(original: Graph, values: Values, name: str) -> str:
    for step in original.steps:
        if step.output.origin in values and not np.isfinite(values[_origin(step.output)]).all():
            return f"layer {step.name!r} of model {name!r} gives answers that are not numbers (NaN or infinite); train it again"
    return f"model {name!r} gives answers that are not numbers"
