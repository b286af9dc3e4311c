"""The contract in an `.onnx`: one `metadata_props` entry at the end of the file, read and written without the onnx package.

A ModelProto is a sequence of tagged fields, and fields may simply be appended (Protocol Buffers, "Encoding"); entry
`metadata_props` is field 14, each a StringStringEntryProto {1: key, 2: value} (onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn.errors import ContractError

CONTRACT_NAME, SIGNATURE_NAME = "edgecnn", "edgecnn_signature"
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2
# Where tensors can stand, by the field numbers of onnx.proto: what a message of each kind holds.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14


def split(data: bytes) -> tuple[bytes, bytes | None]:
    """Separate a file's bytes into the model and its contract JSON, None where it carries none.

    Bytes that are no sequence of protobuf fields come back whole, without a contract.
    """
    model, ours = unpack(data)
    return model, ours.get(CONTRACT_NAME)


def join(model: bytes, contract_json: bytes, *, signature: bytes | None = None) -> bytes:
    """Append the contract, and a signature where there is one, to a model that carries none."""
    ours = {CONTRACT_NAME: contract_json} | ({} if signature is None else {SIGNATURE_NAME: signature.hex().encode()})
    entries = [_delimited(_KEY, key.encode()) + _delimited(_VALUE, value) for key, value in ours.items()]
    return model + b"".join(_delimited(_METADATA_PROPS, entry) for entry in entries)


def check_self_contained(model: bytes) -> None:
    """Raise ContractError when a tensor, in whatever graph, attribute or function, has its data in another file.

    No digest and no signature is over that file, and it would be read from wherever the process stands.
    """
    found = None
    try:
        found = next(_tensors_elsewhere(model), None)
    except _MalformedError as error:
        raise ContractError(f"the file is damaged: {error}") from error
    if found is not None:
        raise ContractError(
            f"the tensor {found!r} has its data in another file, which no digest covers; save the model with all data inside"
        )


def _tensors_elsewhere(model: bytes) -> Iterator[str]:
    """Yield the name of each tensor that is not in the model itself."""
    waiting = [("model", 0, len(model))]
    while waiting:
        kind, start, end = waiting.pop()
        if kind == "tensor":
            numbers = {number: model[at:until] for number, _, at, until in _fields(model, start, end)}
            # EXTERNAL is 1, and whatever else is not 0 (DEFAULT) is none of the places that we know.
            if _EXTERNAL_DATA in numbers or any(numbers.get(_DATA_LOCATION, b"")):
                yield numbers.get(_TENSOR_NAME, b"").decode("utf-8", "replace")
            continue
        inside = _MESSAGES[kind]
        waiting += [(inside[n], at, until) for n, _, at, until in _fields(model, start, end) if n in inside]


def unpack(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Separate the model from the entries that are ours, by their keys."""
    model, ours = bytearray(), dict[str, bytes]()
    try:
        for number, start, content, end in _fields(data):
            key, value = _entry(data[content:end]) if number == _METADATA_PROPS else (b"", b"")
            if key not in (CONTRACT_NAME.encode(), SIGNATURE_NAME.encode()):
                model += data[start:end]
                continue
            if key.decode() in ours:
                raise ContractError("the file carries two contracts or two signatures")
            ours[key.decode()] = value if key == CONTRACT_NAME.encode() else _from_hex(value)
    except _MalformedError as error:
        if b'"contract_sha256"' in data:
            raise ContractError(f"the file is damaged: {error}") from error
        return data, {}
    return bytes(model), ours


def _from_hex(value: bytes) -> bytes:
    # The entry's value is text by its type, and the onnx package refuses what is no UTF-8.
    try:
        return bytes.fromhex(value.decode())
    except ValueError as error:
        raise ContractError("the file's signature is damaged") from error


class _MalformedError(Exception):
    """The bytes are no sequence of protobuf fields."""


def _fields(data: bytes, at: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, start, start of the content, end) of each field of the message from `at` to `end`."""
    end = len(data) if end is None else end
    while at < end:
        start = at
        tag, at = _varint(data, at)
        content = at
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                length, content = _varint(data, at)
                at = content + length
            case 5:
                at += 4
            case wire_type:
                raise _MalformedError(f"unknown wire type {wire_type} at byte {start}")
        # Field 0 is none, and readers take 32 bits of a tag: what is longer would be another field to them than to us.
        if not 0 < tag >> 3 < 2**29:
            raise _MalformedError(f"no field has the number {tag >> 3} at byte {start}")
        if at > end:
            raise _MalformedError(f"a field at byte {start} ends beyond what holds it")
        yield tag >> 3, start, content, at


def _entry(data: bytes) -> tuple[bytes, bytes]:
    parts = {number: data[content:end] for number, _, content, end in _fields(data)}
    return parts.get(_KEY, b""), parts.get(_VALUE, b"")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError(f"a number at byte {at} has no end")


def _delimited(number: int, content: bytes) -> bytes:
    return _encode_varint(number << 3 | 2) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
