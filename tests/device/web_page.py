"""A page that is served on a free port of this machine, with a model and a source that are made up, and a visitor."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import Contract, DataInfo, GoldenVectors, ParityInfo, TensorSpec
from edgecnn.classifier import Prediction
from edgecnn.testing import LABELS, fake_classifier, gray_picture
from edgecnn_device.classes import Classes
from edgecnn_device.frames import OK, STAGES, Frame, Observation, Region, RegionPrediction, State
from edgecnn_device.loop import Statistics
from edgecnn_device.model import Model
from edgecnn_device.web.options import WebOptions
from edgecnn_device.web.sink import WebSink
from edgecnn_device.web.status import Watched

TOKEN = "0123456789abcdef-secret"
ACTION = {"X-Edgecnn-Action": "acknowledge"}


def model() -> Model:
    """Return a model of brightness whose contract tells of a parity on synthetic pictures."""
    runnable = fake_classifier()
    data = DataInfo("synthetic", "test", 1200, "ab", synthetic=True)
    contract = Contract(
        task="light",
        title="brightness",
        labels=LABELS,
        preprocessing=runnable.preprocessing,
        input=TensorSpec("image", "int8", (1, 20, 20, 1), 1.0, -128),
        output=TensorSpec("scores", "int8", (1, 3), 1 / 256, -128),
        precision="int8",
        model="tiny",
        parameters=1,
        versions={},
        training_data=None,
        calibration=None,
        parity=ParityInfo("pass", data, 0.99, 0.985, 0.5, 0.9, 0.95, 1.0),
        golden=GoldenVectors((), "", (), (), 0.01),
        model_sha256="",
        export_id="made-up-1",
    )
    return Model(Artifact(Path("light.tflite"), b"", contract), runnable, verified=True)


@dataclass
class MadeUpSource:
    losses: int = 0
    skipped: int = 0
    retry_s: float | None = None


def seen(number: int = 1, class_id: int = 1, size_hw: tuple[int, int] = (48, 64)) -> Observation:
    """Return an observation of a frame just taken, in which one class was seen."""
    image = gray_picture(128, number, size_hw)
    frame = Frame(image, number, "fake camera", datetime.now(UTC), time.monotonic())
    probabilities = np.full(3, 0.05, np.float32)
    probabilities[class_id] = 0.9
    prediction = Prediction(LABELS[class_id], class_id, 0.9, probabilities)
    region = Region((0, 0, size_hw[1], size_hw[0]), image)
    answer = RegionPrediction(1, region, np.ascontiguousarray(image[:20, :20, :1]), prediction, prediction)
    return Observation("fake camera", OK, frame, (answer,), 2.0, dict.fromkeys(STAGES, 1.0))


def seen_in_tiles(*answers: tuple[str | None, float]) -> Observation:
    """Return an observation of tiles side by side with these labels and probabilities."""
    whole = seen(1, size_hw=(48, 64 * len(answers)))
    assert whole.frame is not None
    tiles = []
    for number, (label, probability) in enumerate(answers):
        class_id = 0 if label is None else LABELS.index(label)
        answer = Prediction(label, class_id, probability, np.full(3, probability, np.float32))
        box = (64 * number, 0, 64, 48)
        view = whole.frame.image_bgr[:, 64 * number : 64 * number + 64]
        tiles.append(RegionPrediction(7 + number, Region(box, view), np.ascontiguousarray(view[:20, :20, :1]), answer, answer))
    return replace(whole, predictions=tuple(tiles))


def lost(reason: str = "lost: no frame for 2.0 s (refused)") -> Observation:
    """Return an observation of a frame that did not come."""
    return Observation("fake camera", State("stale", reason), age_ms=2000.0)


def black(number: int = 1) -> Observation:
    """Return an observation of a frame that shows nothing."""
    return Observation("fake camera", State("blind", "black picture"), seen(number).frame, (), 2.0, {"capture": 1.0})


@dataclass(eq=False)
class Page:
    """A sink that is served, what it looks at, and requests to it."""

    sink: WebSink
    statistics: Statistics
    source: MadeUpSource

    def show(self, observation: Observation) -> None:
        """Do what the loop does with an observation."""
        self.statistics.frames += observation.frame is not None
        self.statistics.count(observation)
        self.sink.write(observation)

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (lower case) and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.sink.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def status(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> int:
        """Return the status of an answer."""
        return self.ask(path, method, headers)[0]

    def json(self, path: str) -> Any:
        """Return the JSON of an answer."""
        return json.loads(self.ask(path)[2])

    @contextlib.contextmanager
    def watch(self, path: str, headers: Mapping[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
        """Open an answer that does not end."""
        connection = http.client.HTTPConnection("127.0.0.1", self.sink.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=dict(headers or {}))
            yield connection.getresponse()

    def wait_for_viewers(self, kind: str, count: int) -> None:
        """Wait until so many watch; fails after five seconds."""
        for _ in range(250):
            if self.json("/api/stats")["viewers"].get(kind, 0) == count:
                return
            time.sleep(0.02)
        raise AssertionError(f"never {count} viewers of {kind}: {self.json('/api/stats')['viewers']}")


@contextlib.contextmanager
def serve(token: str | None = None, *, defects: Iterable[str] = (), **times: Any) -> Iterator[Page]:
    """Serve a page that has seen nothing yet; `defects` are the classes that raise an alarm, `times` those of `WebSink`."""
    statistics, source, running = Statistics(), MadeUpSource(), model()
    watched = Watched(statistics, source, lambda: running, classes=Classes(LABELS, frozenset(defects)))
    sink = WebSink(WebOptions("127.0.0.1", 0, token), watched, **times)
    with sink:
        yield Page(sink, statistics, source)


def next_event(stream: http.client.HTTPResponse, kind: str) -> Any:
    """Return the JSON of the next server-sent event of a kind."""
    found = False
    while line := stream.readline():
        if line.startswith(b"event: "):
            found = line.split()[1].decode() == kind
        elif found and line.startswith(b"data: "):
            return json.loads(line[6:])
    raise AssertionError(f"the stream ended without {kind}")


def next_picture(stream: http.client.HTTPResponse) -> bytes:
    """Return the next JPEG of a stream."""
    while line := stream.readline():
        if line.lower().startswith(b"content-length:"):
            stream.readline()
            return stream.read(int(line.split()[1]))
    raise AssertionError("the stream ended")
