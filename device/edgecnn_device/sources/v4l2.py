"""USB cameras and everything else that Linux shows as /dev/video*."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from edgecnn.errors import CameraError
from edgecnn_device.frames import Image
from edgecnn_device.sources import v4l2_device

if TYPE_CHECKING:
    from edgecnn_device.sources.process import Request

# Beyond this a USB 2 camera has no bandwidth left for raw pictures at full rate.
_MAX_RAW_PIXELS = 640 * 480
_MOST_DAMAGED = 30


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that reads: `grab` waits for a picture, `retrieve` decodes it."""

    def grab(self) -> bool: ...  # noqa: D102
    def retrieve(self) -> tuple[bool, Any]: ...  # noqa: D102


def open_v4l2(request: Request) -> Callable[[], Image]:
    """Open a device and return the function that reads the next picture; CameraError when that fails."""
    if not Path(request.target).exists():
        raise CameraError(f"no device {request.target}: is the camera plugged in? `edgecnn doctor` lists what is there")
    node = v4l2_device.identify(request.target)
    if node is not None and node.kind != "camera":
        raise CameraError(f"{request.target} is not a camera: {node.name} ({node.kind}); `edgecnn doctor` lists the cameras")
    capture = cv2.VideoCapture(request.target, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise CameraError(f"cannot open {request.target}: in use, not a camera, or this user is not in the group video")
    for setting, value in settings(request):
        capture.set(setting, value)
    try:
        v4l2_device.set_controls(request.target, request.controls)
    except OSError as error:
        asked = ", ".join(f"{name} {value}" for name, value in request.controls.asked().items())
        raise CameraError(f"{request.target} refuses {asked}: {error.strerror or error}") from error
    return reader(capture, request.target)


def reader(capture: Capture, name: str) -> Callable[[], Image]:
    """Return the function that reads the next whole picture of a device; CameraError when none comes any more.

    USB cameras cut short or damage a compressed picture now and then, the first after the start most often: it is passed over.
    """

    def read() -> Image:
        for _ in range(_MOST_DAMAGED):
            if not capture.grab():
                raise CameraError(f"{name} stopped delivering pictures")
            there, image_bgr = capture.retrieve()
            if there and image_bgr is not None:
                return np.asarray(image_bgr, np.uint8)
        raise CameraError(f"{name} delivered {_MOST_DAMAGED} damaged pictures in a row: try another cable, port or --size")

    return read


def settings(request: Request) -> list[tuple[int, float]]:
    """Return what is asked of the driver, which takes the nearest that the camera can do."""
    asked: list[tuple[int, float]] = []
    if request.size_wh is not None:
        width, height = request.size_wh
        if width * height > _MAX_RAW_PIXELS:
            asked.append((cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")))
        asked += [(cv2.CAP_PROP_FRAME_WIDTH, width), (cv2.CAP_PROP_FRAME_HEIGHT, height)]
    if request.fps is not None:
        asked.append((cv2.CAP_PROP_FPS, request.fps))
    return asked
