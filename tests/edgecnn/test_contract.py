"""The contract survives its way through JSON, and no hostile JSON gets further than one clear error."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecnn.artifacts import Artifact, Contract
from edgecnn.artifacts.contract import MAX_JSON_BYTES, HeadInfo, TensorSpec
from edgecnn.errors import ContractError

Path = tuple[str | int, ...]


def _signed(body: Any) -> bytes:
    """Serialise a contract that somebody altered and signed anew."""
    body = {key: value for key, value in body.items() if key != "contract_sha256"}
    canonical = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return json.dumps(body | {"contract_sha256": hashlib.sha256(canonical).hexdigest()}).encode()


def _places(value: Any, path: Path = ()) -> list[Path]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


def _altered(body: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    copy: Any = json.loads(json.dumps(body))
    at = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return dict(copy)


@pytest.fixture(scope="session")
def body(tiny_onnx_artifact: Artifact) -> dict[str, Any]:
    """A contract as JSON objects."""
    return dict(json.loads(tiny_onnx_artifact.contract.to_json()))


def test_a_contract_survives_the_round_trip(tiny_artifact: Artifact) -> None:
    assert Contract.from_json(tiny_artifact.contract.to_json()) == tiny_artifact.contract


@pytest.mark.parametrize(
    ("shape", "has_map"),
    [
        ((None, 7, 7, 128), True),
        ((None, 128, 7, 7), True),  # as ONNX has it
        ((None, 1, 20, 128), True),
        ((None, 1, 1, 128), False),
        ((None, 128), False),
    ],
)
def test_features_of_several_places_are_a_map(tiny_artifact: Artifact, shape: tuple[int | None, ...], has_map: bool) -> None:
    head = HeadInfo("", (0.0,) * 3)
    contract = replace(tiny_artifact.contract, features=TensorSpec("features", "float32", shape), head=head, evidence=None)

    assert contract.has_map is has_map


def test_features_without_a_head_are_no_map(tiny_artifact: Artifact) -> None:
    features = TensorSpec("features", "float32", (None, 7, 7, 128))

    assert not replace(tiny_artifact.contract, features=features, head=None, evidence=None).has_map


def test_the_json_is_canonical(tiny_artifact: Artifact) -> None:
    data = tiny_artifact.contract.to_json()

    assert Contract.from_json(data).to_json() == data


def test_an_altered_contract_is_noticed(tiny_onnx_artifact: Artifact) -> None:
    data = tiny_onnx_artifact.contract.to_json().replace(b"inclusion", b"Inclusion")

    with pytest.raises(ContractError, match="altered after export"):
        Contract.from_json(data)


@pytest.mark.parametrize("version", [0, 1, 3, "2", None, [2]])
def test_another_format_version_is_refused_with_a_way_out(body: dict[str, Any], version: Any) -> None:
    data = _signed(body | {"format_version": version})

    with pytest.raises(
        ContractError, match=r"format version .* is not read by this edgecnn, which reads 2: export the file again"
    ):
        Contract.from_json(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe\xfd",
        b'{"format_version": 2, "task": "\xe9"}',
        b"[" * 100_000,
        b'{"format_version":' * 50_000,
        b'{"format_version": 2, "a": ' + b"9" * 5000 + b"}",
        b'{"format_version": 2, "a": "\\ud800"}',
        b'{"format_version": 2, "\\udfff": 1}',
        b'{"format_version": 2, "a": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"format_version": NaN}',
        b" " * (MAX_JSON_BYTES + 1),
    ],
)
def test_hostile_json_is_one_contract_error(data: bytes) -> None:
    with pytest.raises(ContractError) as caught:
        Contract.from_json(data)

    assert "\n" not in str(caught.value)


_HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**64, 1e308, -0.0, float("nan"), float("inf"), "\ud800", "\x1b[2J", "a\nb", ""]),
    st.text(max_size=8),
    st.lists(st.integers(-1, 300), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_signed_contract_with_any_value_anywhere_is_read_or_refused(body: dict[str, Any], data: st.DataObject) -> None:
    place = data.draw(st.sampled_from([place for place in _places(body) if place]))
    value = data.draw(_HOSTILE)

    try:
        contract = Contract.from_json(_signed(_altered(body, place, value)))
    except ContractError as error:
        assert len(str(error)) < 2000
    else:
        assert Contract.from_json(contract.to_json()) == contract


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("labels",), ["a", "b"], "2 labels but its output tensor has 3"),
        (("labels",), ["a", "b", "a"], "different labels"),
        (("labels", 1), "bad\nlabel", "control characters"),
        (("task",), "\x1b]0;owned\x07", "control characters"),
        (("title",), 7, r"contract.title is 7, expected str"),
        (("parameters",), True, "contract.parameters is True, expected int"),
        (("parameters",), 1.5, "expected int"),
        (("precision",), "int4", "expected one of"),
        (("preprocessing", "height"), 5, r"prepares \(5, 4, 1\)"),
        (("preprocessing", "fit"), "stretch", "expected one of"),
        (("input", "shape"), [], "its input is"),
        (("input", "dtype"), "complex64", "known: float32, int8, int16, uint8"),
        (("output", "shape"), [], "None classes"),
        (("output", "scale"), 0.5, "zero point None"),
        (("golden", "seeds"), [], "as many seeds"),
        (("golden", "seeds", 0), -1, "golden seeds"),
        (("golden", "seeds", 0), 2**32, "golden seeds"),
        (("golden", "artifact", 0), [0.5, 0.5], "3 probabilities each"),
        (("golden", "tolerance"), float("nan"), "NaN is not a number"),
        (("golden", "tolerance"), 10**400, "expected a finite number"),
        (("golden",), None, "expected an object"),
        (("versions",), {"edgecnn": 1}, "expected str"),
        (("surprise",), 1, "does not know 'surprise'|surprise"),
    ],
)
def test_a_signed_contract_that_makes_no_sense_is_refused_by_name(
    body: dict[str, Any], path: Path, value: Any, message: str
) -> None:
    data = _signed(_altered(body, path, value))

    with pytest.raises(ContractError, match=message):
        Contract.from_json(data)


def test_a_missing_field_is_named(body: dict[str, Any]) -> None:
    data = _signed({key: value for key, value in body.items() if key != "export_id"})

    with pytest.raises(ContractError, match="export_id"):
        Contract.from_json(data)


def test_thousands_of_golden_vectors_are_refused_before_they_are_made(body: dict[str, Any]) -> None:
    many = body["golden"] | {"seeds": [0] * 5000, "reference": [[1, 0, 0]] * 5000, "artifact": [[1, 0, 0]] * 5000}

    with pytest.raises(ContractError, match=r"1..64 golden seeds"):
        Contract.from_json(_signed(body | {"golden": many}))


def test_a_contract_without_training_data_and_calibration_is_fine(tiny_artifact: Artifact) -> None:
    bare = replace(tiny_artifact.contract, training_data=None, calibration=None)

    assert Contract.from_json(bare.to_json()) == bare


@pytest.mark.parametrize("scale", [0.0, -0.1])
def test_a_scale_must_be_above_zero(scale: float) -> None:
    with pytest.raises(ContractError, match="above 0"):
        TensorSpec("image", "int8", (None, 4), scale, 0)
