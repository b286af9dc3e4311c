"""From a folded Keras model to ONNX, float32 and int8, with a dynamic batch and raw pixels in."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from numpy.typing import NDArray

from edgecnn.errors import ConversionError
from edgecnn.quiet import quiet
from edgecnn_export.conversion.annotation import INPUT, end_layers, start_layers
from edgecnn_export.conversion.calibration import Ranges
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Graph
from edgecnn_export.conversion.onnx_edit import tidy
from edgecnn_export.conversion.onnx_quantize import quantize_weights
from edgecnn_export.conversion.serving import INPUT_NAME, Serving, serve, serve_quantized

OPSET = 18  # tf2onnx 1.17 refuses 19
_CATCH_ERRORS = "TF2ONNX_CATCH_ERRORS"


def to_onnx(folded: Folded) -> bytes:
    """Convert to float32 ONNX: uint8 pixels `(batch, h, w, c)` in, one Cast, probabilities `(batch, classes)` out."""
    return _serialized(tidy(_convert(serve(folded), folded)))


def to_int8_onnx(folded: Folded, ranges: Ranges) -> bytes:
    """Convert to int8 ONNX in QDQ form by ranges (see `annotation`); the last layer gives floats, softmax runs on floats."""
    _, annotation = folded.annotated()
    rounded = _convert(serve_quantized(folded, ranges, to_the_end=False), folded)
    return _serialized(quantize_weights(tidy(rounded), islands=bool(annotation.islands)))


def to_mixed_onnx(folded: Folded, ranges: Ranges, *, float_start: bool) -> bytes:
    """Convert to int8 ONNX whose last layer keeps float weights, with `float_start` those up to the first convolution too."""
    graph, annotation = folded.annotated()
    start = start_layers(graph) if float_start else []
    end = end_layers(graph)
    unrounded = [*([INPUT] if start else []), *start[:-1], *_before(graph, end[-1]), *end]
    rounded = _convert(serve_quantized(folded, ranges, to_the_end=False, unrounded=unrounded), folded)
    return _serialized(quantize_weights(tidy(rounded), float_layers=1 + len(start), islands=bool(annotation.islands)))


def _before(graph: Graph, name: str) -> list[str]:
    """Name what gives the input of the last layer `name`: left float, its weights are left float too."""
    step = next(step for step in graph.steps if step.name == name)
    producers = [graph.producer(value) for value in step.inputs]
    return [producer.name for producer in producers if producer is not None]


def to_int8_onnx_by_pictures(float_onnx: bytes, images: NDArray[np.uint8]) -> bytes:
    """Quantize a model of which it isn't known where ranges go: ONNX Runtime's own calibration on images `(n, h, w, c)`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Pictures(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
        def __init__(self) -> None:
            self.batches: Iterator[NDArray[np.uint8]] = iter(images[at : at + 1] for at in range(len(images)))

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT_NAME: batch}

    with quiet(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            onnx.load_from_string(float_onnx),
            path,
            Pictures(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return path.read_bytes()


def _serialized(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model that is valid ONNX; ConversionError when it is not."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConversionError(f"tf2onnx cannot convert this model: it wrote invalid ONNX ({reason})") from error
    return bytes(model.SerializeToString(deterministic=True))


def _convert(serving: Serving, folded: Folded) -> onnx.ModelProto:
    signature = [tf.TensorSpec((None, *folded.model.input_shape[1:]), tf.uint8, name=INPUT_NAME)]
    try:
        with quiet():
            import tf2onnx

            convert = functools.partial(
                tf2onnx.convert.from_function, serving.answer, signature, opset=OPSET, custom_op_handlers=_HANDLERS
            )
            try:
                with _without_copies():
                    proto: Any = convert()[0]
            except Exception:  # of one optimizer: then it is to be left out
                proto = convert()[0]
    except Exception as error:  # tf2onnx raises what its rewriters happen to raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(f"tf2onnx cannot convert this model: {reason}") from error
    _freeze_captures(proto, serving.answer.get_concrete_function(*signature))
    if foreign := sorted({node.domain for node in proto.graph.node} - {""}):
        raise ConversionError(f"the ONNX model needs operators of {', '.join(foreign)}, which plain runtimes lack")
    return proto


@contextlib.contextmanager
def _without_copies() -> Iterator[None]:
    """Let tf2onnx not copy the graph before each of its optimizers, to go on without one that fails: a tenth of its time."""
    if _CATCH_ERRORS in os.environ:
        yield
        return
    os.environ[_CATCH_ERRORS] = "FALSE"
    try:
        yield
    finally:
        del os.environ[_CATCH_ERRORS]


def _erfc(context: Any, node: Any, *_: Any) -> None:
    """Erfc(x) = 1 - Erf(x)."""
    _from_one(context, node, "Erf", lambda erf, one: [one, erf])


def _expm1(context: Any, node: Any, *_: Any) -> None:
    """Expm1(x) = Exp(x) - 1."""
    _from_one(context, node, "Exp", lambda exp, one: [exp, one])


def _from_one(context: Any, node: Any, operator: str, order: Callable[[str, str], list[str]]) -> None:
    """Replace a node by `operator` and a subtraction from or of one."""
    inner = context.make_node(operator, list(node.input))
    one = context.make_const(f"{node.name}/one", np.ones((), np.float32))
    shapes, dtypes, outputs = node.output_shapes, node.output_dtypes, list(node.output)
    context.remove_node(node.name)
    context.make_node("Sub", order(inner.output[0], one.output[0]), outputs=outputs, shapes=shapes, dtypes=dtypes)


# TensorFlow operators that tf2onnx has no rule for, and that activations of Keras consist of.
_HANDLERS: dict[str, Any] = {"Erfc": (_erfc, []), "Expm1": (_expm1, [])}


def _freeze_captures(proto: onnx.ModelProto, concrete: Any) -> None:
    """Make a constant of each tensor that the function captured and tf2onnx took for an input."""
    captured = {inside.name: outside for outside, inside in concrete.graph.captures if outside.dtype != tf.resource}
    for tensor in list(proto.graph.input):
        if tensor.name in captured:
            constant = onnx.numpy_helper.from_array(np.asarray(captured[tensor.name]), tensor.name)
            proto.graph.initializer.append(constant)
            proto.graph.input.remove(tensor)
