"""TensorFlow's image classification example for the Raspberry Pi, re-expressed for a model without its metadata.

As there: the frame is mirrored, turned to RGB, resized, classified by one interpreter, sorted, and the results are written into
the picture; the window is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from harness import run
from numpy.typing import NDArray

NEEDS = ["numpy", "opencv-python-headless", "ai-edge-litert"]
Pixels = NDArray[np.uint8]


def resize(rgb: Pixels) -> Pixels:
    """Return the model's input, `(200, 200, 1)`, as the example makes it."""
    return cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (200, 200))[:, :, None]


def answers(model: Path, folder: Path, video: str, prepare: Callable[[Pixels], Pixels] = resize) -> Iterator[int]:
    """Yield the class of each frame."""
    interpreter = Interpreter(model_path=str(model), num_threads=4)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = outputs["quantization"]
    capture = cv2.VideoCapture(video)
    while True:
        there, image = capture.read()
        if not there:
            return
        image = cv2.flip(image, 1)
        pixels = prepare(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        interpreter.set_tensor(inputs["index"], (pixels.astype(np.int16) - 128).astype(np.int8)[None])
        interpreter.invoke()
        scores = (interpreter.get_tensor(outputs["index"])[0].astype(np.float32) - zero_point) * scale
        best = np.argsort(-scores)[:3]
        for row, class_id in enumerate(best):
            text = f"{class_id} ({scores[class_id]:.2f})"
            cv2.putText(image, text, (24, 40 + 20 * row), cv2.FONT_HERSHEY_PLAIN, 1, (0, 0, 255), 1)
        yield int(best[0])


if __name__ == "__main__":
    run(answers, NEEDS)
