"""Opening a stranger's SavedModel: its graph is a program, so only operations that merely compute are let near TensorFlow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.errors import EdgecnnError, InputError
from edgecnn.runtimes.tflite import first_line

if TYPE_CHECKING:
    import keras

FILE_NAME = "saved_model.pb"
SIGNATURE = "serving_default"
_MAX_BYTES = 2**31 - 1
_TRUST = "--trust runs it all the same"
# What image classifiers consist of. All of it computes its outputs from its inputs and reads, writes and runs nothing else.
_NAMES = """
Abs Acos Acosh Add AddN AddV2 All Any ArgMax ArgMin Asin Asinh Atan Atan2 Atanh AvgPool BatchMatMul BatchMatMulV2
BatchMatMulV3 BatchToSpaceND BiasAdd BiasAddV1 Bitcast BroadcastArgs BroadcastTo Cast Ceil ClipByValue Concat ConcatV2 Const
Conv2D Conv2DBackpropInput Conv3D Cos Cosh Cumprod Cumsum DepthToSpace DepthwiseConv2dNative Dequantize Diag DiagPart Div
DivNoNan Einsum Elu EnsureShape Equal Erf Erfc Exp ExpandDims Expm1 FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
FakeQuantWithMinMaxVarsPerChannel Fill Floor FloorDiv FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather
GatherNd GatherV2 Greater GreaterEqual Identity IdentityN If Inv InvertPermutation IsFinite IsInf IsNan L2Loss LRN LeakyRelu
Less LessEqual LinSpace Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart MatrixDiag MatrixDiagV3
Max MaxPool MaxPoolV2 Maximum Mean Min Minimum MirrorPad Mod Mul MulNoNan Neg NoOp NotEqual OneHot OnesLike Pack Pad PadV2
PartitionedCall Placeholder PlaceholderWithDefault Pow PreventGradient Prod QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
QuantizeAndDequantizeV4 Range Rank ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic
ResizeBilinear ResizeNearestNeighbor Reverse ReverseV2 Rint Roll Round Rsqrt ScatterNd Select SelectV2 Selu Shape ShapeN
Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square
SquaredDifference Squeeze StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile StopGradient StridedSlice Sub Sum
Tan Tanh TensorScatterAdd TensorScatterUpdate Tile TopK TopKV2 Transpose TruncateDiv TruncateMod Unpack Unstack VarHandleOp
VarIsInitializedOp Where While Xdivy Xlogy ZerosLike
"""
HARMLESS = frozenset(_NAMES.split())


def open_saved_model(path: Path, *, trust: bool = False) -> keras.Model:
    """Open the serving signature of a SavedModel as a Keras model of one input, its outputs by name.

    Before TensorFlow loads a byte, every operation that loading or serving would run is looked up among those that are known
    to be harmless; another one is an InputError that names it, unless the user says to `trust` the model: it is then tried in
    a child process first. Raises InputError too for what is no SavedModel, or has more than one input.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise InputError(f"a SavedModel opens under Keras' TensorFlow backend only, this is {keras.backend.backend()}")
    meta = _read(path)
    name = _signature_name(meta, path)
    if trust:
        _try_apart(path)
    else:
        check_operations(meta, name, path)
    try:
        return _as_model(path, name)
    except EdgecnnError:
        raise
    except Exception as error:  # TensorFlow's loader raises a dozen unrelated types
        raise InputError(f"{path} is not a SavedModel that TensorFlow can load: {first_line(error)}") from error


