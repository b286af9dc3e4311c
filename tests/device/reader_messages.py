"""What the reader process writes, taken apart."""

from __future__ import annotations

from edgecnn_device.sources.process import HEADER


def split(data: bytes) -> list[tuple[bytes, bytes]]:
    messages = []
    while data:
        kind, length, *_ = HEADER.unpack(data[: HEADER.size])
        messages.append((kind, data[HEADER.size : HEADER.size + length]))
        data = data[HEADER.size + length :]
    return messages
