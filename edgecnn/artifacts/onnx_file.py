"""The contract in an `.onnx`: one `metadata_props` entry at the end of the file, read and written without the onnx package.

A ModelProto is a sequence of tagged fields, and fields may simply be appended (Protocol Buffers, "Encoding"); entry
`metadata_props` is field 14, each a StringStringEntryProto {1: key, 2: value} (onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterator

from edgecnn.errors import ContractError

KEY, SIGNATURE_KEY = "edgecnn", "edgecnn_signature"
_METADATA_PROPS, _KEY, _VALUE = 14, 1, 2


def split(data: bytes) -> tuple[bytes, bytes | None]:
    """Separate a file's bytes into the model and its contract JSON, None where it carries none.

    Bytes that are no sequence of protobuf fields come back whole, without a contract.
    """
    model, ours = _parts(data)
    return model, ours.get(KEY)


def read_signature(data: bytes) -> bytes | None:
    """Return the signature that a file carries, None where it carries none."""
    return _parts(data)[1].get(SIGNATURE_KEY)


def join(model: bytes, contract_json: bytes, *, signature: bytes | None = None) -> bytes:
    """Append the contract, and a signature where there is one, to a model that carries none."""
    ours = {KEY: contract_json} | ({} if signature is None else {SIGNATURE_KEY: signature.hex().encode()})
    entries = [_delimited(_KEY, key.encode()) + _delimited(_VALUE, value) for key, value in ours.items()]
    return model + b"".join(_delimited(_METADATA_PROPS, entry) for entry in entries)


def _parts(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Separate the model from the entries that are ours, by their keys."""
    model, ours = bytearray(), dict[str, bytes]()
    try:
        for number, start, content, end in _fields(data):
            key, value = _entry(data[content:end]) if number == _METADATA_PROPS else (b"", b"")
            if key not in (KEY.encode(), SIGNATURE_KEY.encode()):
                model += data[start:end]
                continue
            if key.decode() in ours:
                raise ContractError("the file carries two contracts or two signatures")
            ours[key.decode()] = value if key == KEY.encode() else _from_hex(value)
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