def _read(path: Path) -> Any:
    """Parse the description of the graph, without TensorFlow's loader; InputError when it is none."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / FILE_NAME
    if file.stat().st_size > _MAX_BYTES:
        raise InputError(f"{file} is larger than {_MAX_BYTES} bytes")
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise InputError(f"{file} is not a description of a SavedModel, or it is cut short") from error
    served = [meta for meta in saved.meta_graphs if "serve" in meta.meta_info_def.tags]
    if len(saved.meta_graphs) != 1 or not served:
        raise InputError(f"{path} holds {len(saved.meta_graphs)} graphs; expected one, to be served (the tag 'serve')")
    return served[0]


def _signature_name(meta: Any, path: Path) -> str:
    names = [name for name in meta.signature_def if not name.startswith("__")]
    if SIGNATURE in names or len(names) == 1:
        return SIGNATURE if SIGNATURE in names else str(names[0])
    raise InputError(f"{path} has no signature {SIGNATURE!r}, only: {', '.join(sorted(names)) or 'none'}; save it with one")


def check_operations(meta: Any, signature: str, path: Path) -> None:
    """Raise InputError for the first operation that is not known to be harmless and that loading or serving would run."""
    nodes = meta.object_graph_def.nodes
    if not nodes:
        raise InputError(f"{path} is a SavedModel of TensorFlow 1, whose start-up operations run when it is loaded; {_TRUST}")
    if any(node.saveable_objects for node in nodes):
        raise InputError(f"{path} restores its state by functions of its own when it is loaded; {_TRUST}")
    if any(node.WhichOneof("kind") == "resource" for node in nodes):
        raise InputError(f"{path} holds a lookup table or another resource, filled by functions of its own; {_TRUST}")
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    for start in _served_functions(nodes, signature):
        for function, operation in _operations(start, functions):
            if operation not in HARMLESS:
                raise InputError(
                    f"{path} runs the operation {operation} (in {function}), which is not known to merely compute; {_TRUST}"
                )


def _served_functions(nodes: Any, signature: str) -> list[str]:
    """Name the functions behind a signature: root -> signatures -> its name."""
    children = {child.local_name: child.node_id for child in nodes[0].children}
    table = nodes[children["signatures"]] if "signatures" in children else None
    found = [] if table is None else [nodes[child.node_id] for child in table.children if child.local_name == signature]
    names = [name for node in found for name in _concrete_functions(node)]
    if not names:
        raise InputError(f"its signature {signature!r} has no function behind it; {_TRUST}")
    return names


def _concrete_functions(node: Any) -> list[str]:
    if node.WhichOneof("kind") == "bare_concrete_function":
        return [node.bare_concrete_function.concrete_function_name]
    return list(node.function.concrete_functions)


def _operations(start: str, functions: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Walk through what a function runs, called functions too: pairs of function and operation."""
    pending, seen = [start], {start}
    while pending:
        name = pending.pop()
        if name not in functions:
            yield name, name  # called, but not there: no operation of the graph's own
            continue
        for node in functions[name].node_def:
            yield name, node.op if node.op not in functions else "PartitionedCall"
            called = [node.op] if node.op in functions else []
            for attribute in node.attr.values():
                called += [attribute.func.name] if attribute.HasField("func") else []
                called += [each.name for each in attribute.list.func]
            pending += [each for each in called if each not in seen]
            seen.update(called)


def _as_model(path: Path, name: str) -> keras.Model:
    """Load a signature, make its variables constants, and wrap it."""
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    loaded = tf.saved_model.load(str(path))  # owns the variables until they are constants
    signature = loaded.signatures[name]
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1:
        raise InputError(f"{path} has {len(inputs)} inputs ({', '.join(inputs)}); a classifier takes one, the picture")
    ((_, spec),) = inputs.items()
    if spec.shape.rank is None or (not spec.dtype.is_floating and not spec.dtype.is_integer):
        raise InputError(f"expected a SavedModel of pictures (n, height, width, channels), {path} takes {spec}")
    frozen = convert_variables_to_constants_v2(signature)
    outputs = dict(zip(sorted(signature.structured_outputs), frozen.outputs, strict=True))
    layer = _serving_layer(frozen, {key: tensor.name for key, tensor in outputs.items()}, spec)
    image = keras.Input(tuple(spec.shape[1:]), name="image")
    return keras.Model(image, layer(image), name=path.name.replace("/", "_") or "saved_model")


