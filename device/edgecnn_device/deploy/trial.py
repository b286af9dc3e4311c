"""Running a new model beside the live one, each time in a process of its own that has a time limit."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgecnn.artifacts import Artifact, golden
from edgecnn.classifier import Classifier
from edgecnn.errors import InferenceError
from edgecnn.records import read_record
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.child import Child, Job
from edgecnn.runtimes.runtime import answer
from edgecnn_device.frames import Image

_START_S = 60.0  # a fresh interpreter that imports a runtime from a slow card
_RUNS, _BUDGET_S = 30, 3.0


@dataclass(frozen=True)
class Serving:
    """How a camera runs its model."""

    runtime: str | None = None
    threads: int = 1
    reject: float | None = None
    novelty: float | None = None

    def classifier(self, artifact: Artifact) -> Classifier:
        """Open a model as the camera does."""
        return Classifier.of(artifact, runtime=self.runtime, threads=self.threads).rejecting(self.reject, self.novelty)


@dataclass(frozen=True)
class Took:
    """Milliseconds of one picture, medians: by the clock, and those that the thread had the processor."""

    ms: float
    cpu_ms: float


def compare_latency(paths: Sequence[Path], serving: Serving, timeout_s: float) -> list[Took]:
    """Return what one picture takes each model, in runs in turn; InferenceError after `timeout_s`."""
    options = {"paths": [str(path) for path in paths], "runtime": serving.runtime, "threads": serving.threads}
    child = Child(Job(str(paths[0]), "edgecnn_device.deploy.trial:alternate", b"", options), timeout_s=timeout_s)
    return [Took(float(ms), float(cpu_ms)) for ms, cpu_ms in child.wait()]


def alternate(data: bytes, *, paths: list[str], runtime: str | None, threads: int) -> list[list[float]]:
    """Time models in turns, for at most three seconds; called in a child process. Returns milliseconds as in `Took`."""
    artifacts = [Artifact.open(path) for path in paths]
    runtimes = [open_runtime(artifact, runtime=runtime, threads=threads) for artifact in artifacts]
    inputs = [golden.make_inputs((1,), artifact.contract.preprocessing.shape) for artifact in artifacts]
    times: list[list[tuple[float, float]]] = [[] for _ in paths]
    until_s = time.monotonic() + _BUDGET_S
    while len(times[0]) <= _RUNS and (len(times[0]) < 3 or time.monotonic() < until_s):
        for each, images, taken in zip(runtimes, inputs, times, strict=True):
            started_s, cpu_s = time.perf_counter(), time.thread_time()
            answer(each, images)
            taken.append((1000 * (time.perf_counter() - started_s), 1000 * (time.thread_time() - cpu_s)))
    return [np.median(taken[1:], axis=0).tolist() for taken in times]  # the first one warms up


@dataclass(frozen=True)
class Shadowed:
    """What the shadow made of the pictures of one frame: verdict and most probable class of each."""

    answers: tuple[tuple[str, str], ...]


class Shadow:
    """A model that answers pictures in a process of its own; `timeout_s` for each frame."""

    def __init__(self, path: Path, serving: Serving, timeout_s: float) -> None:
        """Start nothing yet."""
        self._path = path
        self._timeout_s = timeout_s
        self._setup = json.dumps({"path": str(path), "serving": asdict(serving)}).encode() + b"\n"
        self._rest = b""

    def __enter__(self) -> Shadow:
        command = [sys.executable, "-P", "-m", "edgecnn_device.deploy.trial"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        try:
            self._ask(self._setup, _START_S + self._timeout_s)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def answer(self, pictures: Sequence[Image], *, are_inputs: bool) -> Shadowed:
        """Answer the pictures of one frame, inputs or views; InferenceError when that fails or takes too long."""
        body = {"shapes": [list(picture.shape) for picture in pictures], "inputs": are_inputs}
        message = json.dumps(body).encode() + b"\n" + b"".join(picture.tobytes() for picture in pictures)
        found = self._ask(message, self._timeout_s)
        return Shadowed(tuple((str(verdict), str(label)) for verdict, label in found["answers"]))

    def _ask(self, message: bytes, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(message)
            line = self._line(time.monotonic() + timeout_s)
        except BrokenPipeError:
            line = b""
        if not line:
            raise InferenceError(f"{self._path.name} ends the process that shadows with it (exit code {self._process.wait()})")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise InferenceError(f"{self._path.name} as a shadow: {found['error']}")
        return found

    def _line(self, until_s: float) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, until_s - time.monotonic())):
                    raise InferenceError(f"{self._path.name} did not answer a frame within {self._timeout_s:g} s")
                data = os.read(self._process.stdout.fileno(), 2**16)
                if not data:
                    return b""
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def _serve() -> None:
    """Answer frames until nobody asks any more; what stdin holds is written by `Shadow`."""
    source, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what native code prints is no answer
    try:
        setup = json.loads(source.readline())
        classifier = read_record(Serving, setup["serving"], "serving").classifier(Artifact.open(setup["path"]))
        out.write(b"{}\n")
        while line := source.readline():
            body = json.loads(line)
            pictures = [_read_picture(source.read(int(np.prod(shape))), shape) for shape in body["shapes"]]
            out.write(json.dumps({"answers": _answer(classifier, pictures, are_inputs=body["inputs"])}).encode() + b"\n")
    except Exception as error:  # whatever a model does, the live one goes on
        out.write(json.dumps({"error": " ".join(str(error).split())[:300] or type(error).__name__}).encode() + b"\n")


def _read_picture(data: bytes, shape: list[int]) -> Image:
    return np.frombuffer(data, np.uint8).reshape(shape)


def _answer(classifier: Classifier, pictures: list[Image], *, are_inputs: bool) -> list[tuple[str, str]]:
    if not pictures:
        return []
    if are_inputs:
        found = classifier.interpret_all(answer(classifier.runtime, np.stack(pictures)))
    else:
        found = classifier.classify(pictures)
    return [(each.verdict, classifier.labels[each.class_id]) for each in found]


if __name__ == "__main__":
    _serve()
