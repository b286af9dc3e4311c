"""What the reader process writes, taken apart."""

from __future__ import annotations

import os
import threading

import pytest

from edgecnn.errors import CameraError
from edgecnn.testing import JumpingClock
from edgecnn_device.sources import reader
from edgecnn_device.sources.process import HEADER, Request


def deliver(request: Request, clock: JumpingClock) -> list[tuple[bytes, bytes]]:
    """Let the reader work until its camera fails; return the kinds and contents of its messages."""
    out, into = os.pipe()
    received: list[bytes] = []
    with os.fdopen(out, "rb") as stream:
        receiver = threading.Thread(target=lambda: received.append(stream.read()))
        receiver.start()
        try:
            with pytest.raises(CameraError):
                reader.deliver(into, request, clock)
        finally:
            os.close(into)
            receiver.join()
    return split(received[0])


def split(data: bytes) -> list[tuple[bytes, bytes]]:
    messages = []
    while data:
        kind, length, *_ = HEADER.unpack(data[: HEADER.size])
        messages.append((kind, data[HEADER.size : HEADER.size + length]))
        data = data[HEADER.size + length :]
    return messages