def _serving_layer(frozen: Any, outputs: dict[str, str], spec: Any) -> keras.Layer:
    """Make a layer of a frozen graph whose outputs are named."""
    import keras
    import tensorflow as tf

    batch = spec.shape[0]
    traced = _Graph(_without(frozen.graph.as_graph_def(), "_output_shapes"), frozen.inputs[0].name, outputs)
    lifted = traced if batch is None else replace(traced, definition=_for_any_batch(traced.definition, frozen.graph, batch))
    alone = batch is not None and not _serves_any_batch(lifted.function(), traced.function(), spec)
    if alone and batch != 1:
        raise InputError(f"it takes exactly {batch} pictures at a time; save it for any number of them (None)")
    graph = traced if alone else lifted
    compiled, plain = graph.function(), graph.inlined(spec if alone else tf.TensorSpec((None, *spec.shape[1:]), spec.dtype))

    class Serving(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
        """The graph of a SavedModel, its weights among its constants."""

        constants = _count_constants(graph.definition)

        def __init__(self) -> None:
            super().__init__(name="saved_model", trainable=False)

        def call(self, image: Any) -> dict[str, Any]:
            return self._serve(image, compiled)

        def traced(self, image: Any) -> dict[str, Any]:
            """Serve without functions that are called, such as those that XLA compiles: no converter looks into them."""
            return self._serve(image, plain)

        def _serve(self, image: Any, function: Any) -> dict[str, Any]:
            values = tf.cast(image, spec.dtype)
            if alone and values.shape[0] != 1:
                one = tf.function(lambda value: {key: each[0] for key, each in function(value[None]).items()})
                found = tf.map_fn(one, values, fn_output_signature=dict.fromkeys(outputs, tf.float32))
            else:
                found = tf.function(function)(values)
            return {key: tf.cast(value, tf.float32) for key, value in found.items()}

    return Serving()


@dataclass(frozen=True, eq=False)
class _Graph:
    """The definition of a graph without variables, with the names of its input and, by their own names, of its outputs."""

    definition: Any
    start: str
    outputs: dict[str, str]

    def function(self) -> Callable[[Any], dict[str, Any]]:
        """Return a function of a tensor that puts the graph behind it."""
        import tensorflow as tf
        from tensorflow.python.eager import context

        definition = _named_apart(self.definition)
        for function in definition.library.function:  # what calls them may run in another graph than it was made in
            if not context.context().has_function(function.signature.name):
                context.context().add_function_def(function)

        def served(values: Any) -> dict[str, Any]:
            found = tf.graph_util.import_graph_def(definition, {self.start: values}, list(self.outputs.values()), name="")
            return dict(zip(self.outputs, found, strict=True))

        return served

    def inlined(self, spec: Any) -> Callable[[Any], dict[str, Any]]:
        """Return the same function without calls of other functions in it, nor what XLA compiles."""
        import tensorflow as tf
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        if not self.definition.library.function:
            return self.function()
        plain = replace(self, definition=_without(self.definition, "_XlaMustCompile", "_noinline"))
        concrete = tf.function(plain.function()).get_concrete_function(spec)
        frozen = convert_variables_to_constants_v2(concrete, aggressive_inlining=True)
        names = {key: tensor.name for key, tensor in zip(sorted(self.outputs), frozen.outputs, strict=True)}
        definition = _without(frozen.graph.as_graph_def(), "_output_shapes")
        return _Graph(definition, frozen.inputs[0].name, {key: names[key] for key in self.outputs}).function()


def _without(graph: Any, *attributes: str) -> Any:
    """Return a graph whose nodes and functions lack some attributes."""
    changed = type(graph)()
    changed.CopyFrom(graph)
    functions = changed.library.function
    for holder in (*changed.node, *functions, *(node for function in functions for node in function.node_def)):
        for attribute in attributes:
            holder.attr.pop(attribute, None)
    return changed


def _named_apart(graph: Any) -> Any:
    """Return a graph whose functions bear names of its own: TensorFlow knows each name once a process."""
    changed = type(graph)()
    changed.CopyFrom(graph)
    mark = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()[:12]
    names = {function.signature.name: f"{function.signature.name}_{mark}" for function in graph.library.function}
    functions = changed.library.function
    for function in functions:
        function.signature.name = names[function.signature.name]
    for node in (*changed.node, *(node for function in functions for node in function.node_def)):
        node.op = names.get(node.op, node.op)
        for attribute in node.attr.values():
            called = [attribute.func] if attribute.HasField("func") else list(attribute.list.func)
            for each in called:
                each.name = names.get(each.name, each.name)
    return changed


def _for_any_batch(graph: Any, traced: Any, batch: int) -> Any:
    """Return a graph whose reshapes do not say for how many pictures it was traced."""
    import tensorflow as tf

    changed = type(graph)()
    changed.CopyFrom(graph)
    nodes = {node.name: node for node in changed.node}
    for reshape in [node for node in changed.node if node.op == "Reshape"]:
        shape = nodes.get(reshape.input[1].split(":")[0])
        if shape is None or shape.op != "Const":
            continue
        sides = tf.make_ndarray(shape.attr["value"].tensor).reshape(-1).tolist()
        source = reshape.input[0] if ":" in reshape.input[0] else f"{reshape.input[0]}:0"
        count = traced.get_tensor_by_name(source).shape.num_elements()
        if len(sides) < 2 or sides[0] != batch or count is None:
            continue
        known = int(np.prod([side for side in sides[1:] if side > 0]))
        sides = [-1, *(side if side > 0 else count // batch // known for side in sides[1:])]
        made = changed.node.add()
        made.CopyFrom(shape)
        made.name = f"{reshape.name}/any_batch"
        made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(sides, shape.attr["dtype"].type))
        reshape.input[1] = made.name
    return changed


def _serves_any_batch(lifted: Any, traced: Any, spec: Any) -> bool:
    """Compare what a graph of lifted reshapes gives to twice as many pictures with what the traced one gives to each half."""
    import tensorflow as tf

    count = spec.shape[0]
    values = np.random.default_rng(0).uniform(0, 255, (2 * count, *spec.shape[1:])).astype(spec.dtype.as_numpy_dtype)
    try:
        together = tf.function(lifted)(tf.constant(values))
        halves = [tf.function(traced)(tf.constant(half)) for half in (values[:count], values[count:])]
    except (tf.errors.OpError, ValueError, TypeError):
        return False
    apart = {key: np.concatenate([np.asarray(half[key]) for half in halves]) for key in together}
    return all(
        each.shape == apart[key].shape and np.allclose(each, apart[key], rtol=1e-4, atol=1e-4) for key, each in together.items()
    )


def _count_constants(graph: Any) -> int:
    """Count the numbers that a graph's floating-point constants hold: its weights."""
    import tensorflow as tf

    sizes = [node.attr["value"].tensor for node in graph.node if node.op == "Const"]
    return sum(
        int(np.prod([side.size for side in each.tensor_shape.dim], dtype=np.int64))
        for each in sizes
        if tf.dtypes.as_dtype(each.dtype).is_floating
    )


def _try_apart(path: Path) -> None:
    """Load and serve a trusted model in a child process first: it can crash or hang one."""
    import subprocess
    import sys

    command = [sys.executable, "-P", "-m", "edgecnn_export.saved_models", str(path)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{path} did not load and serve a picture within {TIMEOUT_S} s") from error
    if child.returncode < 0:
        raise InputError(f"{path} crashes TensorFlow (signal {-child.returncode})")
    if child.returncode > 0:
        lines = child.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InputError(lines[-1] if lines else f"{path} does not load (exit code {child.returncode})")


TIMEOUT_S = 300


def _serve_once(path: Path) -> None:
    from edgecnn_export.frameworks import require_keras

    require_keras()
    model = _as_model(path, _signature_name(_read(path), path))
    sides = [side or 32 for side in model.input_shape[1:]]
    model.predict(np.zeros((1, *sides), np.float32), verbose=0)


if __name__ == "__main__":
    import sys

    try:
        _serve_once(Path(sys.argv[1]))
    except Exception as problem:  # one line for the process that asked, whatever it is
        sys.exit(" ".join(str(problem).split())[:500] or type(problem).__name__)
