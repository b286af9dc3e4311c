"""Network cameras: RTSP, HTTP and MJPEG by their address, through OpenCV's FFmpeg."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgecnn.addresses import origin
from edgecnn.errors import CameraError
from edgecnn_device.frames import Image
from edgecnn_device.sources import room

if TYPE_CHECKING:
    from edgecnn_device.sources.process import Request


def open_stream(request: Request) -> Callable[[], Image | None]:
    """Connect and return the function that reads the next picture; CameraError when that fails.

    An http address that gives one picture is polled.
    """
    if request.target.lower().startswith(("http://", "https://")):
        from edgecnn_device.sources.snapshot import try_snapshots

        if (snapshots := try_snapshots(request)) is not None:
            return snapshots
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
    room.check_camera(room.read_size(capture), request.size_wh, refers=room.refers_to_others(capture))

    return StreamReader(capture)


class StreamReader:
    """Reads the next picture of a stream."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        """Read `capture`, which is open."""
        self._capture = capture
        self._buffer: Image | None = None

    def __call__(self) -> Image:
        """Return the next picture, in the memory of the one before; CameraError when there is none."""
        there, image_bgr = self._capture.read(self._buffer)
        if not there:
            raise CameraError("the stream ended or broke")
        self._buffer = np.asarray(image_bgr, np.uint8)
        return self._buffer

    def kind_of_last(self) -> str:
        """Return how the last picture was coded: I alone, P and B by means of others."""
        return chr(int(self._capture.get(cv2.CAP_PROP_FRAME_TYPE)))
