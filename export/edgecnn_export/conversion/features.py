"""Features as a second output: what the last dense layer of a converted model looks at, named, not computed again.

A file ends in `features -> [mean over all places ->] dense layer -> softmax`. The tensor before the mean, or before the dense
layer where there is no mean, becomes the output behind the probabilities, and the dense layer's weights are returned, so that
a host can compute the answer from the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from edgecnn.artifacts.contract import TensorSpec
from edgecnn_export.conversion.onnx_edit import Editor, attribute
from edgecnn_export.conversion.tflite_edit import pack, unpack

FEATURES_NAME = "features"
_TFLITE_TYPES = {schema.TensorType.FLOAT32: "float32", schema.TensorType.INT8: "int8", schema.TensorType.INT16: "int16"}
_TFLITE_CONSTANTS = _TFLITE_TYPES | {schema.TensorType.INT32: "int32", schema.TensorType.INT64: "int64"}
_ONNX_TYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT8: "int8"}


@dataclass(frozen=True, eq=False)
class Featured:
    """A model with its features as second output.

    `features` is their tensor. `weights` `(d, classes)` and `bias` `(classes,)` float32 are of the dense layer behind them.
    """

    model: bytes
    features: TensorSpec
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


def name_features(model: bytes, file_format: str) -> Featured | None:
    """Name the features of a `.tflite` or `.onnx` as an output; None for one that ends in no dense layer with a softmax."""
    return _tflite(model) if file_format == "tflite" else _onnx(model)


def _tflite(model: bytes) -> Featured | None:
    parsed, codes = unpack(model)
    if len(parsed.subgraphs) != 1:
        return None
    (graph,) = parsed.subgraphs

    def giver(index: int, *kinds: int) -> Any:
        """Return the operator of one of these kinds that gives a tensor, stepping over those that only move it."""
        found = next((each for each in graph.operators if index in each.outputs), None)
        if found is None or codes[found.opcodeIndex] in kinds:
            return found
        moving = (schema.BuiltinOperator.RESHAPE, schema.BuiltinOperator.SQUEEZE)
        return giver(found.inputs[0], *kinds) if codes[found.opcodeIndex] in moving else None

    kinds = schema.BuiltinOperator
    softmax = giver(graph.outputs[0], kinds.SOFTMAX, kinds.DEQUANTIZE, kinds.QUANTIZE)
    while softmax is not None and codes[softmax.opcodeIndex] != kinds.SOFTMAX:
        softmax = giver(softmax.inputs[0], kinds.SOFTMAX, kinds.DEQUANTIZE, kinds.QUANTIZE)
    dense = None if softmax is None else giver(softmax.inputs[0], kinds.FULLY_CONNECTED)
    if dense is None or dense.builtinOptions.fusedActivationFunction != schema.ActivationFunctionType.NONE:
        return None
    weights = _tflite_constant(parsed, graph.tensors[dense.inputs[1]])
    if weights is None or softmax.builtinOptions.beta != 1.0:
        return None
    bias = _tflite_constant(parsed, graph.tensors[dense.inputs[2]]) if len(dense.inputs) > 2 and dense.inputs[2] >= 0 else None
    index = dense.inputs[0]
    mean = giver(index, kinds.MEAN)
    if mean is not None and _over_places(parsed, graph.tensors[mean.inputs[0]], graph.tensors[mean.inputs[1]]):
        index = mean.inputs[0]
    tensor = graph.tensors[index]
    if tensor.type not in _TFLITE_TYPES:
        return None
    shape = [int(side) for side in tensor.shape]
    if weights.shape[1] != shape[-1]:
        return None
    graph.outputs = [graph.outputs[0], index]
    for signature in parsed.signatureDefs or []:
        named = schema.TensorMapT()
        named.name, named.tensorIndex = FEATURES_NAME, index
        signature.outputs = [*signature.outputs, named]
    quantized = _TFLITE_TYPES[tensor.type] != "float32"
    spec = TensorSpec(
        tensor.name.decode(),
        _TFLITE_TYPES[tensor.type],
        (None, *shape[1:]),
        float(tensor.quantization.scale[0]) if quantized else None,
        int(tensor.quantization.zeroPoint[0]) if quantized else None,
    )
    bias = np.zeros(len(weights), np.float32) if bias is None else bias
    return Featured(pack(parsed), spec, np.ascontiguousarray(weights.T), bias)


def _over_places(parsed: Any, taken: Any, axes: Any) -> bool:
    """Tell whether a mean of a tensor is over all places of a map `(n, h, w, channels)`."""
    found = _tflite_constant(parsed, axes)
    return len(taken.shape) == 4 and found is not None and sorted(int(axis) % 4 for axis in found.ravel()) == [1, 2]


def _tflite_constant(parsed: Any, tensor: Any) -> NDArray[np.float32] | None:
    """Return a constant's values, dequantized; None for what is computed."""
    data = parsed.buffers[tensor.buffer].data
    if data is None or tensor.type not in _TFLITE_CONSTANTS:
        return None
    values = np.frombuffer(bytes(data), _TFLITE_CONSTANTS[tensor.type]).reshape([int(side) for side in tensor.shape])
    if tensor.quantization is None or tensor.quantization.scale is None:
        return np.asarray(values, np.float32)
    scale = np.asarray(tensor.quantization.scale, np.float32).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values * scale, np.float32)


