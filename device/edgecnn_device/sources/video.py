"""A video file, read frame by frame without loss."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from edgecnn.errors import CameraError, InputError
from edgecnn_device.frames import Frame, Missing
from edgecnn_device.sources import decoder_log, room

USUAL_FPS = 30.0
# Some formats do not count their frames; FFmpeg then computes duration times rate, which may be a little off, or nonsense.
_USUAL_PART, _MOST_FRAMES = 0.9, 1e8


def open_video(path: Path) -> cv2.VideoCapture:
    """Open a file; InputError when OpenCV cannot read it."""
    if not path.is_file():
        raise InputError(f"no such video file: {path}")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise InputError(f"{path} is not a video that OpenCV can read")
    room.check_file(path, capture)
    if not decoder_log.converts_interlaced():
        _refuse_interlaced(path)
    return capture


def _refuse_interlaced(path: Path) -> None:
    """Raise InputError for an interlaced file, by having its first pictures decoded where the decoder's words can be read."""
    from edgecnn_device.sources.process import ProcessCamera, Request

    try:
        for _ in ProcessCamera(path.name, Request("stream", str(path))).pictures():
            return
    except CameraError as error:
        if "interlaced" in str(error):
            raise InputError(f"{path}: {error}") from error


def video_fps(capture: cv2.VideoCapture) -> float:
    """Return the frame rate that a file states, 30 when it states none or nonsense."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if 0.1 <= fps <= 1000 else USUAL_FPS


def read_video(path: Path, capture: cv2.VideoCapture, *, loop: bool = False) -> Iterator[Frame | Missing]:
    """Yield the frames of `capture`, which has just opened `path`, again from the beginning when `loop`, and close it.

    A file that ends well before the frames that it states is followed by a `Missing`. InputError when there is no frame.
    """
    number, name, fps = 0, str(path), video_fps(capture)
    while True:
        before, stated = number, capture.get(cv2.CAP_PROP_FRAME_COUNT)
        media_time_s: float | None = None
        try:
            while True:
                there, image_bgr = capture.read()
                if not there:
                    break
                media_time_s = _media_time_s(capture, media_time_s, fps)
                frame = Frame(np.asarray(image_bgr, np.uint8), number, name, datetime.now(UTC), time.monotonic(), media_time_s)
                number += 1
                yield frame
                del frame, image_bgr  # its picture is in the processor's cache: the next one should get that very memory
        finally:
            capture.release()
        if number == before:
            raise InputError(f"{path} holds no frame that OpenCV can read")
        # A file of variable rate has fewer frames than its length and rate let FFmpeg expect, but it ends where it should.
        read = max(number - before, (media_time_s or 0.0) * fps + 1)
        if read < _USUAL_PART * stated < _MOST_FRAMES:
            yield Missing(name, f"the video is cut short or damaged: {number - before} of {stated:.0f} frames could be read")
        if not loop:
            return
        capture = open_video(path)


def _media_time_s(capture: cv2.VideoCapture, last_s: float | None, fps: float) -> float:
    """Return the time stamp of the frame just read, in seconds from the beginning; without one, a frame's time after the last.

    Raw H.264 has none, which OpenCV gives as 0.
    """
    stamp_s = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
    if last_s is None:
        return stamp_s if 0 <= stamp_s < math.inf else 0.0
    return stamp_s if last_s < stamp_s < math.inf else last_s + 1 / fps
