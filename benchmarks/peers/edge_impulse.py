"""Edge Impulse's Python SDK: its own loop from frame to features to the runner process, by shared memory, its fastest way.

A real `.eim` is built in its cloud; here a process that speaks its protocol runs the same LiteRT model.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import cv2
from harness import run

sys.modules["pyaudio"] = types.ModuleType("pyaudio")  # only for sound, and needs a compiler
from edge_impulse_linux.image import ImageImpulseRunner  # noqa: E402


def answers(model: Path, folder: Path, video: str) -> Iterator[int]:
    """Yield the class of each frame."""
    runner = Path(__file__).with_name("edge_impulse_runner.py")
    command = Path(sys.prefix) / "neu.eim"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{runner}" "{model.resolve()}" "$1"\n')
    command.chmod(0o755)
    with ImageImpulseRunner(str(command)) as impulse:
        impulse.init()
        capture = cv2.VideoCapture(video)
        while True:
            there, image = capture.read()
            if not there:
                break
            features, _ = impulse.get_features_from_image_auto_studio_settings(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            scores = impulse.classify(features)["result"]["classification"]
            yield int(max(scores, key=scores.__getitem__))
        impulse.stop()


run(answers, ["edge_impulse_linux", "opencv-python-headless", "ai-edge-litert"])
