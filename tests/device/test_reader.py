from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from reader_messages import deliver

from edgecnn.errors import CameraError
from edgecnn.testing import JumpingClock, gray_picture
from edgecnn_device.frames import Image
from edgecnn_device.sources import reader
from edgecnn_device.sources.process import Request

REQUEST = Request("stream", "http://fake")


def delivered(
    monkeypatch: pytest.MonkeyPatch, waits_s: list[float], size_hw: tuple[int, int] = (48, 64)
) -> list[tuple[bytes, bytes]]:
    """Let the reader read a picture after each wait, until the camera fails; return the kinds and contents of its messages."""
    clock = JumpingClock()

    def pictures() -> Iterator[Image]:
        for number, waited_s in enumerate(waits_s):
            clock.now_s += waited_s
            yield gray_picture(128, number, size_hw)
        raise CameraError("the stream ended")

    def open_fake(request: Request) -> object:
        return pictures().__next__

    monkeypatch.setattr(reader, "find_opener", lambda kind: open_fake)
    return deliver(REQUEST, clock)


def test_the_parent_hears_when_the_reader_is_ready_and_when_the_camera_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [kind for kind, _ in delivered(monkeypatch, [])] == [b"R", b"O"]


def test_only_fresh_pictures_are_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    waits_s = [0.0, 0.0] + [0.033] * 8 + [2.0, 0.0] + [0.033] * 3

    numbers = [
        next(n for n in range(20) if np.frombuffer(data, np.uint8).tobytes() == gray_picture(128, n).tobytes())
        for kind, data in delivered(monkeypatch, waits_s)
        if kind == b"P"
    ]

    assert numbers == [3, 4, 5, 6, 7, 8, 9, 13, 14]


def test_the_only_picture_of_a_snapshot_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [kind for kind, _ in delivered(monkeypatch, [0.0])] == [b"R", b"O", b"P"]


def test_a_large_picture_comes_through_a_small_pipe_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = delivered(monkeypatch, [0.0], (480, 640))[-1]

    assert data == gray_picture(128, 0, (480, 640)).tobytes()


def test_a_kind_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(CameraError, match="unknown kind"):
        reader.find_opener("magic")
