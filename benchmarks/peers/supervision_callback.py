"""supervision with a callback: its frame generator, `Classifications`, and its label annotator on each frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import supervision as sv
from ai_edge_litert.interpreter import Interpreter
from harness import run


def answers(model: Path, folder: Path, video: str) -> Iterator[int]:
    """Yield the class of each frame."""
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero_point = outputs["quantization"]
    annotator = sv.LabelAnnotator()

    def callback(frame: np.ndarray) -> sv.Classifications:
        gray = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), (200, 200), interpolation=cv2.INTER_AREA)
        interpreter.set_tensor(inputs["index"], (gray[None, :, :, None] ^ np.uint8(0x80)).view(np.int8))
        interpreter.invoke()
        scores = (interpreter.get_tensor(outputs["index"])[0].astype(np.float32) - zero_point) * scale
        return sv.Classifications(class_id=np.arange(len(scores)), confidence=scores)

    for frame in sv.get_video_frames_generator(video):
        found = callback(frame)
        class_ids, confidences = found.get_top_k(1)
        height, width = frame.shape[:2]
        box = sv.Detections(xyxy=np.array([[0, 0, width, height]], float), class_id=class_ids, confidence=confidences)
        annotator.annotate(frame, box, labels=[f"{class_ids[0]} {confidences[0]:.2f}"])
        yield int(class_ids[0])


run(answers, ["supervision", "ai-edge-litert", "opencv-python-headless"])
