from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from device_fakes import Sleeper, frame

from edgecnn.errors import CameraError
from edgecnn.testing import gray_picture
from edgecnn_device.frames import Frame, Image, Missing
from edgecnn_device.sources.live import LiveCapture, NewestFrame, Picture
from edgecnn_device.sources.paced import PacedCamera


class ScriptedCamera:
    """Does on each connection what its script says: deliver so many pictures, then fail or end."""

    name = "scripted"

    def __init__(self, *script: int | None) -> None:
        self.script = list(script)
        self.connected_s: list[float] = []
        self.interrupted = threading.Event()

    def pictures(self) -> Iterator[Picture]:
        self.connected_s.append(time.monotonic())
        count = self.script.pop(0) if self.script else 0
        for number in range(count or 0):
            yield Picture(gray_picture(128, number), time.monotonic())
        if count is not None:
            raise CameraError("scripted failure")

    def interrupt(self) -> None:
        self.interrupted.set()


def test_a_frame_that_nobody_took_is_replaced_and_counted() -> None:
    newest = NewestFrame()
    for number in (1, 2, 3):
        newest.put(frame(number=number))

    taken = newest.take(0.0)

    assert taken is not None
    assert (taken.number, newest.skipped, newest.take(0.0)) == (3, 2, None)


def test_frames_are_young_and_skipped_when_the_consumer_is_five_times_too_slow() -> None:
    """The camera is emulated by a clock; `test_streams` and `test_costs` ask the same of a real MJPEG server and process."""
    picture = frame()

    def play() -> Iterator[Frame]:
        while True:
            yield picture

    ages_s: list[float] = []
    behind: list[int] = []
    with Sleeper() as sleeper, LiveCapture(PacedCamera("camera", play, fps=30)) as capture:
        for item in capture:
            if isinstance(item, Frame):
                ages_s.append(time.monotonic() - item.monotonic_s)
                behind.append(capture.captured - 1 - item.number)
                time.sleep(5 / 30)
            if len(ages_s) == 24:
                break

    # Never more than one frame behind; a busy machine may wake the camera's thread as late as it wakes any other.
    assert max(behind) <= 1
    assert np.percentile(ages_s, 95) < 2 / 30 + sleeper.late_s()
    assert capture.skipped >= 2 * len(ages_s)


def test_numbers_count_the_skipped_frames_too() -> None:
    camera = ScriptedCamera(5, None)
    with LiveCapture(camera) as capture:
        time.sleep(0.2)

        first = next(iter(capture))

    assert isinstance(first, Frame)
    assert (first.number, capture.skipped) == (4, 4)


def test_a_camera_that_fails_is_tried_again_after_a_delay_that_doubles() -> None:
    camera = ScriptedCamera(0, 0, None)

    with LiveCapture(camera) as capture:
        items = list(capture)

    delays_s = np.diff(camera.connected_s)
    assert delays_s == pytest.approx([0.5, 1.0], abs=0.25)
    assert capture.losses == 2
    assert {item.reason for item in items if isinstance(item, Missing)} >= {"scripted failure"}


def test_a_picture_that_comes_sets_the_delay_back() -> None:
    camera = ScriptedCamera(0, 1, None)

    with LiveCapture(camera) as capture:
        for _ in capture:
            pass

    assert np.diff(camera.connected_s) == pytest.approx([0.5, 0.5], abs=0.25)


def test_when_a_lost_camera_is_tried_again_is_known() -> None:
    camera = ScriptedCamera(0, None)
    with LiveCapture(camera) as capture:
        seen = []
        for _ in capture:
            seen.append(capture.retry_s)

    waits_s = {round(retry_s - camera.connected_s[0], 1) for retry_s in seen if retry_s is not None}
    assert waits_s == {0.5}
    assert capture.retry_s is None


def test_silence_says_since_when() -> None:
    camera = ScriptedCamera(1, 0, 0, 0)

    with LiveCapture(camera) as capture:
        iterator = iter(capture)
        first = next(iterator)
        second = next(iterator)

    assert isinstance(first, Frame)
    assert isinstance(second, Missing)
    assert second.since_s == first.monotonic_s


def test_leaving_interrupts_the_camera_and_joins_the_thread() -> None:
    camera = ScriptedCamera(0)

    with LiveCapture(camera):
        started_s = time.monotonic()

    assert camera.interrupted.is_set()
    assert time.monotonic() - started_s < 0.3
    assert not [thread for thread in threading.enumerate() if thread.name == "capture"]


def test_a_bug_in_the_camera_reaches_the_loop() -> None:
    class Buggy(ScriptedCamera):
        def pictures(self) -> Iterator[Picture]:
            raise ZeroDivisionError("a bug")

    with LiveCapture(Buggy()) as capture, pytest.raises(ZeroDivisionError):
        list(capture)


def test_only_frames_that_are_taken_are_transformed() -> None:
    turned: list[Image] = []

    def transform(image: Image) -> Image:
        turned.append(image)
        return image[:10]

    with LiveCapture(ScriptedCamera(5, None), transform=transform) as capture:
        time.sleep(0.2)
        first = next(iter(capture))

    assert isinstance(first, Frame)
    assert (len(turned), first.image_bgr.shape) == (1, (10, 64, 3))
