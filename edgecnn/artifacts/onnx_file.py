"""The contract in an `.onnx`: one `metadata_props` entry at the end of the file, read and written without the onnx package.

A ModelProto is a sequence of tagged fields, and fields may simply be appended (Protocol Buffers, "Encoding"); entry
`metadata_props` is field 14, each a StringStringEntryProto {1: key, 2: value} (onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn.errors import ContractError

KEY = "edgecnn"
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2


def split(data: bytes) -> tuple[bytes, bytes | None]:
    """Separate a file's bytes into the model and its contract JSON, None where it carries none.

    Bytes that are no sequence of protobuf fields come back whole, without a contract.
    """
    model, contract = bytearray(), None
    try:
        for number, start, content, end in _fields(data):
            if number == _METADATA_PROPS and (entry := _entry(data[content:end]))[0] == KEY.encode():
                if contract is not None:
                    raise ContractError("the file carries two contracts")
                contract = entry[1]
            else:
                model += data[start:end]
    except _MalformedError as error:
        if b'"contract_sha256"' in data:
            raise ContractError(f"the file is damaged: {error}") from error
        return data, None
    return bytes(model), contract


def join(model: bytes, contract_json: bytes) -> bytes:
    """Append the contract to a model that carries none."""
    entry = _delimited(_KEY, KEY.encode()) + _delimited(_VALUE, contract_json)
    return model + _delimited(_METADATA_PROPS, entry)


class _MalformedError(Exception):
    """The bytes are no sequence of protobuf fields."""


def _fields(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (field number, start, start of the content, end) of each top-level field."""
    at = 0
    while at < len(data):
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
        if at > len(data):
            raise _MalformedError(f"a field at byte {start} ends beyond the file")
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
