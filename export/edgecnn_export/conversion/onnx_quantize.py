"""Eight-bit ONNX in QDQ form: int8 activations and weights, int32 biases, each behind its DequantizeLinear.

The activations' parameters are already in the graph (the converter writes them where the served function rounds); here the
weights follow, symmetric and one scale per channel, as ONNX Runtime's and TensorFlow Lite's integer kernels want them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgecnn.errors import ConversionError
from edgecnn_export.conversion.onnx_edit import Editor, attribute

# One scale before and behind: ONNX Runtime runs them on integers when they stand between equal parameters.
_KEEPING = (
    "AveragePool",
    "Flatten",
    "GlobalMaxPool",
    "MaxPool",
    "Pad",
    "Reshape",
    "Slice",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
_LIMITING = ("Relu", "Clip")
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_FLOAT_REMAINDER = ("Cast", "QuantizeLinear", "DequantizeLinear", "Softmax")


def quantize_weights(model: onnx.ModelProto, *, float_layers: int = 0, islands: bool = False) -> onnx.ModelProto:
    """Finish a model whose activations are rounded: signed parameters, integer weights, no float step between integers.

    Raises ConversionError when a step would be left to run on floats; only the softmax at the end may, and this many layers
    with weights as `float_layers` says. With `islands` the steps without weights may as well.
    """
    editor = Editor(model)
    _make_signed(editor)
    float_start = _leave_start_float(editor)
    for node in editor.nodes:
        if node.op_type in _LIMITING:
            _drop_activation(editor, node)
    for node in editor.nodes:
        if node.op_type in _KEEPING:
            _carry_on(editor, node)
    for node in reversed(editor.nodes):
        if node.op_type in (*_KEEPING, *_LIMITING):
            _carry_back(editor, node)
    for node in editor.nodes:
        if node.op_type in _WEIGHTED:
            _quantize_constants(editor, node)
    floats = [name for name in float_steps(editor) if name not in float_start]
    weighted = [name for name in floats if name.startswith(_WEIGHTED)]
    if len(weighted) > float_layers or (floats and not float_layers and not islands):
        raise ConversionError(f"these steps would stay float in the int8 ONNX file: {', '.join(floats)}")
    return editor.finish()


def float_steps(editor: Editor) -> list[str]:
    """Name the steps that compute on tensors of no integer parameters."""
    odd = []
    for node in editor.nodes:
        inputs = [name for name in node.input if name and name not in editor.constants]
        if node.op_type not in _FLOAT_REMAINDER and not all(_is_dequantized(editor, name) for name in inputs):
            odd.append(f"{node.op_type} {node.output[0]}")
    return odd


def _leave_start_float(editor: Editor) -> list[str]:
    """Let a convolution of the pixels themselves compute on floats; return the steps up to it.

    ONNX Runtime's integer convolution gathers its input pixel by pixel when there are one or three channels: 3 x 3 over
    200 x 200 x 1 took 178 us of 308 in all, as floats the whole takes 271 (x86, one thread). Pixels are whole
    numbers, so that nothing but the weights' rounding differs.
    """
    steps = [editor.only_consumer(editor.graph.input[0].name)]
    while steps[-1] is not None and steps[-1].op_type in ("Cast", "QuantizeLinear", "DequantizeLinear", "Reshape", "Transpose"):
        steps.append(editor.only_consumer(steps[-1].output[0]))
    if steps[-1] is None or steps[-1].op_type != "Conv" or editor.constants[steps[-1].input[1]].shape[1] > 3:
        return []
    for node in steps:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            editor.remove(node)
    return [f"{node.op_type} {node.output[0]}" for node in steps]


def _is_dequantized(editor: Editor, name: str) -> bool:
    node = editor.producer(name)
    return node is not None and node.op_type == "DequantizeLinear"


def _make_signed(editor: Editor) -> None:
    """Turn uint8 parameters into int8: zero point - 128. Pixels become pixel - 128, without loss."""
    for node in editor.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            del node.attribute[:]  # `axis` says nothing of a single scale
            zero_point = editor.constants[node.input[2]]
            if zero_point.dtype == np.uint8:
                signed = (zero_point.astype(np.int16) - 128).astype(np.int8)
                node.input[2] = editor.add_constant(f"{node.input[2]}/int8", signed)


def _drop_activation(editor: Editor, node: Any) -> None:
    """Remove a ReLU or ReLU6 whose result is rounded to a range that begins and ends where the ReLU does."""
    quantize = editor.only_consumer(node.output[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return
    scale, zero_point = (float(editor.constants[name]) for name in quantize.input[1:])
    limits = [editor.constants.get(name) for name in node.input[1:]]
    ceiling = float(limits[1]) if len(limits) > 1 and limits[1] is not None else np.inf
    if zero_point == -128 and 255 * scale <= ceiling + scale / 2:
        editor.remove(node)


def _carry_on(editor: Editor, node: Any) -> None:
    """Repeat a dequantized input's parameters behind a step that keeps its values."""
    source = editor.producer(node.input[0])
    if source is None or source.op_type != "DequantizeLinear":
        return
    if all(taking.op_type == "QuantizeLinear" for taking in editor.consumers(node.output[0])):
        return
    parameters, rounded, restored = list(source.input[1:]), f"{node.output[0]}/rounded", f"{node.output[0]}/restored"
    editor.redirect(node.output[0], restored)
    editor.insert_behind(
        node,
        [
            helper.make_node("QuantizeLinear", [node.output[0], *parameters], [rounded]),
            helper.make_node("DequantizeLinear", [rounded, *parameters], [restored]),
        ],
    )


