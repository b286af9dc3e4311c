"""Small edits of ONNX graphs: constants, insertions, and the tidying that makes equal models equal files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

IR_VERSION = 8

Shapes = Mapping[str, tuple[int | None, ...]]


class Editor:
    """An ONNX graph with look-ups by tensor name; nodes stay in an order in which they can be run."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Take a model; it is changed in place."""
        self.model, self.graph = model, model.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    @property
    def nodes(self) -> list[Any]:
        """The nodes, in order."""
        return list(self.graph.node)

    def producer(self, name: str) -> Any:
        """Return the node that gives a tensor, None for inputs and constants."""
        return next((node for node in self.graph.node if name in node.output), None)

    def consumers(self, name: str) -> list[Any]:
        """Return the nodes that take a tensor."""
        return [node for node in self.graph.node if name in node.input]

    def only_consumer(self, name: str) -> Any:
        """Return the node that takes a tensor when it is the only one and the tensor is not an output of the graph."""
        taking = self.consumers(name)
        return taking[0] if len(taking) == 1 and name not in [output.name for output in self.graph.output] else None

    def add_constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant and return its name, made unique."""
        name = self._unique(name)
        self.constants[name] = value
        return name

    def insert(self, before: Any, nodes: Iterable[Any]) -> None:
        """Put nodes in front of `before`, in order."""
        at = self.nodes.index(before)
        for node in reversed(list(nodes)):
            self.graph.node.insert(at, node)

    def insert_behind(self, after: Any, nodes: Iterable[Any]) -> None:
        """Put nodes behind `after`, in order."""
        at = self.nodes.index(after) + 1
        for node in reversed(list(nodes)):
            self.graph.node.insert(at, node)

    def remove(self, node: Any) -> None:
        """Remove a node; what took its output takes its first input instead."""
        self.redirect(node.output[0], node.input[0])
        self.graph.node.remove(node)

    def redirect(self, old: str, new: str) -> None:
        """Let all consumers of tensor `old` take `new`."""
        for node in self.graph.node:
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the shapes of all tensors that ONNX can infer, None for a side that depends on the batch."""
        self._write_constants()
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        return {
            tensor.name: tuple(side.dim_value or None for side in tensor.type.tensor_type.shape.dim)
            for tensor in (*inferred.value_info, *inferred.input, *inferred.output)
            if tensor.type.tensor_type.HasField("shape")
        }

    def finish(self) -> onnx.ModelProto:
        """Write constants back, drop what nothing uses and give every node and tensor a name that tells its place.

        The converter's names count all models of the process; ours make the file a function of the model alone.
        """
        self._drop_unused_nodes()
        self._rename()
        self._write_constants()
        del self.graph.value_info[:]
        self._describe()
        return self.model

    def _write_constants(self) -> None:
        del self.graph.initializer[:]
        self.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self.constants.items())

    def _unique(self, name: str) -> str:
        taken = self.constants.keys() | {output for node in self.graph.node for output in node.output}
        count, unique = 1, name
        while unique in taken:
            count, unique = count + 1, f"{name}_{count}"
        return unique

    def _drop_unused_nodes(self) -> None:
        outputs = {output.name for output in self.graph.output}
        for node in reversed(self.nodes):
            if not outputs & set(node.output) and not any(self.consumers(name) for name in node.output):
                self.graph.node.remove(node)

    def _rename(self) -> None:
        fixed = [tensor.name for tensor in (*self.graph.input, *self.graph.output)]
        names = dict(zip(fixed, fixed, strict=True))
        counts: Counter[str] = Counter()
        constants: dict[str, NDArray[Any]] = {}
        for node in self.graph.node:
            counts[node.op_type] += 1
            node.name = f"{node.op_type}_{counts[node.op_type]}"
            for i, name in enumerate(node.input):
                if name in self.constants:
                    names.setdefault(name, f"{node.name}/{_role(node, i)}")
                    constants[names[name]] = self.constants[name]
            for i, name in enumerate(node.output):
                names.setdefault(name, f"{node.name}/output" + (f"_{i}" if i else ""))
            node.input[:] = [names[name] if name else name for name in node.input]
            node.output[:] = [names[name] for name in node.output]
        self.constants = constants

    def _describe(self) -> None:
        """Name the batch axis and keep only the opset that is used."""
        for tensor in (*self.graph.input, *self.graph.output):
            tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
        used = {node.domain for node in self.graph.node}
        opsets = [opset for opset in self.model.opset_import if opset.domain in used]
        del self.model.opset_import[:]
        self.model.opset_import.extend(opsets)
        self.model.ir_version = IR_VERSION  # what opset 18 came with: an older ONNX Runtime reads it as well
        self.model.doc_string, self.model.producer_name, self.graph.name = "", "edgecnn", "classifier"
        self.model.producer_version, self.graph.doc_string = "", ""
        for node in self.graph.node:
            node.doc_string = ""


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """Return an attribute of a node, `default` when it has none of that name."""
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def _role(node: Any, index: int) -> str:
    roles = {
        "Conv": ("input", "weights", "bias"),
        "Gemm": ("input", "weights", "bias"),
        "QuantizeLinear": ("input", "scale", "zero_point"),
        "DequantizeLinear": ("input", "scale", "zero_point"),
    }.get(node.op_type, ())
    return roles[index] if index < len(roles) else f"input_{index}"


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove steps that the conversion from NHWC left behind, and finish."""
    editor = Editor(model)
    for node in editor.nodes:
        if node.op_type == "DequantizeLinear":
            _dequantize_first(editor, node)
    for node in editor.nodes:
        if node.op_type == "Reshape":
            _reshape_by_constant(editor, node)
    shapes = editor.shapes()
    for node in editor.nodes:
        match node.op_type:
            case "Reshape":
                _as_flatten(editor, node, shapes)
            case "ReduceMean" | "ReduceMax":
                _pool_without_transpose(editor, node)
            case "MatMul" if len(shapes.get(node.input[0], ())) == 2:
                _as_gemm(editor, node)
    for node in editor.nodes:
        if node.op_type == "Gemm":
            _flatten_without_transpose(editor, node, shapes)
    return editor.finish()


def _dequantize_first(editor: Editor, dequantize: Any) -> None:
    """Move a DequantizeLinear in front of a Transpose or Reshape that the converter put before it."""
    moved = editor.producer(dequantize.input[0])
    if moved is None or moved.op_type not in ("Transpose", "Reshape") or editor.only_consumer(moved.output[0]) is None:
        return
    restored = f"{moved.input[0]}/restored"
    parameters = list(dequantize.input[1:])
    editor.remove(dequantize)
    editor.insert(moved, [helper.make_node("DequantizeLinear", [moved.input[0], *parameters], [restored])])
    moved.input[0] = restored


def _reshape_by_constant(editor: Editor, reshape: Any) -> None:
    """Replace a shape that is computed from the batch's size by the constants it consists of."""
    joined = _behind_casts(editor, reshape.input[1])
    if joined is None or joined.op_type != "Concat":
        return
    batch = _behind_casts(editor, joined.input[0])
    sides = [editor.constants.get(name) for name in joined.input[1:]]
    if batch is None or batch.op_type != "Slice" or any(side is None for side in sides):
        return
    begin, end = (editor.constants.get(name) for name in batch.input[1:3])
    if begin is None or end is None or (begin.tolist(), end.tolist()) != ([0], [1]):
        return
    shape = [0, *(int(side) for array in sides if array is not None for side in array)]  # 0 keeps the batch as it is
    reshape.input[1] = editor.add_constant(f"{reshape.output[0]}/shape", np.array(shape, np.int64))


