"""Plain OpenCV: its DNN module on the float ONNX (its TFLite reader cannot run the int8 file)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
from harness import run


def answers(model: Path, folder: Path, video: str) -> Iterator[int]:
    """Yield the class of each frame."""
    network = cv2.dnn.readNetFromONNX(str(folder / "neu-float32.onnx"))
    capture = cv2.VideoCapture(video)
    while True:
        there, image = capture.read()
        if not there:
            return
        gray = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (200, 200), interpolation=cv2.INTER_AREA)
        network.setInput(gray.astype("float32")[None, :, :, None])
        yield int(network.forward().argmax())


run(answers, ["numpy", "opencv-python-headless"])