def _carry_back(editor: Editor, node: Any) -> None:
    """Repeat in front of a step that keeps its values the parameters to which its float result is rounded behind it.

    A ReLU keeps them too: where its result shares the range of others that it is joined with, below 0 as well, it stays, and
    limiting rounded values is rounding limited ones.
    """
    quantize = editor.only_consumer(node.output[0])
    if _is_dequantized(editor, node.input[0]) or quantize is None or quantize.op_type != "QuantizeLinear":
        return
    parameters, rounded, restored = list(quantize.input[1:]), f"{node.input[0]}/rounded", f"{node.input[0]}/restored"
    source = node.input[0]
    node.input[0] = restored
    editor.insert(
        node,
        [
            helper.make_node("QuantizeLinear", [source, *parameters], [rounded]),
            helper.make_node("DequantizeLinear", [rounded, *parameters], [restored]),
        ],
    )


def _quantize_constants(editor: Editor, node: Any) -> None:
    """Put a layer's weights and bias behind DequantizeLinear, with one scale an output channel."""
    source = editor.producer(node.input[0])
    weights = editor.constants.get(node.input[1])
    if source is None or source.op_type != "DequantizeLinear" or weights is None:
        return
    axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else weights.ndim - 1
    bias = editor.constants[node.input[2]] if len(node.input) > 2 else None
    input_scale = float(editor.constants[source.input[1]])
    scales = _weight_scales(weights, axis, None if bias is None else bias / input_scale)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    integers = np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8)
    added = [_dequantized(editor, node, 1, integers, scales, axis)]
    if bias is not None:
        bias_scales = (scales * np.float32(input_scale)).astype(np.float32)
        added.append(
            _dequantized(editor, node, 2, np.rint(bias.astype(np.float64) / bias_scales).astype(np.int32), bias_scales, 0)
        )
    editor.insert(node, added)


def _weight_scales(weights: NDArray[Any], axis: int, bias: NDArray[Any] | None) -> NDArray[np.float32]:
    """Return max |w| / 127 per channel; larger where the bias, counted in units of the scale, would leave 31 bits."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scales = np.abs(weights).max(axis=others) / 127
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias) / 2**30)
    return np.where(scales > 0, scales, 1.0).astype(np.float32)


def _dequantized(editor: Editor, node: Any, index: int, integers: NDArray[Any], scales: NDArray[np.float32], axis: int) -> Any:
    """Make the node that gives constant input `index` of `node` from its integers."""
    name = node.input[index]
    zeros = np.zeros(scales.shape, integers.dtype)
    parts = [
        editor.add_constant(f"{name}/integers", integers),
        editor.add_constant(f"{name}/scales", scales),
        editor.add_constant(f"{name}/zeros", zeros),
    ]
    node.input[index] = f"{node.output[0]}/constant_{index}"
    return helper.make_node("DequantizeLinear", parts, [node.input[index]], axis=axis)
