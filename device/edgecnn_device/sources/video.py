"""A video file, read frame by frame without loss."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from edgecnn.errors import InputError
from edgecnn_device.frames import Frame

USUAL_FPS = 30.0


def read_video(path: Path, *, loop: bool = False) -> Iterator[Frame]:
    """Yield the frames of a file, again from its beginning when `loop`; InputError when it holds none."""
    number = 0
    while True:
        before = number
        capture = _open(path)
        try:
            while True:
                there, image_bgr = capture.read()
                if not there:
                    break
                number += 1
                yield Frame(np.asarray(image_bgr, np.uint8), number, str(path), datetime.now(UTC), time.monotonic())
        finally:
            capture.release()
        if number == before:
            raise InputError(f"{path} holds no frame that OpenCV can read")
        if not loop:
            return


def video_fps(path: Path) -> float:
    """Return the frame rate that the file states, 30 when it states none or nonsense."""
    capture = _open(path)
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    capture.release()
    return fps if 0.1 <= fps <= 1000 else USUAL_FPS


def _open(path: Path) -> cv2.VideoCapture:
    if not path.is_file():
        raise InputError(f"no such video file: {path}")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path} is not a video that OpenCV can read")
    return capture
