"""What another tool's `.tflite` says about itself: TFLite Metadata, its label file, the arithmetic that its graph begins with.

Field numbers are those of the schemas of TensorFlow Lite (schema.fbs) and of TFLite Metadata (metadata_schema.fbs).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.flatbuffer import FlatBufferError, Table

_MODEL, _METADATA = b"TFL3", b"M001"
_METADATA_NAME = "TFLITE_METADATA"
_LABELS_OF_AN_AXIS = 2  # AssociatedFileType
_NORMALIZATION = 1  # ProcessUnitOptions
_ADD, _DEQUANTIZE, _MUL, _SUB, _DIV, _CAST, _QUANTIZE = 0, 6, 18, 41, 42, 53, 114
_SOFTMAX, _LOGISTIC, _RESHAPE, _SQUEEZE = 25, 14, 22, 43
_PAD, _CONV, _DEPTHWISE, _DENSE = 34, 3, 4, 9
_PASSING = (_CAST, _DEQUANTIZE, _RESHAPE, _SQUEEZE, _PAD)
_WEIGHTED = (_CONV, _DEPTHWISE, _DENSE)
_FLOAT32, _FLOAT16, _INT8 = 0, 1, 9
_MAX_LABEL_BYTES = 2**20


@dataclass(frozen=True)
class Described:
    """What was found: `mean` and `deviation` of (pixel - mean) / deviation, labels' bytes, the input's arithmetic and rounding.

    `arithmetic` is what the graph itself does to its input first, as (scale, offset) of one number per channel or for all;
    `rounding` the scale and zero point of an input of floats that is quantized first; `first_weights` how large the first
    weights are, as their deviation times the root of how many there are an output: about 1 where inputs are. `last` names the
    activation at the end: `softmax`, `sigmoid`, or None for another.
    """

    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    labels: bytes | None = None
    arithmetic: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    rounding: tuple[float, int] | None = None
    first_weights: float | None = None
    last: str | None = None


def describe(data: bytes) -> Described:
    """Read what a `.tflite` file says about itself; what is missing or malformed is left out."""
    try:
        model = Table.root(data, _MODEL)
        metadata = _metadata(model)
    except FlatBufferError:
        return Described(labels=_label_file(data, None))
    mean, deviation, labels = _tensors(metadata)
    described = Described(mean, deviation, _label_file(data, labels))
    try:
        return replace(described, **_Graph.of(model).ends())
    except FlatBufferError:
        return described


def _metadata(model: Table) -> Table | None:
    buffers = list(model.tables(4))
    for entry in model.tables(6):
        if entry.text(0) == _METADATA_NAME and (index := entry.number(1, "<I")) < len(buffers):
            content = buffers[index].content(0)
            return None if content is None else Table.root(content, _METADATA)
    return None


def _tensors(metadata: Table | None) -> tuple[tuple[float, ...], tuple[float, ...], str | None]:
    """Return mean and deviation of the first input, and the name of the first output's label file."""
    mean, deviation, labels = tuple[float, ...](), tuple[float, ...](), None
    try:
        graphs = [] if metadata is None else list(metadata.tables(3))
        for tensor in [] if not graphs else list(graphs[0].tables(2))[:1]:
            for unit in tensor.tables(4):
                options = unit.table(1)
                if unit.number(0, "<B") == _NORMALIZATION and options is not None:
                    mean, deviation = options.numbers(0, "<f"), options.numbers(1, "<f")
        for tensor in [] if not graphs else list(graphs[0].tables(3))[:1]:
            names = [each.text(0) for each in tensor.tables(6) if each.number(2, "<b") == _LABELS_OF_AN_AXIS]
            labels = names[0] if names else None
    except FlatBufferError:
        return (), (), None
    return mean, deviation, labels


