"""What the tests of the board share beyond `edgecnn.testing`: frames, watchers, and what a busy machine costs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np

from edgecnn.testing import START, FakeRuntime, JumpingClock, fake_classifier, gray_picture
from edgecnn_device.finders import find_whole, look_at
from edgecnn_device.frames import Box, Frame, Image, Region
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Watcher
from edgecnn_device.tracking import Tracker

# Run with a model, a file for the lines and a number of frames: prints by how many bytes memory grew after the first 2000.
MANY_FRAMES = """
import sys
from pathlib import Path
from edgecnn_device.finders import Tiles, look_at
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Statistics, Watcher, run_loop
from edgecnn_device.model import ModelOptions, open_model
from edgecnn_device.sinks.jsonl import JsonLinesSink
from edgecnn_device.sources import SourceOptions, open_source
from edgecnn_device.tracking import Tracker

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

model = open_model(ModelOptions(sys.argv[1])).classifier
watcher = Watcher(lambda: model, look_at(Tiles(2, 1)), Health(Limits()), Tracker(5))
source = open_source(SourceOptions("synthetic", size_wh=(160, 120), realtime=False))
statistics, seen, last = Statistics(), {}, int(sys.argv[3])

def between():
    if statistics.frames in (2000, last):
        seen[statistics.frames] = resident_bytes()
    return statistics.frames <= last

with JsonLinesSink(Path(sys.argv[2]), max_bytes=200_000, keep=2) as sink, source:
    run_loop(source, watcher, [sink], between=between, statistics=statistics)
print(seen[last] - seen[2000])
"""


def frame(image: Image | None = None, number: int = 1, source: str = "fake", at_s: float = 100.0) -> Frame:
    """Return a frame that was captured at `at_s` of the fake clock."""
    image = gray_picture(128, number) if image is None else image
    return Frame(image, number, source, START + timedelta(seconds=at_s), at_s)


def watcher(
    clock: Callable[[], float] | None = None, *, live: bool = True, runtime: FakeRuntime | None = None, smooth: int = 1
) -> Watcher:
    """Return a watcher that looks at whole frames."""
    model = fake_classifier(runtime=runtime)
    look = look_at(find_whole)
    return Watcher(lambda: model, look, Health(Limits(live=live)), Tracker(smooth), clock=clock or JumpingClock())


def regions_at(boxes: Sequence[Box]) -> list[Region]:
    """Return regions at `boxes` with small gray views."""
    return [Region(box, gray_picture(128, size_hw=(20, 20))) for box in boxes]


def a_second() -> float:
    """Return how long a second's limit is here: a machine with more to run than cores takes as many times longer."""
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


class Sleeper:
    """A thread that does nothing but sleep a frame's time and note how late it wakes: what this machine's load alone costs."""

    def __init__(self, period_s: float = 1 / 30) -> None:
        self._period_s = period_s
        self._late_s: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sleep)

    def late_s(self, percent: float = 95) -> float:
        """Return a percentile of the lateness in seconds."""
        return float(np.percentile(self._late_s, percent))

    def __enter__(self) -> Sleeper:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _sleep(self) -> None:
        while not self._stopping.is_set():
            due_s = time.monotonic() + self._period_s
            time.sleep(self._period_s)
            self._late_s.append(time.monotonic() - due_s)