def _onnx(data: bytes) -> Featured | None:
    model = onnx.load_from_string(data)
    graph = _OnnxGraph(model)
    softmax = graph.giver(model.graph.output[0].name)[1]
    dense = None if softmax is None or softmax.op_type != "Softmax" else graph.dense(softmax.input[0])
    if dense is None:
        return None
    taken, weights, bias = dense
    name, before = graph.giver(taken)
    if before is not None and graph.is_over_places(before):
        name = before.input[0]
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = {each.name: each for each in (*inferred.value_info, *inferred.output)}
    for each in (name, taken):  # of a map that is only flattened, the flat one is the dense layer's features
        rounded, scale, zero_point = graph.rounded(each)
        if (tensor := known.get(rounded)) is None or tensor.type.tensor_type.elem_type not in _ONNX_TYPES:
            continue
        sides = [side.dim_value for side in tensor.type.tensor_type.shape.dim][1:]
        if all(sides) and sides and len(weights) == (sides[0] if len(sides) == 3 else sides[-1]):
            model.graph.output.append(tensor)
            spec = TensorSpec(rounded, _ONNX_TYPES[tensor.type.tensor_type.elem_type], (None, *sides), scale, zero_point)
            return Featured(model.SerializeToString(deterministic=True), spec, weights, bias)
    return None


class _OnnxGraph:
    """An ONNX graph that is followed from its end to its beginning."""

    # Nodes that only move or round what they take.
    _MOVING = ("Flatten", "Reshape", "Squeeze", "QuantizeLinear", "DequantizeLinear", "Identity")

    def __init__(self, model: onnx.ModelProto) -> None:
        self._editor = Editor(model)
        self._constants = self._editor.constants

    def giver(self, name: str) -> tuple[str, Any]:
        """Return the tensor that `name` is, moved and rounded, and the node that gives it; None for an input."""
        node = self._editor.producer(name)
        while node is not None and node.op_type in self._MOVING:
            name, node = node.input[0], self._editor.producer(node.input[0])
        return name, node

    def dense(self, name: str) -> tuple[str, NDArray[np.float32], NDArray[np.float32]] | None:
        """Return what the dense layer that gives `name` takes, its weights `(channels, classes)` and its bias."""
        node, bias = self.giver(name)[1], None
        if node is not None and node.op_type == "Add":
            constants = [self._constant(each) for each in node.input]
            moved = [each for each, values in zip(node.input, constants, strict=True) if values is None]
            bias = next((values for values in constants if values is not None), None)
            node = self.giver(moved[0])[1] if len(moved) == 1 else None
        if node is None or node.op_type not in ("Gemm", "MatMul"):
            return None
        weights = self._constant(node.input[1])
        odd = attribute(node, "transA") or attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0
        if weights is None or weights.ndim != 2 or odd:
            return None
        weights = weights.T if attribute(node, "transB") else weights
        if len(node.input) > 2:
            bias = self._constant(node.input[2])
        bias = np.zeros(weights.shape[1], np.float32) if bias is None else bias.reshape(-1)
        return None if len(bias) != weights.shape[1] else (node.input[0], np.ascontiguousarray(weights), bias)

    def is_over_places(self, node: Any) -> bool:
        """Tell whether a node is the mean over all places of a map `(n, channels, h, w)`."""
        if node.op_type != "ReduceMean":
            return bool(node.op_type == "GlobalAveragePool")
        axes = self._constants.get(node.input[1]) if len(node.input) > 1 else None
        stated = attribute(node, "axes", ()) if axes is None else axes.ravel()
        return sorted(int(axis) % 4 for axis in stated) == [2, 3]

    def rounded(self, name: str) -> tuple[str, float | None, int | None]:
        """Return the integers that a tensor is rounded to, with scale and zero point; the tensor itself of floats."""
        node = self._editor.producer(name)
        if node is not None and node.op_type == "DequantizeLinear":
            return node.input[0], *self._scale(node)
        taking = self._editor.consumers(name)
        if len(taking) == 1 and taking[0].op_type == "QuantizeLinear":
            return taking[0].output[0], *self._scale(taking[0])
        return name, None, None

    def _scale(self, node: Any) -> tuple[float, int]:
        return float(self._constants[node.input[1]]), int(self._constants[node.input[2]])

    def _constant(self, name: str) -> NDArray[np.float32] | None:
        """Return a constant's values, dequantized; None for what is computed."""
        if name in self._constants:
            return np.asarray(self._constants[name], np.float32)
        node = self._editor.producer(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in self._constants:
            return None
        axis = attribute(node, "axis", 1)
        values, scale = self._constants[node.input[0]], self._constants[node.input[1]]
        sides = [1] * values.ndim
        if scale.ndim:
            sides[axis if values.ndim > 1 else 0] = -1
        return np.asarray(values * scale.reshape(sides), np.float32)
