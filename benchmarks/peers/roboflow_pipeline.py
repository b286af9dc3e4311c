"""Roboflow's inference pipeline with logic of one's own, which needs neither its service nor a key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from harness import run
from inference import InferencePipeline


def answers(model: Path, folder: Path, video: str) -> Iterator[int]:
    """Yield the class of each frame."""
    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    found: SimpleQueue[int] = SimpleQueue()

    def classify(frames: list[Any]) -> list[int]:
        class_ids = []
        for frame in frames:
            gray = cv2.resize(cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY), (200, 200), interpolation=cv2.INTER_AREA)
            interpreter.set_tensor(inputs["index"], (gray[None, :, :, None] ^ np.uint8(0x80)).view(np.int8))
            interpreter.invoke()
            class_ids.append(int(interpreter.get_tensor(outputs["index"])[0].argmax()))
        return class_ids

    pipeline = InferencePipeline.init_with_custom_logic(
        video_reference=video, on_video_frame=classify, on_prediction=lambda class_id, frame: found.put(class_id)
    )
    pipeline.start(use_main_thread=False)
    for _ in range(int(cv2.VideoCapture(video).get(cv2.CAP_PROP_FRAME_COUNT))):
        yield found.get()
    pipeline.join()


run(answers, ["inference", "ai-edge-litert"])
