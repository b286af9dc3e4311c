"""Small edits of TFLite flatbuffers: read and written as objects, and rounded where the converter leaves floats."""

from __future__ import annotations

from typing import Any

import flatbuffers
from tensorflow.lite.python import schema_py_generated as schema

# Their int8 kernels are as old as tflite-runtime 2.14 and before; the converter has no rule for them.
_INTEGER_KERNELS = (schema.BuiltinOperator.ELU,)
_FILE_IDENTIFIER = b"TFL3"


def unpack(model: bytes) -> tuple[Any, list[int]]:
    """Return a model as objects, and which built-in operator each of its operator codes stands for."""
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    return parsed, [max(code.builtinCode, code.deprecatedBuiltinCode) for code in parsed.operatorCodes]


def pack(parsed: Any) -> bytes:
    """Return the flatbuffer of a model that is given as objects."""
    builder = flatbuffers.Builder(2**20)
    builder.Finish(parsed.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    return bytes(builder.Output())


def join_roundings(model: bytes) -> bytes:
    """Return the model with DEQUANTIZE, operator, QUANTIZE as that one operator on integers, where there is a kernel for it."""
    parsed, codes = unpack(model)
    (graph,) = parsed.subgraphs
    joined = [_join(graph, codes, operator) for operator in graph.operators if codes[operator.opcodeIndex] in _INTEGER_KERNELS]
    if not any(joined):
        return model
    _drop_unused(graph, codes)
    return pack(parsed)


def has_loops(model: bytes) -> bool:
    """True when the model has more than one graph: bodies of loops and branches."""
    return bool(schema.Model.GetRootAs(model, 0).SubgraphsLength() > 1)


def _join(graph: Any, codes: list[int], operator: Any) -> bool:
    before = next((each for each in graph.operators if operator.inputs[0] in each.outputs), None)
    chain = _up_to_rounding(graph, codes, operator)
    if before is None or codes[before.opcodeIndex] != schema.BuiltinOperator.DEQUANTIZE or chain is None:
        return False
    *kept, rounding = chain
    target = graph.tensors[rounding.outputs[0]]
    if not graph.tensors[before.inputs[0]].type == target.type == schema.TensorType.INT8:
        return False
    for each in kept[:-1]:
        tensor = graph.tensors[each.outputs[0]]
        tensor.type, tensor.quantization = target.type, target.quantization
    operator.inputs, kept[-1].outputs = [before.inputs[0]], [rounding.outputs[0]]
    graph.operators.remove(rounding)
    return True


def _up_to_rounding(graph: Any, codes: list[int], operator: Any) -> list[Any] | None:
    """Return the operator, those behind it that only reshape, and the QUANTIZE that ends them; None when others take part."""
    chain = [operator]
    while codes[chain[-1].opcodeIndex] != schema.BuiltinOperator.QUANTIZE:
        taking = [each for each in graph.operators if chain[-1].outputs[0] in each.inputs]
        kinds = (schema.BuiltinOperator.QUANTIZE, schema.BuiltinOperator.RESHAPE)
        if len(taking) != 1 or codes[taking[0].opcodeIndex] not in kinds:
            return None
        chain.append(taking[0])
    return chain


def _drop_unused(graph: Any, codes: list[int]) -> None:
    taken = {index for operator in graph.operators for index in operator.inputs} | set(graph.outputs)
    for operator in list(graph.operators):
        if codes[operator.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE and not taken & set(operator.outputs):
            graph.operators.remove(operator)
