"""Network cameras: RTSP, HTTP and MJPEG by their address, through OpenCV's FFmpeg."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgecnn.addresses import origin
from edgecnn.errors import CameraError
from edgecnn_device.frames import Image

if TYPE_CHECKING:
    from edgecnn_device.sources.process import Request


def open_stream(request: Request) -> Callable[[], Image]:
    """Connect and return the function that reads the next picture; CameraError when that fails."""
    settings = {
        # The parent ends this process sooner. FFmpeg's own limits end a process that has lost its parent.
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: int(2000 * request.open_timeout_s),
        cv2.CAP_PROP_READ_TIMEOUT_MSEC: int(2000 * request.read_timeout_s),
        # A decoder with n threads gives every frame n - 1 frames late, and after a stall those from before it.
        cv2.CAP_PROP_N_THREADS: 1,
    }
    capture = cv2.VideoCapture(request.target, cv2.CAP_FFMPEG, [value for pair in settings.items() for value in pair])
    if not capture.isOpened():
        raise CameraError(f"cannot open {origin(request.target)}: refused, unknown or no stream")

    def read() -> Image:
        there, image_bgr = capture.read()
        if not there:
            raise CameraError("the stream ended or broke")
        return np.asarray(image_bgr, np.uint8)

    return read
