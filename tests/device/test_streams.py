"""Against a real MJPEG camera on loopback, read by OpenCV in its own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from device_fakes import Sleeper, a_second
from mjpeg_server import MjpegServer, read_time

from edgecnn_device.frames import Frame, Missing
from edgecnn_device.health import Health, Limits
from edgecnn_device.sources import Source, SourceOptions, open_source

TIMEOUT_S = 0.5


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    camera = MjpegServer()
    yield camera
    camera.die()


def connect(server: MjpegServer) -> Source:
    return open_source(
        SourceOptions(server.address, open_timeout_s=2 * TIMEOUT_S, read_timeout_s=TIMEOUT_S, retry_s=(0.05, 30.0))
    )


def wait_for(frames: Iterator[Frame | Missing], wanted: Callable[[Frame | Missing], bool], limit_s: float = 10.0) -> float:
    """Take frames until one is as `wanted`; return how long that took."""
    started_s = time.monotonic()
    for item in frames:
        if wanted(item):
            break
        assert time.monotonic() - started_s < limit_s
    return time.monotonic() - started_s


def is_fresh(item: Frame | Missing) -> bool:
    return isinstance(item, Frame) and time.monotonic() - read_time(item.image_bgr) < 0.15


def test_pictures_are_fresh_even_for_a_consumer_five_times_too_slow(server: MjpegServer) -> None:
    """The camera is an MJPEG server on loopback; the age is that of the picture itself, by the time that is drawn in it."""
    with Sleeper() as sleeper, connect(server) as source:
        frames = iter(source)
        wait_for(frames, is_fresh)
        ages_s: list[float] = []
        while len(ages_s) < 20:
            time.sleep(5 / server.fps)
            item = next(frames)
            if isinstance(item, Frame):
                ages_s.append(time.monotonic() - read_time(item.image_bgr))

    # Three threads hand a picture on: the server's, the reader process's and the capture's; each may be woken late.
    assert np.percentile(ages_s, 95) < 2 / server.fps + 3 * sleeper.late_s()
    assert source.skipped > 20


def test_a_server_that_dies_and_comes_back_is_found_again(server: MjpegServer) -> None:
    with connect(server) as source:
        frames = iter(source)
        for _ in range(3):
            wait_for(frames, is_fresh)
            server.die()
            wait_for(frames, lambda item: isinstance(item, Missing))
            server.start()

        wait_for(frames, is_fresh)

    assert source.losses >= 3


def test_a_server_that_hangs_blocks_nothing_and_is_found_again(server: MjpegServer) -> None:
    with connect(server) as source:
        frames = iter(source)
        wait_for(frames, is_fresh)
        server.mood = "hang"
        silent_s = wait_for(frames, lambda item: isinstance(item, Missing))
        reported_s = wait_for(frames, lambda item: isinstance(item, Missing) and "nothing to" in item.reason)
        server.mood = "well"

        wait_for(frames, is_fresh)

    assert silent_s < 0.5
    assert reported_s < 2 * TIMEOUT_S + 0.5


def test_leaving_does_not_wait_for_a_server_that_hangs(server: MjpegServer) -> None:
    source = open_source(SourceOptions(server.address, open_timeout_s=30, read_timeout_s=30))
    with source:
        wait_for(iter(source), is_fresh)
        server.mood = "hang"
        time.sleep(0.2)
        started_s = time.monotonic()

    assert time.monotonic() - started_s < 0.3
    assert not [thread for thread in threading.enumerate() if thread.name == "capture"]


def test_leaving_does_not_wait_for_a_server_that_never_answers(server: MjpegServer) -> None:
    server.mood = "hang"
    source = open_source(SourceOptions(server.address, open_timeout_s=30, read_timeout_s=30))
    with source:
        time.sleep(0.6)
        started_s = time.monotonic()

    assert time.monotonic() - started_s < 0.3


@pytest.mark.parametrize(("mood", "state", "reason"), [("freeze", "stale", "frozen"), ("black", "blind", "black")])
def test_a_picture_that_says_nothing_is_reported_within_two_seconds(
    server: MjpegServer, mood: str, state: str, reason: str
) -> None:
    health = Health(Limits())

    def troubled(item: Frame | Missing) -> bool:
        found = health.judge(item, time.monotonic()) if isinstance(item, Frame) else None
        return found is not None and found.name == state and found.reason.startswith(reason)

    with connect(server) as source:
        frames = iter(source)
        wait_for(frames, is_fresh)
        server.mood = "black" if mood == "black" else "freeze"

        # Two seconds, of which it waits 1.5 on purpose; the rest is work, which a busy machine does more slowly.
        assert wait_for(frames, troubled) < Limits().frozen_after_s + 0.5 * a_second()


def test_the_password_stands_in_no_frame_and_in_no_process_list(server: MjpegServer) -> None:
    address = server.address.replace("http://", "http://me:secret@") + "?token=secret"
    commands = []

    with open_source(SourceOptions(address)) as source:
        frames = iter(source)
        wait_for(frames, is_fresh)
        item = next(item for item in frames if isinstance(item, Frame))
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                commands.append(process.read_bytes())
            except OSError:
                continue

    assert item.source == server.address.rpartition("/")[0]
    assert not [command for command in commands if b"sources.reader" in command and b"secret" in command]
