"""A damaged or foreign file is refused by one clear error before native code sees it, or the damage changed nothing."""

from __future__ import annotations

import io
import lzma
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecnn.artifacts import Artifact, onnx_file, tflite_file
from edgecnn.artifacts.artifact import join
from edgecnn.artifacts.contract import MAX_JSON_BYTES
from edgecnn.errors import ArtifactError, ContractError, DigestError

Saver = Callable[[bytes, str], Path]


def _is_refused_or_harmless(data: bytes, original: Artifact) -> bool:
    try:
        opened = Artifact.read(data, original.path)
    except ArtifactError:
        return True
    return opened.model == original.model and opened.contract == original.contract


@pytest.mark.parametrize("shift", [0, 3])
def test_no_single_flipped_bit_goes_unnoticed(tiny_artifact: Artifact, shift: int) -> None:
    data = bytearray(tiny_artifact.path.read_bytes())

    unnoticed = []
    for at in range(len(data)):
        data[at] ^= 1 << (at + shift) % 8
        if not _is_refused_or_harmless(bytes(data), tiny_artifact):
            unnoticed.append(at)
        data[at] ^= 1 << (at + shift) % 8

    assert unnoticed == []


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(st.tuples(st.integers(0, 2**31), st.binary(min_size=1, max_size=12)), min_size=1, max_size=6))
def test_no_handful_of_overwritten_places_goes_unnoticed(tiny_artifact: Artifact, damage: list[tuple[int, bytes]]) -> None:
    data = bytearray(tiny_artifact.path.read_bytes())
    for at, content in damage:
        data[at % len(data) : at % len(data) + len(content)] = content

    assert _is_refused_or_harmless(bytes(data), tiny_artifact)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 255)), min_size=1, max_size=8))
