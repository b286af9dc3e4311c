"""Does what a camera does, a mark before each step, for the emulator to count: `count.py FOLDER OUT.json MODEL...`.

Each MODEL is a folder in FOLDER that holds a model and frames.

A mark is a call of getppid(2), at which the plugin prints the instructions executed so far; OUT.json gets the marks' names in
order. What follows a mark up to the next belongs to its name; an empty name is not counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import golden
from edgecnn_device.finders import choose_look
from edgecnn_device.frames import Frame
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Watcher, run_loop
from edgecnn_device.model import Model, ModelOptions, open_model
from edgecnn_device.sinks.jsonl import JsonLinesSink
from edgecnn_device.tracking import Tracker

INVOKES, WARM_UP = 5, 2
LIMIT_S = 600.0  # an emulated model on a busy machine
MARKS: list[str] = []


def mark(name: str = "") -> bool:
    """Begin what is counted under `name`."""
    MARKS.append(name)
    os.getppid()
    return True


def count_inference(name: str, model: Model) -> None:
    """Run one picture a few times."""
    contract = model.artifact.contract
    images = golden.make_inputs(contract.golden.seeds[:1], contract.preprocessing.shape)
    for number in range(WARM_UP + INVOKES):
        mark(f"{name} inference" if number >= WARM_UP else "")
        model.classifier.runtime.run(images)
    mark()


def count_frames(name: str, model: Model, pictures: NDArray[np.uint8], lines: Path) -> None:
    """Take frames `(n, h, w, 3)` through the whole loop, writing JSON lines to `lines`."""
    frames = [Frame(picture, i, "counted", datetime.now(UTC), time.monotonic()) for i, picture in enumerate(pictures)]
    classifier = model.classifier
    look = choose_look(classifier.preprocessing)
    watcher = Watcher(lambda: classifier, look, Health(Limits(live=False)), Tracker(5))
    before = iter([""] * WARM_UP + [f"{name} frame"] * (len(frames) - WARM_UP) + [""])
    with JsonLinesSink(lines, max_bytes=10**9, keep=1) as sink:
        run_loop(frames, watcher, [sink], between=lambda: mark(next(before)))


def main(folder: Path, out: Path, names: list[str]) -> None:
    """Count for each model; `folder` holds `NAME/model.tflite` and frames as `NAME/frames.npy`."""
    cv2.setNumThreads(1)  # threads that wait for work spin, and how often depends on the machine
    for name in names:
        model = open_model(ModelOptions(str(folder / name / "model.tflite"), timeout_s=LIMIT_S))
        count_inference(name, model)
        count_frames(name, model, np.load(folder / name / "frames.npy"), out.with_suffix(".jsonl"))
    out.write_text(json.dumps(MARKS))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[-1]), sys.argv[2:-1])