def _label_file(data: bytes, name: str | None) -> bytes | None:
    """Return the label file of the ZIP archive behind the model: the named one, else the only text file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            texts = [info for info in archive.infolist() if PurePosixPath(info.filename).suffix.lower() == ".txt"]
            chosen = [info for info in texts if info.filename == name] or (texts if len(texts) == 1 else [])
            if not chosen or chosen[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                return None
            with archive.open(chosen[0]) as file:
                content = file.read(_MAX_LABEL_BYTES + 1)
            return content if len(content) <= _MAX_LABEL_BYTES else None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, zlib.error):
        return None


@dataclass(frozen=True)
class _Operator:
    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class _Graph:
    """The main graph of a model, as far as its ends are looked at."""

    tensors: tuple[Table, ...]
    buffers: tuple[Table, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[_Operator, ...]

    @classmethod
    def of(cls, model: Table) -> _Graph:
        codes = [max(code.number(0, "<b"), code.number(3, "<i")) for code in model.tables(1)]
        graph = next(model.tables(2), None)
        if graph is None:
            raise FlatBufferError("a model without a graph")
        operators = []
        for each in graph.tables(3):
            index = each.number(0, "<I")
            code = codes[index] if index < len(codes) else -1
            operators.append(_Operator(code, _indices(each, 1), _indices(each, 2)))
        return cls(tuple(graph.tables(0)), tuple(model.tables(4)), _indices(graph, 1), _indices(graph, 2), tuple(operators))

    def ends(self) -> dict[str, Any]:
        """Describe what the graph does to its first input, and how its first output is made."""
        if not self.inputs or not self.outputs:
            return {}
        found: dict[str, Any] = {"last": self._last()}
        scale: NDArray[np.float64] = np.ones(1)
        offset: NDArray[np.float64] = np.zeros(1)
        changed = False
        for operator, constant, first in self._chain():
            if operator.code == _QUANTIZE:
                found["rounding"] = self._quantization(operator.outputs[0])
            elif operator.code in _WEIGHTED:
                found["first_weights"] = self._size_of_weights(operator)
            elif constant is not None:
                scale, offset = _applied(operator.code, constant, first, scale, offset)
                changed = True
        if changed and np.isfinite([*scale, *offset]).all():
            found["arithmetic"] = tuple(scale.tolist()), tuple(offset.tolist())
        return found

    def _chain(self) -> Iterator[tuple[_Operator, NDArray[np.float64] | None, bool]]:
        """Walk from the input through operators of one tensor, and at most a constant, up to the first of another kind.

        Gives the operator, its constant, and whether the tensor is its first input; a rounding or weights end the walk.
        """
        tensor = self.inputs[0]
        for _ in range(8):
            taking = [operator for operator in self.operators if tensor in operator.inputs]
            if len(taking) != 1 or len(taking[0].outputs) != 1:
                return
            operator = taking[0]
            others = [index for index in operator.inputs if index != tensor]
            constant = None
            if operator.code in (_ADD, _SUB, _MUL, _DIV):
                constant = self._constant(others[0]) if len(others) == 1 else None
                if constant is None:
                    return
            elif operator.code not in (*_WEIGHTED, *_PASSING, _QUANTIZE):
                return
            yield operator, constant, operator.inputs[0] == tensor
            if operator.code in (*_WEIGHTED, _QUANTIZE):
                return
            tensor = operator.outputs[0]

    def _size_of_weights(self, operator: _Operator) -> float | None:
        """Return the deviation of an operator's weights times the root of how many of them make one output."""
        index = operator.inputs[1] if len(operator.inputs) > 1 else -1
        made = [each for each in self.operators if index in each.outputs and each.code == _DEQUANTIZE]
        index = made[0].inputs[0] if made else index
        if not 0 <= index < len(self.tensors):
            return None
        tensor = self.tensors[index]
        kind = {_FLOAT32: "<f4", _FLOAT16: "<f2", _INT8: "i1"}.get(tensor.number(1, "<b"))
        buffer, shape = tensor.number(2, "<I"), tensor.numbers(0, "<i")
        content = self.buffers[buffer].content(0) if 0 < buffer < len(self.buffers) else None
        if kind is None or not content or len(content) % np.dtype(kind).itemsize or len(shape) < 2:
            return None
        weights = np.frombuffer(content, kind).astype(np.float64)
        if kind == "i1":
            quantization = tensor.table(4)
            scales = () if quantization is None else quantization.numbers(2, "<f")
            weights = weights * float(np.mean(scales)) if scales else weights * np.nan
        count = shape[1] * shape[2] if operator.code == _DEPTHWISE and len(shape) == 4 else np.prod(shape[1:])
        size = float(np.std(weights) * np.sqrt(max(float(count), 1.0)))
        return size if np.isfinite(size) else None

    def _constant(self, index: int) -> NDArray[np.float64] | None:
        """Return a constant of one number, or of one per channel (at most four); float16 ones behind DEQUANTIZE too."""
        made = [operator for operator in self.operators if index in operator.outputs]
        if made and made[0].code == _DEQUANTIZE:
            index = made[0].inputs[0]
        if not 0 <= index < len(self.tensors):
            return None
        tensor = self.tensors[index]
        kind = {_FLOAT32: "<f4", _FLOAT16: "<f2"}.get(tensor.number(1, "<b"))
        buffer = tensor.number(2, "<I")
        content = self.buffers[buffer].content(0) if 0 < buffer < len(self.buffers) else None
        if kind is None or not content or len(content) > 16 or len(content) % int(kind[-1]):
            return None
        return np.frombuffer(content, kind).astype(np.float64)

    def _quantization(self, index: int) -> tuple[float, int] | None:
        quantization = self.tensors[index].table(4) if 0 <= index < len(self.tensors) else None
        scales = () if quantization is None else quantization.numbers(2, "<f")
        zeros = () if quantization is None else quantization.numbers(3, "<q")
        return (float(scales[0]), int(zeros[0])) if len(scales) == len(zeros) == 1 else None

    def _last(self) -> str | None:
        tensor = self.outputs[0]
        for _ in range(4):
            made = [operator for operator in self.operators if tensor in operator.outputs]
            if not made or not made[0].inputs:
                return None
            if made[0].code not in (_RESHAPE, _SQUEEZE, _QUANTIZE, _DEQUANTIZE):
                return {_SOFTMAX: "softmax", _LOGISTIC: "sigmoid"}.get(made[0].code)
            tensor = made[0].inputs[0]
        return None


def _applied(
    code: int, constant: NDArray[np.float64], first: bool, scale: NDArray[np.float64], offset: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Apply y = x + c, x - c, c - x, x * c or x / c to x = scale * pixel + offset."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if code == _ADD:
            return scale, offset + constant
        if code == _SUB:
            return (scale, offset - constant) if first else (-scale, constant - offset)
        if code == _MUL:
            return scale * constant, offset * constant
        return (scale / constant, offset / constant) if first else (scale * np.nan, offset)


def _indices(table: Table, field: int) -> tuple[int, ...]:
    return tuple(int(index) for index in table.numbers(field, "<i"))
