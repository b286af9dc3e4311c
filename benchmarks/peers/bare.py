"""The bare script: OpenCV reads, the same preprocessing, the same interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from harness import run

from edgecnn.preprocessing import Preprocessing


def answers(model: Path, folder: Path, video: str) -> Iterator[int]:
    """Yield the class of each frame."""
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    input_index = interpreter.get_input_details()[0]["index"]
    output_index = interpreter.get_output_details()[0]["index"]
    preprocessing = Preprocessing(200, 200)
    capture = cv2.VideoCapture(video)
    while True:
        there, image = capture.read()
        if not there:
            return
        interpreter.set_tensor(input_index, (preprocessing(image)[None] ^ np.uint8(0x80)).view(np.int8))
        interpreter.invoke()
        yield int(interpreter.get_tensor(output_index)[0].argmax())


run(answers, ["numpy", "opencv-python-headless", "ai-edge-litert"])
