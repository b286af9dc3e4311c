"""One measurement in a process of its own, so that load times and memory are those of this runtime alone.

Run as `python -m edgecnn_device.bench.worker` with a request as JSON on stdin; the answer is JSON on stdout.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2

from edgecnn.artifacts import Artifact
from edgecnn.classifier import Classifier
from edgecnn.errors import EdgecnnError
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.runtimes.select import TFLITE_RUNTIMES, answering
from edgecnn_device.bench.digits import SIZES_WH, draw_scene, measure_frames
from edgecnn_device.bench.inputs import measured_pictures
from edgecnn_device.bench.timing import Latency, repeat, resident_bytes
from edgecnn_device.finders import find_whole, look_at, read_handwriting
from edgecnn_device.frames import Frame, Image
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Watcher, run_loop
from edgecnn_device.tracking import Tracker


@dataclass(frozen=True)
class Request:
    """What to measure: a file on a runtime, with or without its delegate, and the number of threads.

    With `opencv_threads` only what a frame takes is measured, with so many threads for OpenCV.
    """

    path: str
    runtime: str
    delegate: bool
    threads: int
    runs: int
    seconds: float
    source: str | None
    seed: int
    opencv_threads: int | None = None


def measure(request: Request) -> dict[str, Any]:
    """Load the file, run it once, then again and again; times in milliseconds, memory in bytes."""
    artifact = Artifact.open(Path(request.path))
    pictures = measured_pictures(artifact.contract, request.source, request.seed)
    before_bytes, started_s = resident_bytes(), time.perf_counter()
    if request.runtime in TFLITE_RUNTIMES:
        importlib.import_module(TFLITE_RUNTIMES[request.runtime][0])
    else:
        importlib.import_module("edgecnn.runtimes.onnx")
    imported_s = time.perf_counter()
    runtime = _open(artifact, request)
    loaded_s = time.perf_counter()
    classifier = Classifier(runtime, artifact.contract.labels, artifact.contract.preprocessing)
    prepared = classifier.preprocessing(pictures[0])[None]
    first_s = -time.perf_counter()
    runtime.run(prepared)
    first_s += time.perf_counter()
    stages = _stages(classifier, pictures, request)
    return {
        "runtime": runtime.name,
        "delegate": request.delegate,
        "threads": request.threads,
        "import_ms": round(1000 * (imported_s - started_s), 3),
        "load_ms": round(1000 * (loaded_s - imported_s), 3),
        "first_run_ms": round(1000 * first_s, 3),
        **{stage: latency.to_json() for stage, latency in stages.items()},
        "frames": _frames_of_digits(classifier, request),
        "loop_fps": round(_loop_fps(classifier, pictures, request), 1),
        "rss_before_bytes": before_bytes,
        "rss_after_bytes": resident_bytes(),
    }


def measure_frame_ms(request: Request) -> dict[str, float]:
    """Return the milliseconds that a frame takes in the camera loop, without decoding and without outputs."""
    cv2.setNumThreads(request.opencv_threads or 1)
    artifact = Artifact.open(Path(request.path))
    classifier = Classifier(_open(artifact, request), artifact.contract.labels, artifact.contract.preprocessing)
    if classifier.preprocessing.fit == "digit":
        pictures = [draw_scene("14 digits", SIZES_WH[0], request.seed)]
    else:
        pictures = measured_pictures(artifact.contract, request.source, request.seed)
    return {"frame_ms": 1000 / _loop_fps(classifier, pictures, request)}


def _open(artifact: Artifact, request: Request) -> Runtime:
    if request.delegate:
        return open_runtime(artifact, runtime=request.runtime, threads=request.threads)
    from edgecnn.runtimes import litert
    from edgecnn.runtimes.tflite import TfliteRuntime

    interpreter = litert.open_interpreter(artifact.model, request.threads, delegate=False)
    graph = TfliteRuntime(interpreter, litert.NAME, with_features=artifact.contract.features is not None)
    return answering(graph, artifact.contract, artifact.format)


def _stages(classifier: Classifier, pictures: list[Image], request: Request) -> dict[str, Latency]:
    """Measure the stages of the whole path, picture after picture."""
    durations: dict[str, list[float]] = {"preprocess": [], "invoke": [], "whole": []}

    def classify(number: int) -> None:
        begun_s = time.perf_counter()
        prepared = classifier.preprocessing(pictures[number % len(pictures)])[None]
        prepared_s = time.perf_counter()
        probabilities = classifier.runtime.run(prepared)
        invoked_s = time.perf_counter()
        classifier.interpret(probabilities[0])
        ended_s = time.perf_counter()
        if number >= 0:
            for stage, seconds in zip(
                durations, (prepared_s - begun_s, invoked_s - prepared_s, ended_s - begun_s), strict=True
            ):
                durations[stage].append(seconds)

    repeat(classify, runs=request.runs, seconds=request.seconds)
    return {stage: Latency.of(seconds) for stage, seconds in durations.items()}


def _frames_of_digits(classifier: Classifier, request: Request) -> list[dict[str, Any]]:
    """Measure whole frames where the model reads digits in them."""
    if classifier.preprocessing.fit != "digit":
        return []
    return [cost.to_json() for cost in measure_frames(classifier, request.seed, runs=request.runs, seconds=request.seconds)]


def _loop_fps(classifier: Classifier, pictures: list[Image], request: Request) -> float:
    """Return how many frames per second the camera loop handles without decoding and without outputs."""
    reads = request.opencv_threads is not None and classifier.preprocessing.fit == "digit"
    look = read_handwriting if reads else look_at(find_whole)
    watcher = Watcher(lambda: classifier, look, Health(Limits(live=False)), Tracker(5))
    started_s = time.perf_counter()
    frames = itertools.takewhile(lambda _: time.perf_counter() < started_s + request.seconds, _frames(pictures, request.runs))
    return run_loop(frames, watcher, []).frames / (time.perf_counter() - started_s)


def _frames(pictures: list[Image], count: int) -> Iterator[Frame]:
    for number, image in zip(range(count), itertools.cycle(pictures), strict=False):
        yield Frame(image, number, "bench", datetime.now(UTC), time.monotonic())


def main() -> None:
    """Answer the request on stdin; an error of ours is one line on stderr and exit code 2."""
    try:
        request = Request(**json.load(sys.stdin))
        answer = measure(request) if request.opencv_threads is None else measure_frame_ms(request)
    except EdgecnnError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