def _as_flatten(editor: Editor, reshape: Any, shapes: Shapes) -> None:
    """Say Flatten where a reshape joins all axes but the batch."""
    sides, shape = shapes.get(reshape.input[0], (None,))[1:], shapes.get(reshape.output[0], ())
    known = [side for side in sides if side is not None]
    if len(known) == len(sides) > 0 and len(shape) == 2 and shape[1] == np.prod(known):
        editor.insert(reshape, [helper.make_node("Flatten", [reshape.input[0]], [reshape.output[0]], axis=1)])
        editor.graph.node.remove(reshape)


def _behind_casts(editor: Editor, name: str) -> Any:
    node = editor.producer(name)
    while node is not None and node.op_type == "Cast":
        node = editor.producer(node.input[0])
    return node


def _pool_without_transpose(editor: Editor, reduce: Any) -> None:
    """Pool over the axes of NCHW instead of transposing to NHWC first; global pooling, the form runtimes are fast at."""
    transpose = editor.producer(reduce.input[0])
    axes = editor.constants.get(reduce.input[1]) if len(reduce.input) > 1 else np.array(attribute(reduce, "axes", []))
    kind = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}[reduce.op_type]
    if axes is not None and sorted(axes.tolist()) == [2, 3] and attribute(reduce, "keepdims", 1):
        editor.insert(reduce, [helper.make_node(kind, [reduce.input[0]], list(reduce.output))])
        editor.graph.node.remove(reduce)
        return
    if not _to_nhwc(transpose) or axes is None or sorted(axes.tolist()) != [1, 2]:
        return
    pooled, output = f"{reduce.output[0]}/pooled", reduce.output[0]
    if attribute(reduce, "keepdims", 1):
        last = helper.make_node("Transpose", [pooled], [output], perm=[0, 2, 3, 1])
    else:
        last = helper.make_node("Flatten", [pooled], [output], axis=1)
    editor.insert(reduce, [helper.make_node(kind, [transpose.input[0]], [pooled]), last])
    editor.graph.node.remove(reduce)


