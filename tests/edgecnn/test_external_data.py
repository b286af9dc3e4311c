"""A model whose weights stand in another file is refused: no digest and no signature is over that file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.onnx_file import check_self_contained
from edgecnn.cli.main import main
from edgecnn.errors import ContractError, EdgecnnError
from edgecnn.sign import sign_file

Place = Callable[[Any, Any], None]


def elsewhere(name: str = "outside") -> Any:
    """Return a tensor whose data stands in a file."""
    tensor = numpy_helper.from_array(np.zeros((16, 3), np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "outside.bin"
    return tensor


def graph_of(tensor: Any) -> Any:
    return helper.make_graph([], "inner", [], [], [tensor])


def branch(graph: Any) -> Any:
    return helper.make_node("If", ["c"], ["o"], then_branch=graph, else_branch=graph)


def sparse(tensor: Any) -> Any:
    return helper.make_sparse_tensor(tensor, numpy_helper.from_array(np.zeros(1, np.int64)), [16, 3])


def function(node: Any) -> Any:
    return helper.make_function("own", "f", [], ["o"], [node], [helper.make_opsetid("", 18)])


def constant(**attribute: Any) -> Any:
    return helper.make_node("Constant", [], ["o"], **attribute)


def in_attribute_default(model: Any, tensor: Any) -> None:
    made = function(constant(value_int=1))
    made.attribute_proto.append(helper.make_attribute("a", tensor))
    model.functions.append(made)


def in_training(model: Any, tensor: Any) -> None:
    model.training_info.add().initialization.CopyFrom(graph_of(tensor))


PLACES: dict[str, Place] = {
    "an initializer": lambda model, tensor: model.graph.initializer.append(tensor),
    "a sparse initializer": lambda model, tensor: model.graph.sparse_initializer.append(sparse(tensor)),
    "an attribute": lambda model, tensor: model.graph.node.append(constant(value=tensor)),
    "a sparse attribute": lambda model, tensor: model.graph.node.append(constant(sparse_value=sparse(tensor))),
    "a list of tensors": lambda model, tensor: model.graph.node.append(constant(tensors=[tensor])),
    "a branch": lambda model, tensor: model.graph.node.append(branch(graph_of(tensor))),
    "a branch of a branch": lambda model, tensor: model.graph.node.append(
        branch(helper.make_graph([branch(graph_of(tensor))], "g", [], []))
    ),
    "a list of graphs": lambda model, tensor: model.graph.node.append(constant(graphs=[graph_of(tensor)])),
    "a function": lambda model, tensor: model.functions.append(function(constant(value=tensor))),
    "a default of a function": in_attribute_default,
    "a training graph": in_training,
}


def altered(artifact: Artifact, path: Path, change: Callable[[Any], None]) -> Path:
    """Save the artifact with another model under a contract whose digests are right."""
    model = onnx.load_from_string(artifact.model)
    change(model)
    data = model.SerializeToString()
    contract = replace(artifact.contract, model_sha256=hashlib.sha256(data).hexdigest())
    Artifact(path, data, contract).save(path)
    return path


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_with_its_data_in_another_file_is_refused_wherever_it_stands(
    tiny_onnx_artifact: Artifact, tmp_path: Path, place: str
) -> None:
    path = altered(tiny_onnx_artifact, tmp_path / "x.onnx", lambda model: PLACES[place](model, elsewhere()))

    with pytest.raises(ContractError, match=r"x\.onnx: the tensor 'outside' has its data in another file"):
        Artifact.open(path)


def test_a_location_alone_and_a_place_that_nobody_knows_are_refused(tiny_onnx_artifact: Artifact, tmp_path: Path) -> None:
    for field, value in (("external_data", None), ("data_location", 1)):
        tensor = numpy_helper.from_array(np.zeros(3, np.float32), "odd")
        tensor.external_data.add() if value is None else setattr(tensor, field, value)

        with pytest.raises(ContractError, match="'odd' has its data in another file"):
            Artifact.open(altered(tiny_onnx_artifact, tmp_path / "x.onnx", lambda m, t=tensor: m.graph.initializer.append(t)))


def test_a_location_that_says_that_the_data_is_inside_is_fine(tiny_onnx_artifact: Artifact, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.graph.initializer[0].data_location = TensorProto.DEFAULT

    assert Artifact.open(altered(tiny_onnx_artifact, tmp_path / "x.onnx", change)).contract.task == "steel"


@pytest.mark.parametrize("command", ["verify", "inspect", "sign"])
def test_no_command_reads_the_other_file(
    tiny_onnx_artifact: Artifact,
    tmp_path: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside.bin").write_bytes(bytes(192))
    path = altered(tiny_onnx_artifact, tmp_path / "x.onnx", lambda model: PLACES["an initializer"](model, elsewhere()))
    os.utime(path, (0, 0))

    with pytest.raises(SystemExit) as ended:
        main([command, str(path), *(["--key", "key.pem"] if command == "sign" else [])])

    assert (ended.value.code, path.stat().st_mtime) == (2, 0)
    assert "has its data in another file" in capsys.readouterr().err


def test_signing_refuses_it_before_it_looks_for_a_key(tiny_onnx_artifact: Artifact, tmp_path: Path) -> None:
    path = altered(tiny_onnx_artifact, tmp_path / "x.onnx", lambda model: PLACES["a function"](model, elsewhere()))

    with pytest.raises(EdgecnnError, match="in another file"):
        sign_file(path, tmp_path / "no-key.pem")


def varint(value: int, *, length: int = 1) -> bytes:
    """Return a number with as many bytes as are wanted."""
    data = [value >> 7 * place & 0x7F for place in range(max(length, -(-value.bit_length() // 7)))]
    return bytes([byte | 0x80 for byte in data[:-1]] + [data[-1]])


def test_a_graph_whose_tag_is_written_with_more_bits_than_readers_take_is_not_overlooked() -> None:
    """A reader that takes 32 bits of a tag sees field 7; one that takes them all sees another."""
    graph = graph_of(elsewhere()).SerializeToString()
    with pytest.raises(ContractError, match="in another file"):
        check_self_contained(varint(7 << 3 | 2, length=5) + varint(len(graph)) + graph)

    with pytest.raises(ContractError, match="no field has the number"):
        check_self_contained(varint(1 << 32 | 7 << 3 | 2) + varint(len(graph)) + graph)


def test_a_tflite_model_that_names_other_files_is_refused(tiny_tflite_artifact: Artifact, tmp_path: Path) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tiny_tflite_artifact.model, 0))
    group = schema.ExternalBufferGroupT()
    group.name = "/etc/passwd"
    model.externalBufferGroups = [group]
    for graph in model.subgraphs:
        for holder, names in ((graph, ("inputs", "outputs")), *((op, ("inputs", "outputs")) for op in graph.operators)):
            for name in names:
                setattr(holder, name, [int(i) for i in getattr(holder, name)])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    data = bytes(builder.Output())
    contract = replace(tiny_tflite_artifact.contract, model_sha256=hashlib.sha256(data).hexdigest())
    Artifact(tmp_path / "x.tflite", data, contract).save(tmp_path / "x.tflite")

    with pytest.raises(ContractError, match="weights in another file"):
        Artifact.open(tmp_path / "x.tflite")