def test_no_flips_in_the_directory_of_the_zip_tail_escape_as_another_error(
    tiny_tflite_artifact: Artifact, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(tiny_tflite_artifact.path.read_bytes())
    for at, mask in flips:
        data[len(data) - 1 - at % 220] ^= mask

    assert _is_refused_or_harmless(bytes(data), tiny_tflite_artifact)


def test_every_cut_is_refused(tiny_artifact: Artifact, save_altered: Saver) -> None:
    data = tiny_artifact.path.read_bytes()

    for length in {*range(0, len(data), 64), *range(len(data) - 70, len(data))}:
        path = save_altered(data[:length], tiny_artifact.format)
        with pytest.raises(ArtifactError, match=r"contract|damaged"):
            Artifact.open(path)


def test_an_untouched_artifact_opens_as_it_was_saved(tiny_artifact: Artifact) -> None:
    opened = Artifact.open(tiny_artifact.path)

    assert (opened.model, opened.contract) == (tiny_artifact.model, tiny_artifact.contract)


def test_saving_twice_gives_the_same_bytes(tiny_artifact: Artifact, tmp_path: Path) -> None:
    again = tmp_path / tiny_artifact.path.name

    tiny_artifact.save(again)

    assert again.read_bytes() == tiny_artifact.path.read_bytes()


def test_the_contract_of_another_model_is_refused(tiny_artifact: Artifact, save_altered: Saver) -> None:
    other = replace(tiny_artifact.contract, model_sha256="0" * 64)
    path = save_altered(join(tiny_artifact.model, other, tiny_artifact.format), tiny_artifact.format)

    with pytest.raises(DigestError, match="damaged or altered"):
        Artifact.open(path)


def test_a_model_without_contract_says_what_to_do(tiny_artifact: Artifact, save_altered: Saver) -> None:
    path = save_altered(tiny_artifact.model, tiny_artifact.format)

    with pytest.raises(ContractError, match=r"carries no edgecnn contract: .*(--labels a,b,c|export this one with edgecnn)"):
        Artifact.open(path)


def test_a_second_contract_behind_the_first_is_refused(tiny_artifact: Artifact, save_altered: Saver) -> None:
    twice = join(tiny_artifact.path.read_bytes(), tiny_artifact.contract, tiny_artifact.format)

    with pytest.raises(ArtifactError, match=r"two contracts|altered"):
        Artifact.open(save_altered(twice, tiny_artifact.format))


@pytest.mark.parametrize("name", ["model.tflite", "model.onnx"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff" * 100, b"PK\5\6" + b"\0" * 18, b"hello\n" * 50])
def test_a_foreign_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ContractError, match="no edgecnn contract"):
        Artifact.open(tmp_path / name)


def test_a_file_of_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"neither \.tflite nor \.onnx"):
        Artifact.open(tmp_path / "model.h5")


def test_a_rejected_artifact_still_opens(tiny_artifact: Artifact, tmp_path: Path) -> None:
    rejected = tmp_path / (tiny_artifact.path.name + ".rejected")
    rejected.write_bytes(tiny_artifact.path.read_bytes())

    assert Artifact.open(rejected).format == tiny_artifact.format


def _zip(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return tail.getvalue()


def test_two_contracts_in_one_archive_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        tail = _zip(("edgecnn.json", b"{}"), ("edgecnn.json", b"{}"))

    with pytest.raises(ContractError, match="two contracts"):
        tflite_file.split(b"model" + tail)


def _bomb_that_lies(size: int) -> bytes:
    """Return a ZIP whose directory says 2 bytes for an entry that unpacks to `size`."""
    tail = bytearray(_zip(("edgecnn.json", b"\0" * size)))
    for signature, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", tail, tail.index(signature) + at, 2)
    return bytes(tail)


@pytest.mark.parametrize("bomb", [_zip(("edgecnn.json", b"\0" * 2**26)), _bomb_that_lies(2**26)], ids=["honest", "lying"])
def test_a_zip_bomb_never_unfolds(bomb: bytes) -> None:
    tracemalloc.start()

    with pytest.raises(ContractError):
        tflite_file.split(b"model" + bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 8 * MAX_JSON_BYTES


def test_methods_that_python_unpacks_without_bound_are_refused() -> None:
    bomb = _zip(("edgecnn.json", b"\0" * 2**20), method=zipfile.ZIP_LZMA)

    with pytest.raises(ContractError, match="method 14"):
        tflite_file.split(bomb)


def test_a_damaged_lzma_stream_is_no_traceback() -> None:
    assert not issubclass(lzma.LZMAError, OSError)  # the reason why the method is refused before it is tried
    bomb = bytearray(_zip(("edgecnn.json", b"{}" * 50), method=zipfile.ZIP_LZMA))
    bomb[60:70] = b"\xff" * 10

    with pytest.raises(ContractError):
        tflite_file.split(bytes(bomb))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300))
def test_no_bytes_at_all_make_the_onnx_reader_stumble(data: bytes) -> None:
    try:
        model, contract = onnx_file.split(data)
    except ContractError:
        return

    assert contract is not None or model == data


@settings(max_examples=300, deadline=None)
@given(model=st.lists(st.tuples(st.integers(1, 13), st.binary(max_size=40)), max_size=6), contract=st.binary(max_size=300))
def test_an_onnx_contract_survives_the_round_trip(model: list[tuple[int, bytes]], contract: bytes) -> None:
    fields = b"".join(bytes([number << 3 | 2, len(content)]) + content for number, content in model)

    assert onnx_file.split(onnx_file.join(fields, contract)) == (fields, contract)


@settings(max_examples=300, deadline=None)
@given(model=st.binary(max_size=300).filter(lambda data: b"PK" not in data), contract=st.binary(max_size=300))
def test_a_tflite_contract_survives_the_round_trip(model: bytes, contract: bytes) -> None:
    assert tflite_file.split(tflite_file.join(model, contract, ("a", "b"))) == (model, contract)


def test_the_onnx_package_reads_what_we_append(tiny_onnx_artifact: Artifact) -> None:
    import onnx

    model = onnx.load(str(tiny_onnx_artifact.path))

    onnx.checker.check_model(model)
    assert {entry.key: entry.value.encode() for entry in model.metadata_props} == {
        "author": b"somebody else",
        "edgecnn": tiny_onnx_artifact.contract.to_json(),
    }


def test_we_read_what_the_onnx_package_writes_again(tiny_onnx_artifact: Artifact, tmp_path: Path) -> None:
    import onnx

    again = tmp_path / "again.onnx"

    onnx.save(onnx.load(str(tiny_onnx_artifact.path)), str(again))

    assert Artifact.open(again).contract == tiny_onnx_artifact.contract


def test_standard_tools_list_the_contract_of_a_tflite(tiny_tflite_artifact: Artifact) -> None:
    with zipfile.ZipFile(tiny_tflite_artifact.path) as archive:
        assert archive.namelist() == ["edgecnn.json", "labels.txt"]
        assert archive.testzip() is None


def test_labels_stand_one_a_line(tiny_tflite_artifact: Artifact) -> None:
    with zipfile.ZipFile(tiny_tflite_artifact.path) as archive:
        lines = archive.read("labels.txt").decode().splitlines()

    assert tuple(lines) == tiny_tflite_artifact.contract.labels
