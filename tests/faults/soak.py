"""An hour of a camera's life at full speed: by a clock of its own a frame is a thirtieth of a second, whatever it took.

The camera is lost, frozen or black at random, the broker dies and comes back, viewers come and go; all from one seed.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tiny_broker import Received, TinyBroker

from edgecnn.errors import CameraError, OutputError
from edgecnn_device.finders import find_whole, look_at
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Sink, Statistics, Watcher, run_loop
from edgecnn_device.model import Model
from edgecnn_device.sinks.csv_file import CsvSink
from edgecnn_device.sinks.jsonl import JsonLinesSink
from edgecnn_device.sinks.mqtt import MqttSink
from edgecnn_device.sinks.mqtt_broker import MqttOptions
from edgecnn_device.sinks.samples import SampleOptions, SampleSink
from edgecnn_device.sources.live import LiveCapture, Picture
from edgecnn_device.tracking import Tracker
from edgecnn_device.web.options import WebOptions
from edgecnn_device.web.sink import WebSink
from edgecnn_device.web.status import Watched

FPS = 30.0
LIMITS = Limits(max_age_s=1.5, frozen_after_s=1.5)
SAMPLE_BYTES = 2_000_000
_QUIET_FRAMES, _OUTAGE_S, _STEP_S = (300, 1500), (0.5, 12.0), 0.1
_READINGS = 60
_PATHS = ("/stream.mjpg", "/api/live", "/api/predictions", "/snapshot.jpg", "/metrics", "/api/stats", "/api/history.csv", "/")


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Outage:
    """From the last good frame (for `black`: the first black one) to the next good one, by the clock of the hour."""

    kind: str
    began_s: float
    ended_s: float = 0.0


class FailingCamera:
    """Delivers a picture whenever the loop wants one, and is in trouble at random."""

    name = "failing camera"

    def __init__(self, clock: Clock, seed: str, size_hw: tuple[int, int]) -> None:
        self.outages: list[Outage] = []
        self.delivered = 0
        self.trouble: Outage | None = None
        self.wanted = threading.Event()
        self._clock = clock
        self._rng = random.Random(seed)
        self._until_s = 0.0
        self._quiet = self._rng.randrange(*_QUIET_FRAMES)
        self._ended = threading.Event()
        noise = np.random.default_rng(0)
        shades = np.linspace(60, 180, size_hw[1])[None, :, None]
        self._images = [np.clip(shades + noise.integers(-20, 21, (*size_hw, 3)), 0, 255).astype(np.uint8) for _ in range(32)]
        self._black = np.zeros((*size_hw, 3), np.uint8)
        self._last_s = clock()

    def pictures(self) -> Iterator[Picture]:
        """Yield pictures until lost."""
        while not self._ended.is_set():
            if self.trouble is not None and self.trouble.kind == "lost" and self._clock() < self._until_s:
                raise CameraError("lost on purpose")
            if not self.wanted.wait(0.05):
                continue
            self.wanted.clear()
            self._clock.now_s += 1 / FPS
            yield self._next()

    def interrupt(self) -> None:
        """End."""
        self._ended.set()

    def idle(self) -> None:
        """Let time pass while no picture comes; called by the loop."""
        if self.trouble is not None and self.trouble.kind == "lost" and self._clock() < self._until_s:
            self._clock.now_s += _STEP_S
        self.wanted.set()

    def end_outage(self) -> None:
        """Close the account of an outage that the end of the hour cut short."""
        if self.trouble is not None:
            self.trouble.ended_s = self._clock()

    def _next(self) -> Picture:
        now_s = self._clock()
        if self.trouble is not None and now_s >= self._until_s:
            self.trouble.ended_s = now_s
            self.trouble, self._quiet = None, self._rng.randrange(*_QUIET_FRAMES)
        elif self.trouble is None and self._quiet == 0:
            kind = self._rng.choice(("lost", "frozen", "black"))
            self.trouble = Outage(kind, now_s if kind == "black" else self._last_s)
            self.outages.append(self.trouble)
            self._until_s = now_s + self._rng.uniform(*_OUTAGE_S)
        if self.trouble is None:
            self._quiet -= 1
            self._last_s = now_s
        elif self.trouble.kind == "lost":
            raise CameraError("lost on purpose")
        image = self._images[self.delivered % len(self._images)]
        if self.trouble is None:
            self.delivered += 1
        elif self.trouble.kind == "frozen":
            image = self._images[(self.delivered - 1) % len(self._images)]
        else:
            image = self._black
        return Picture(image, now_s)


class CountingBroker(TinyBroker):
    """Remembers of each prediction only that it came."""

    def __init__(self, frames: int) -> None:
        self.seen = bytearray(2 * frames + 1000)
        self.states = 0
        super().__init__()
        self.received = _Marking(self)  # type: ignore[assignment]


class _Marking:
    def __init__(self, broker: CountingBroker) -> None:
        self._broker = broker

    def append(self, message: Received) -> None:
        if message.topic.endswith("/prediction"):
            self._broker.seen[json.loads(message.payload)["frame"]] = 1
        elif message.topic.endswith("/state"):
            self._broker.states += 1


@dataclass
class Reading:
    """What this process holds: memory in MB, threads, descriptors."""

    frames: int
    memory_mb: float
    threads: int
    descriptors: int


@dataclass
class Hour:
    """All that was seen."""

    statistics: Statistics
    seconds: float
    took_s: float
    outages: list[Outage]
    readings: list[Reading]
    skipped: int
    losses: int
    broker_deaths: int
    visits: Counter[str]
    metrics: dict[str, float]
    said: int
    received: int
    dropped: int
    waiting: int
    lines: int
    line_errors: int
    sample_bytes: int
    complaints: list[str] = field(default_factory=list)

    def grown_mb(self) -> float:
        """Return by how many MB memory grew over the whole, by a line through the readings after the first fifth."""
        later = self.readings[len(self.readings) // 5 :]
        frames, memory = np.array([r.frames for r in later]), np.array([r.memory_mb for r in later])
        return float(np.polyfit(frames, memory, 1)[0] * (frames[-1] - frames[0]))


def live_an_hour(model: Model, folder: Path, *, frames: int, seed: int, viewers: int = 6) -> Hour:
    """Run the loop over so many frames with all sinks, through every kind of trouble."""
    clock, size = Clock(), model.classifier.preprocessing
    camera = FailingCamera(clock, f"{seed} camera", (size.height, size.width))
    broker, statistics, started_s = CountingBroker(frames), Statistics(), clock()
    source = LiveCapture(camera, clock=clock, retry_s=(0.002, 0.004), patience_s=0.004)  # by a clock that nobody can push
    watched = Watched(statistics, source, lambda: model)
    mqtt = MqttSink(MqttOptions(f"mqtt://127.0.0.1:{broker.port}/soak"))
    lines = folder / "lines.jsonl"
    samples = SampleSink(SampleOptions(folder / "kept", every_s=2.0, max_bytes=SAMPLE_BYTES), clock=clock, seed=seed)
    page = WebSink(WebOptions("127.0.0.1", 0), watched, clock=clock)
    readings: list[Reading] = []
    complaints: list[str] = []
    outsiders = _Outsiders(page.port, broker, viewers, seed)
    watcher = Watcher(lambda: model.classifier, look_at(find_whole), Health(LIMITS), Tracker(5), clock=clock)

    def between() -> bool:
        camera.idle()
        if statistics.frames >= len(readings) * frames / _READINGS:
            readings.append(_read(statistics.frames))
        return statistics.frames < frames

    real_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.enter_context(source)
        sinks: list[Sink] = [
            stack.enter_context(JsonLinesSink(lines, max_bytes=5_000_000, keep=1000)),
            stack.enter_context(CsvSink(folder / "rows.csv", max_bytes=1_000_000, keep=2)),
            stack.enter_context(samples),
            stack.enter_context(page),
        ]
        mqtt.__enter__()
        stack.enter_context(outsiders)
        run_loop(source, watcher, [*sinks, mqtt], between=between, complain=complaints.append, statistics=statistics)
        camera.end_outage()
        outsiders.end()
        metrics = _metrics(page.port)
        seconds = clock() - started_s
        waiting = _leave(mqtt)
    broker.die()
    written, broken = _count_lines(lines)
    return Hour(
        statistics, seconds, time.monotonic() - real_s, camera.outages, readings, source.skipped, source.losses,
        outsiders.deaths, outsiders.visits, metrics, statistics.states["ok"], sum(broker.seen), mqtt.dropped, waiting,
        written, broken, sum(path.stat().st_size for path in (folder / "kept").iterdir()), complaints,
    )  # fmt: skip


class _Outsiders:
    """A broker's fate and viewers, each in a thread of its own, until the end."""

    def __init__(self, port: int, broker: CountingBroker, viewers: int, seed: int) -> None:
        self.deaths = 0
        self.visits: Counter[str] = Counter()
        self._port, self._broker = port, broker
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(random.Random(f"{seed} {n}"),)) for n in range(viewers)]
        self._threads.append(threading.Thread(target=self._kill_broker, args=(random.Random(f"{seed} broker"),)))

    def __enter__(self) -> _Outsiders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.end()

    def end(self) -> None:
        """Come to rest, with the broker alive."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _kill_broker(self, rng: random.Random) -> None:
        while not self._ending.wait(rng.uniform(1.0, 8.0)):
            self._broker.die()
            self._ending.wait(rng.uniform(0.05, 3.0))
            self._broker.start()
            self.deaths += 1
        self._ending.wait(1.5)

    def _visit(self, rng: random.Random) -> None:
        while not self._ending.wait(rng.uniform(0.05, 1.0)):
            path = rng.choice(_PATHS)
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
                with contextlib.closing(connection):
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    assert answer.status in (200, 503)
                    self.visits[path] += 1
                    leaves_s = time.monotonic() + rng.uniform(0.0, 2.0)
                    while not self._ending.is_set() and time.monotonic() < leaves_s and answer.read1(4096):
                        time.sleep(0.005)


def _leave(mqtt: MqttSink) -> int:
    """Let the queue empty itself, then leave; return how many messages did not get through."""
    ends_s = time.monotonic() + 60
    while mqtt.waiting and time.monotonic() < ends_s:
        time.sleep(0.05)
    with contextlib.suppress(OutputError):
        mqtt.__exit__(None, None, None)
    return mqtt.waiting


def _metrics(port: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("edgecnn_"): float(value) for name, _, value in rows}


def _read(frames: int) -> Reading:
    gc.collect()
    status = Path("/proc/self/status").read_text().splitlines()
    memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return Reading(frames, memory / 1024, threading.active_count(), len(list(Path("/proc/self/fd").iterdir())))


def _count_lines(path: Path) -> tuple[int, int]:
    """Count the lines of a file and of those set aside, and of them those that are no JSON or out of order."""
    aside = sorted(path.parent.glob(f"{path.name}.*"), key=lambda old: -int(old.suffix[1:]))
    count, broken, last = 0, 0, -1
    for file in [*aside, path]:
        for line in file.read_bytes().splitlines():
            body = json.loads(line)
            count += 1
            broken += body["frame"] is not None and body["frame"] <= last
            last = last if body["frame"] is None else body["frame"]
    return count, broken
