"""Models whose digests are right and whose insides are not: they never end, crash a runtime, or lie about what they hold."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

from edgecnn.artifacts import Artifact


def with_model(artifact: Artifact, model: bytes, **changes: Any) -> Artifact:
    """Return the artifact with another model under a contract that says so."""
    contract = dataclasses.replace(artifact.contract, model_sha256=hashlib.sha256(model).hexdigest(), **changes)
    return dataclasses.replace(artifact, model=model, contract=contract)


def rebuilt(model: bytes, change: Callable[[Any], None]) -> bytes:
    """Return a `.tflite`'s bytes after a change of its parsed form (`ModelT` of the schema)."""
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    for graph in parsed.subgraphs:
        graph.inputs, graph.outputs = ([int(i) for i in held] for held in (graph.inputs, graph.outputs))
        for operator in graph.operators:
            operator.inputs, operator.outputs = ([int(i) for i in held] for held in (operator.inputs, operator.outputs))
        for tensor in graph.tensors:
            tensor.shape = [int(side) for side in tensor.shape]
    change(parsed)
    builder = flatbuffers.Builder(2**16)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def endless(artifact: Artifact) -> Artifact:
    """Return the `.tflite` behind whose answer stands a WHILE that never ends."""
    return with_model(artifact, rebuilt(artifact.model, _add_while))


def _add_while(parsed: Any) -> None:
    graph = parsed.subgraphs[0]
    answer = graph.tensors[graph.outputs[0]]

    def tensor(name: str, like: Any = answer) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.quantization, made.buffer = name, like.shape, like.type, like.quantization, 0
        return made

    def graph_of(name: str, tensors: list[Any], output: int) -> Any:
        made = schema.SubGraphT()
        made.name, made.tensors, made.inputs, made.outputs, made.operators = name, tensors, [0], [output], []
        return made

    yes = schema.BufferT()
    yes.data = [1]
    parsed.buffers.append(yes)
    always = tensor("always")
    always.shape, always.type, always.quantization, always.buffer = [1], schema.TensorType.BOOL, None, len(parsed.buffers) - 1
    parsed.subgraphs += [graph_of("condition", [tensor("c"), always], 1), graph_of("body", [tensor("b")], 0)]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.WHILE
    code.version = 1
    parsed.operatorCodes.append(code)
    graph.tensors.append(tensor("never"))
    loop, options = schema.OperatorT(), schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = len(parsed.subgraphs) - 2, len(parsed.subgraphs) - 1
    loop.opcodeIndex, loop.inputs, loop.outputs = len(parsed.operatorCodes) - 1, [graph.outputs[0]], [len(graph.tensors) - 1]
    loop.builtinOptionsType, loop.builtinOptions = schema.BuiltinOptions.WhileOptions, options
    graph.operators.append(loop)
    graph.outputs = [len(graph.tensors) - 1, *graph.outputs[1:]]


def endless_onnx(artifact: Artifact) -> Artifact:
    """Return the `.onnx` behind whose answer stands a Loop without an end."""
    import onnx
    from onnx import TensorProto, helper

    parsed = onnx.load_from_string(artifact.model)
    answer = parsed.graph.output[0]
    last = next(node for node in parsed.graph.node if answer.name in node.output)
    last.output[0] = "before"
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    held = helper.make_tensor_value_info("held", TensorProto.FLOAT, None)
    body = helper.make_graph(
        [
            helper.make_node("Constant", [], ["go_on"], value=yes),
            helper.make_node("Identity", ["held"], ["kept"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            held,
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
    )
    parsed.graph.node.append(helper.make_node("Loop", ["", "", "before"], [answer.name], body=body))
    return with_model(artifact, bytes(parsed.SerializeToString()))


def crashing(artifact: Artifact) -> Artifact:
    """Return a `.tflite` whose first operator reads a tensor that is not there."""

    def change(parsed: Any) -> None:
        parsed.subgraphs[0].operators[0].inputs[0] = 100_000

    return with_model(artifact, rebuilt(artifact.model, change))
