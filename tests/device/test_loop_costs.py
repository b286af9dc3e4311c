"""What the loop costs beyond the work itself, in processor time, which a busy machine does not falsify."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from device_fakes import BrightnessRuntime, frame, noisy, watcher

from edgecnn_device.finders import find_whole, look_at
from edgecnn_device.frames import Frame
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Statistics, Watcher, run_loop
from edgecnn_device.model import ModelOptions, open_model
from edgecnn_device.sinks.jsonl import JsonLinesSink
from edgecnn_device.tracking import Tracker


def best_of(count: int, work: Callable[[], object]) -> float:
    spent_s = []
    for _ in range(count):
        started_s = time.thread_time()
        work()
        spent_s.append(time.thread_time() - started_s)
    return min(spent_s)


def test_the_loop_adds_little_to_preprocessing_and_inference(artifacts: Path, tmp_path: Path) -> None:
    model = open_model(ModelOptions(str(artifacts / "neu.tflite"))).classifier
    frames = [frame(noisy(128, seed, (480, 640)), seed) for seed in range(60)]
    loop = Watcher(lambda: model, look_at(find_whole), Health(Limits(live=False)), Tracker(5))

    def bare() -> None:
        for item in frames:
            model.runtime.run(model.preprocessing(item.image_bgr)[None])

    with JsonLinesSink(tmp_path / "o.jsonl", max_bytes=10**7, keep=1) as sink:
        loop_s = best_of(5, lambda: run_loop(frames, loop, [sink]))
    bare_s = best_of(5, bare)

    # 0.05 to 0.1 ms a frame; decoding, which both would do, is left out here.
    assert (loop_s - bare_s) / len(frames) < 0.25e-3


def test_memory_stays_flat(tmp_path: Path) -> None:
    runtime = BrightnessRuntime()
    loop = watcher(time.monotonic, runtime=runtime, smooth=5)
    statistics = Statistics()
    pictures = [noisy(128, seed) for seed in range(2)]

    def play(first: int, count: int) -> list[Frame]:
        return [frame(pictures[n % 2], n, at_s=time.monotonic()) for n in range(first, first + count)]

    with JsonLinesSink(tmp_path / "o.jsonl", max_bytes=100_000, keep=2) as sink:
        tracemalloc.start()
        run_loop(play(0, 2000), loop, [sink], statistics=statistics)
        runtime.batches.clear()
        before, _ = tracemalloc.get_traced_memory()
        run_loop(play(2000, 2000), loop, [sink], statistics=statistics)
        runtime.batches.clear()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert statistics.frames == 4000
    assert after - before < 60_000  # thirty bytes a frame; the interpreter's own caches grow a little
