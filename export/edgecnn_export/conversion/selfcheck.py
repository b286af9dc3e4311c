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


def check_same(original: Graph, folded: Graph, name: str) -> None:
    """Compare a model's graph with its folded one, whose steps call built layers, on pictures of noise and of extremes.

    Scores before the last activation are compared too: behind a softmax that is sure of itself nothing shows.
    Raises ConversionError that names the first layer whose output differs, or is not finite.
    """
    images = _images(original.input)
    values, taken = _run(original, images), _run(folded, images)
    for end in (original.output, *_scores(original)):
        if end.origin is None or end.origin not in values:
            continue
        if not np.isfinite(values[end.origin]).all():
            raise ConversionError(_not_finite(original, values, name))
        if end.origin in taken and not _same(values[end.origin], taken[end.origin], original):
            raise ConversionError(_difference(original, values, taken, name))


def _images(value: Value) -> NDArray[np.float32]:
    batch, *sides = value.shape
    shape, random = tuple(side or 32 for side in sides), np.random.default_rng(0)
    images = [random.integers(0, 256, shape), np.zeros(shape), np.full(shape, 255), random.integers(0, 64, shape)]
    return np.stack([images[i % len(images)] for i in range(batch or len(images))]).astype(np.float32)


def _run(graph: Graph, images: NDArray[np.float32]) -> dict[int, NDArray[Any]]:
    """Run a graph and return its tensors by their origin."""
    values: dict[int, NDArray[Any]] = {}

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        results = step.operation(*arguments, **keywords)
        for value, result in zip(step.outputs, keras.tree.flatten(results), strict=True):
            if value.origin is not None:
                values[value.origin] = keras.ops.convert_to_numpy(result)
        return results

    graph.run(keras.ops.convert_to_tensor(images), call)
    return values


def _scores(graph: Graph) -> list[Value]:
    last = graph.producer(graph.output)
    return last.inputs if last is not None and isinstance(last.operation, _ENDINGS) else []


def _same(expected: NDArray[Any], found: NDArray[Any], original: Graph) -> bool:
    if expected.shape != found.shape or not np.isfinite(found).all():
        return False
    low = any(getattr(step.operation, "compute_dtype", "float32") in ("float16", "bfloat16") for step in original.steps)
    tolerance = _LOW_PRECISION_TOLERANCE if low else _TOLERANCE
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    return bool(np.abs(expected - found).max(initial=0) <= tolerance * max(1.0, np.abs(expected).max(initial=0)))


def _difference(original: Graph, values: dict[int, Any], taken: dict[int, Any], name: str) -> str:
    for step in original.steps:
        origin = step.output.origin
        if origin is not None and origin in taken and not _same(values[origin], taken[origin], original):
            kind = type(step.operation).__name__
            return (
                f"layer {step.name!r} ({kind}) answers otherwise once it is taken out of model {name!r}: it holds something "
                "beyond its configuration and weights, which an exported file would lose; replace the layer"
            )
    return f"model {name!r} answers otherwise once it is folded; one of its layers holds something beyond its weights"


def _not_finite(original: Graph, values: dict[int, Any], name: str) -> str:
    for step in original.steps:
        origin = step.output.origin
        if origin is not None and not np.isfinite(values[origin]).all():
            return f"layer {step.name!r} of model {name!r} gives answers that are no numbers (NaN or infinite); train it again"
    return f"model {name!r} gives answers that are no numbers"
