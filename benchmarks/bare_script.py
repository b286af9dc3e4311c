"""The script that one would write without edgecnn: read a frame, the same preprocessing, the same interpreter.

What the camera loop is measured against. Run as `python bare_script.py MODEL.tflite VIDEO FRAMES PREPROCESSING`, the last as
JSON; it prints the class of each frame.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from edgecnn.preprocessing import Preprocessing


def classify_video(
    interpreter: Interpreter, preprocessing: Preprocessing, video: str, frames: int, each: Callable[[int], None]
) -> int:
    """Call `each` with the class id of every frame of an int8 model whose pixels are raw; return how many there were."""
    input_index = interpreter.get_input_details()[0]["index"]
    output_index = interpreter.get_output_details()[0]["index"]
    capture = cv2.VideoCapture(video)
    count = 0
    while count < frames:
        there, image_bgr = capture.read()
        if not there:
            break
        pixels = preprocessing(np.asarray(image_bgr, np.uint8))[None]
        interpreter.set_tensor(input_index, (pixels ^ np.uint8(0x80)).view(np.int8))
        interpreter.invoke()
        each(int(interpreter.get_tensor(output_index)[0].argmax()))
        count += 1
    capture.release()
    return count


def main() -> None:
    """Classify a video as the command line says."""
    path, video, frames, fields = sys.argv[1:]
    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    classify_video(interpreter, Preprocessing(**json.loads(fields)), video, int(frames), lambda each: print(each, flush=True))


if __name__ == "__main__":
    main()
