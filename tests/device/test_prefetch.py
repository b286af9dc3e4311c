from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from device_fakes import frame

from edgecnn_device.frames import Frame
from edgecnn_device.sources.prefetch import read_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "read-ahead"]


def numbers(frames: Iterator[object]) -> list[int]:
    return [item.number for item in frames if isinstance(item, Frame)]


def test_every_frame_comes_once_and_in_order() -> None:
    assert numbers(read_ahead(frame(number=n) for n in range(50))) == list(range(50))
    assert threads() == []


def test_frames_are_decoded_while_the_loop_works() -> None:
    decoded = []

    def decode() -> Iterator[Frame]:
        for number in range(10):
            decoded.append(number)
            yield frame(number=number)

    frames = read_ahead(decode())
    next(frames)
    time.sleep(0.3)
    ahead = len(decoded)
    frames.close()  # type: ignore[attr-defined]

    assert 3 <= ahead <= 4


def test_an_error_comes_after_the_frames_before_it() -> None:
    def decode() -> Iterator[Frame]:
        yield frame(number=1)
        raise OSError("the card is gone")

    frames = read_ahead(decode())

    first = next(frames)
    with pytest.raises(OSError, match="the card is gone"):
        next(frames)

    assert isinstance(first, Frame)
    assert threads() == []


def test_closing_early_ends_the_thread_and_closes_the_file() -> None:
    closed = []

    def decode() -> Iterator[Frame]:
        try:
            while True:
                yield frame()
        finally:
            closed.append(True)

    frames = read_ahead(decode())
    next(frames)
    frames.close()  # type: ignore[attr-defined]

    assert (closed, threads()) == ([True], [])
