"""What is inside a model: its operators and tensors, read from the file's own structure without running it."""

from __future__ import annotations

import dataclasses
import importlib
from collections import Counter
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgecnn.errors import ArtifactError, MissingDependencyError
from edgecnn.records import read_record


@dataclass(frozen=True)
class Operator:
    """One operator: `name` as its format says it, `input_dtypes` of tensors that are no constants, `output_dtypes`.

    `output_names` are those of the tensors that it gives: converters put the name of the layer into them.
    """

    name: str
    input_dtypes: tuple[str, ...]
    output_dtypes: tuple[str, ...]
    output_names: tuple[str, ...] = ()

    @property
    def is_integer(self) -> bool:
        """True when no floating-point tensor enters or leaves the operator."""
        return not any("float" in dtype for dtype in self.input_dtypes + self.output_dtypes)


@dataclass(frozen=True)
class Graph:
    """The operators of a model in order, and how many bytes its constants (weights) take by dtype."""

    operators: tuple[Operator, ...]
    constant_bytes: dict[str, int]

    def counts(self) -> dict[str, int]:
        """Return how often each operator occurs, the most frequent first."""
        return dict(Counter(operator.name for operator in self.operators).most_common())

    def to_json(self) -> dict[str, Any]:
        """Return the graph as JSON, for another process."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Graph:
        """Read what `to_json` gave."""
        return read_record(cls, body, "graph")

    def float_operators(self) -> tuple[Operator, ...]:
        """Return the operators that compute in floating point."""
        return tuple(operator for operator in self.operators if not operator.is_integer)


def read_graph(model: bytes, file_format: str) -> Graph:
    """Read the graph of a `tflite` or `onnx` model whose bytes are vouched for by a digest.

    Raises MissingDependencyError when the package that knows the format is not installed.
    """
    return _read_tflite(model) if file_format == "tflite" else _read_onnx(model)


def _read_tflite(model: bytes) -> Graph:
    schema = _tflite_schema()
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    if len(parsed.subgraphs) != 1:
        raise ArtifactError(f"expected a model with one subgraph, got {len(parsed.subgraphs)}")
    graph = parsed.subgraphs[0]
    operator_names = _names(schema.BuiltinOperator)
    dtypes = [_names(schema.TensorType)[tensor.type].lower() for tensor in graph.tensors]
    sizes = [_buffer_size(parsed.buffers[tensor.buffer]) for tensor in graph.tensors]
    operators = []
    for operator in graph.operators:
        code = parsed.operatorCodes[operator.opcodeIndex]
        inputs = tuple(dtypes[i] for i in operator.inputs if i >= 0 and not sizes[i])
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        names = tuple((graph.tensors[i].name or b"").decode("utf-8", "replace") for i in operator.outputs)
        operators.append(Operator(operator_names[number], inputs, tuple(dtypes[i] for i in operator.outputs), names))
    constants: Counter[str] = Counter()
    for dtype, size in zip(dtypes, sizes, strict=True):
        constants[dtype] += size
    return Graph(tuple(operators), {dtype: size for dtype, size in constants.items() if size})


def _tflite_schema() -> ModuleType:
    for name in ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingDependencyError("operators cannot be listed: ai-edge-litert is not installed. pip install ai-edge-litert")


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _buffer_size(buffer: Any) -> int:
    return 0 if buffer.data is None else len(buffer.data)


def _read_onnx(model: bytes) -> Graph:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(
            "operators cannot be listed: onnx is not installed. pip install 'edgecnn[export]'"
        ) from error
    parsed = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
    graph = parsed.graph
    dtypes = {value.name: _onnx_dtype(value.type.tensor_type.elem_type) for value in (*graph.input, *graph.value_info)}
    dtypes |= {value.name: _onnx_dtype(value.type.tensor_type.elem_type) for value in graph.output}
    constants: Counter[str] = Counter()
    for weight in graph.initializer:
        constants[_onnx_dtype(weight.data_type)] += weight.ByteSize()
    weights = {weight.name for weight in graph.initializer}
    operators = tuple(
        Operator(
            node.op_type,
            tuple(dtypes.get(name, "unknown") for name in node.input if name and name not in weights),
            tuple(dtypes.get(name, "unknown") for name in node.output),
            tuple(node.output),
        )
        for node in graph.node
    )
    return Graph(operators, dict(constants))


def _onnx_dtype(number: int) -> str:
    import onnx

    return "unknown" if number == 0 else str(onnx.helper.tensor_dtype_to_np_dtype(number))
