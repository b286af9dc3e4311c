"""What notebooks do: `model.predict` on each frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import keras
from harness import run


def answers(model: Path, folder: Path, video: str) -> Iterator[int]:
    """Yield the class of each frame."""
    network = keras.models.load_model(model.with_name("neu-compact.keras"), compile=False)
    capture = cv2.VideoCapture(video)
    while True:
        there, image = capture.read()
        if not there:
            return
        gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (200, 200), interpolation=cv2.INTER_AREA)
        yield int(network.predict(gray.astype("float32")[None, :, :, None], verbose=0).argmax())


run(answers, ["tensorflow", "tensorflow-cpu", "keras", "opencv-python-headless"])
