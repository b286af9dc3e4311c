"""What the loop costs beyond the work itself."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from device_fakes import MANY_FRAMES, frame

from edgecnn.testing import gray_picture
from edgecnn_device.finders import find_whole, look_at
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Watcher, run_loop
from edgecnn_device.model import ModelOptions, open_model
from edgecnn_device.sinks.jsonl import JsonLinesSink
from edgecnn_device.tracking import Tracker


def spent_s(work: Callable[[], object]) -> float:
    """Return the processor time of `work`, which a busy machine falsifies less than the clock's."""
    started_s = time.thread_time()
    work()
    return time.thread_time() - started_s


def test_the_loop_adds_little_to_preprocessing_and_inference(artifacts: Path, tmp_path: Path) -> None:
    model = open_model(ModelOptions(str(artifacts / "neu.tflite"))).classifier
    frames = [frame(gray_picture(128, seed, (480, 640)), seed) for seed in range(40)]
    loop = Watcher(lambda: model, look_at(find_whole), Health(Limits(live=False)), Tracker(5))

    def bare() -> None:
        for item in frames:
            model.runtime.run(model.preprocessing(item.image_bgr)[None])

    with JsonLinesSink(tmp_path / "o.jsonl", max_bytes=10**7, keep=1) as sink:
        rounds = [(spent_s(bare), spent_s(lambda: run_loop(frames, loop, [sink]))) for _ in range(8)]

    # Typically 1.2; decoding, which takes longer than all of this and which both would do, is left out.
    assert min(ours for _, ours in rounds) < 1.7 * min(theirs for theirs, _ in rounds)


def test_memory_stays_flat(artifacts: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", MANY_FRAMES, str(artifacts / "neu.tflite"), str(tmp_path / "o.jsonl"), "8000"]

    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)

    assert int(result.stdout) < 1_000_000
