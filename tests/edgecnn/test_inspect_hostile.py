"""`inspect` on files whose digests are right and whose insides are anything: what it shows, or one line."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forging import absurd, sealed
from hostile_models import crashing, endless, endless_onnx, rebuilt, with_model
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import join_bytes
from edgecnn.artifacts.operators import read_graph
from edgecnn.cli.main import main
from edgecnn.errors import ArtifactError
from edgecnn.runtimes.probe import describe

Said = pytest.CaptureFixture[str]


def inspect(path: Path, capsys: Said, *, as_json: bool = False) -> int:
    """Run the command; return its exit code after a look at what it said."""
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(path), *(["--json"] if as_json else [])])
    said = capsys.readouterr()
    if ended.value.code == 0:
        assert said.err == ""
        assert not as_json or isinstance(json.loads(said.out), dict)
        assert all(line.isprintable() for line in said.out.splitlines())
    else:
        assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert said.err.startswith("edgecnn: ")
    return int(ended.value.code or 0)


def tensor(parsed: Any, number: int = 0) -> Any:
    return parsed.subgraphs[0].tensors[number]


def set_tensors(parsed: Any, **values: Any) -> None:
    for each in parsed.subgraphs[0].tensors:
        for name, value in values.items():
            setattr(each, name, value)


def set_operators(parsed: Any, **values: Any) -> None:
    for each in parsed.subgraphs[0].operators:
        for name, value in values.items():
            setattr(each, name, value)


CHANGES: dict[str, Callable[[Any], None]] = {
    "tensors of buffers that are not there": lambda parsed: set_tensors(parsed, buffer=100_000),
    "tensors of an unknown type": lambda parsed: set_tensors(parsed, type=99),
    "operators that are not there": lambda parsed: set_operators(parsed, opcodeIndex=5000),
    "inputs that are not there": lambda parsed: set_operators(parsed, inputs=[100_000]),
    "negative inputs": lambda parsed: set_operators(parsed, inputs=[-7]),
    "outputs that are not there": lambda parsed: set_operators(parsed, outputs=[99_999]),
    "no outputs": lambda parsed: set_operators(parsed, outputs=None),
    "no graphs": lambda parsed: setattr(parsed, "subgraphs", []),
    "no graphs at all": lambda parsed: setattr(parsed, "subgraphs", None),
    "no operators": lambda parsed: setattr(parsed.subgraphs[0], "operators", None),
    "no tensors": lambda parsed: setattr(parsed.subgraphs[0], "tensors", None),
    "no buffers": lambda parsed: setattr(parsed, "buffers", None),
    "an operator of the future": lambda parsed: [setattr(code, "builtinCode", 5000) for code in parsed.operatorCodes] and None,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_flatbuffer_that_contradicts_itself_is_no_traceback(
    tiny_tflite_artifact: Artifact, tmp_path: Path, change: str, capsys: Said
) -> None:
    path = tmp_path / "x.tflite"
    with_model(tiny_tflite_artifact, rebuilt(tiny_tflite_artifact.model, CHANGES[change])).save(path)

    inspect(path, capsys)


def test_what_the_child_reads_is_what_is_there(tiny_artifact: Artifact, capsys: Said) -> None:
    graph = describe(tiny_artifact)

    assert graph == read_graph(tiny_artifact.model, tiny_artifact.format)
    assert graph.operators
    assert inspect(tiny_artifact.path, capsys) == 0


@pytest.mark.parametrize("data", [b"", b"\x08\0\0\0TFL3", b"\xff\xff\xff\x7fTFL3", b"\x04\0\0\0" * 400, os.urandom(7000)])
def test_a_model_that_is_no_flatbuffer_is_one_line(
    tiny_tflite_artifact: Artifact, tmp_path: Path, data: bytes, capsys: Said
) -> None:
    with_model(tiny_tflite_artifact, data).save(tmp_path / "x.tflite")

    assert inspect(tmp_path / "x.tflite", capsys) == 2


def test_models_that_never_end_or_crash_do_no_harm_to_who_looks_at_them(
    tiny_tflite_artifact: Artifact, tiny_onnx_artifact: Artifact, tmp_path: Path, capsys: Said
) -> None:
    for name, artifact in {
        "a.tflite": endless(tiny_tflite_artifact),
        "b.tflite": crashing(tiny_tflite_artifact),
        "c.onnx": endless_onnx(tiny_onnx_artifact),
    }.items():
        artifact.save(tmp_path / name)
        inspect(tmp_path / name, capsys)


def test_a_vector_that_claims_four_billion_entries_costs_neither_time_nor_memory(
    tiny_tflite_artifact: Artifact, tmp_path: Path
) -> None:
    model = bytearray(tiny_tflite_artifact.model)
    for at in range(0, len(model) - 4, 4):  # wherever a small count could stand
        if 0 < int.from_bytes(model[at : at + 4], "little") < 9:
            model[at : at + 4] = b"\xff\xff\xff\x7f"
    started_s = time.monotonic()

    with pytest.raises(ArtifactError):
        describe(with_model(tiny_tflite_artifact, bytes(model)), timeout_s=3)

    assert time.monotonic() - started_s < 20


@settings(max_examples=60)
@given(data=st.data())
def test_no_mutation_of_a_model_is_a_traceback(
    tiny_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    model = bytearray(tiny_artifact.model)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(model) - 1))
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        model[at : at + size] = data.draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80", b"\x01"])) * size
    artifact = with_model(tiny_artifact, bytes(model))
    path = tmp_path_factory.getbasetemp() / f"mutated.{tiny_artifact.format}"
    artifact.save(path)

    try:
        describe(Artifact.open(path), timeout_s=20)
    except ArtifactError as error:
        assert "\n" not in str(error)


def test_no_absurd_contract_is_a_traceback(tiny_artifact: Artifact, tmp_path: Path, capsys: Said) -> None:
    rng, body, codes = random.Random(0), json.loads(tiny_artifact.contract.to_json()), set()
    path = tmp_path / f"x.{tiny_artifact.format}"
    for number in range(120):
        contract = sealed(absurd(body, rng))
        path.write_bytes(join_bytes(tiny_artifact.model, contract, tiny_artifact.contract.labels, tiny_artifact.format))
        codes.add(inspect(path, capsys, as_json=bool(number % 2)))

    assert codes == {0, 2}


@settings(max_examples=150)
@given(data=st.data())
def test_no_mutation_of_the_archive_is_a_traceback(
    tiny_tflite_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(tiny_tflite_artifact.path.read_bytes())
    start = len(tiny_tflite_artifact.model)
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(start, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "archive.tflite"
    path.write_bytes(whole)

    try:
        Artifact.open(path)
    except ArtifactError as error:
        assert "\n" not in str(error)
