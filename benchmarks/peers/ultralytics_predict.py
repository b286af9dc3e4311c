"""Ultralytics: `YOLO(...).predict(source=video, stream=True)` with a classification network of its own.

It cannot load our files; its smallest classifier, untrained, is made from the description that it brings, at our input size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["YOLO_OFFLINE"] = "1"
from harness import run
from ultralytics import YOLO


def answers(model: Path, folder: Path, video: str) -> Iterator[int]:
    """Yield the class of each frame."""
    network = YOLO("yolo11n-cls.yaml")
    for result in network.predict(source=video, stream=True, imgsz=200, verbose=False):
        yield int(result.probs.top1)


run(answers, ["ultralytics"])