def _as_gemm(editor: Editor, product: Any) -> None:
    """Join a product of matrices with the addition of a bias: one operator, which takes integers as well."""
    weights = editor.constants.get(product.input[1])
    if weights is None or weights.ndim != 2:
        return
    output, addition = product.output[0], editor.only_consumer(product.output[0])
    inputs = list(product.input)
    if addition is not None and addition.op_type == "Add":
        bias = next((name for name in addition.input if name in editor.constants), None)
        if bias is None or editor.constants[bias].shape != (weights.shape[1],):
            return
        inputs.append(bias)
        output = addition.output[0]
        editor.graph.node.remove(addition)
    editor.insert(product, [helper.make_node("Gemm", inputs, [output])])
    editor.graph.node.remove(product)


def _flatten_without_transpose(editor: Editor, gemm: Any, shapes: Shapes) -> None:
    """Let a dense layer read a flattened picture in NCHW order: its weight rows move instead of the pixels, once."""
    flatten = editor.producer(gemm.input[0])
    if flatten is None or flatten.op_type != "Flatten" or editor.only_consumer(flatten.output[0]) is not gemm:
        return
    transpose = editor.producer(flatten.input[0])
    if not _to_nhwc(transpose) or editor.only_consumer(transpose.output[0]) is not flatten:
        return
    shape_hwc, weights = shapes.get(flatten.input[0], ())[1:], editor.constants[gemm.input[1]]
    if len(shape_hwc) != 3 or None in shape_hwc or len(editor.consumers(gemm.input[1])) != 1:
        return
    moved = weights.reshape(*shape_hwc, -1).transpose(2, 0, 1, 3).reshape(weights.shape)
    editor.constants[gemm.input[1]] = np.ascontiguousarray(moved)
    editor.remove(transpose)


def _to_nhwc(node: Any) -> bool:
    return node is not None and node.op_type == "Transpose" and list(attribute(node, "perm", [])) == [0, 2, 3, 1]
