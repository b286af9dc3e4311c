"""The Raspberry Pi's own camera, through picamera2, which comes from apt and not from PyPI."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgecnn.errors import CameraError, MissingDependencyError
from edgecnn_device.frames import Image
from edgecnn_device.sources.process import Request

_USUAL_SIZE_WH = (640, 480)
INSTALL = (
    "picamera2 is not there. Install it with: sudo apt install python3-picamera2, "
    "and make the environment with: python3 -m venv --system-site-packages"
)


def open_csi(request: Request) -> Callable[[], Image]:
    """Start the camera and return the function that reads the next picture.

    Raises MissingDependencyError without picamera2, CameraError when there is no camera.
    """
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise MissingDependencyError(INSTALL) from error
    try:
        camera = Picamera2()
        # picamera2 names formats by their place in a little-endian word: RGB888 is B, G, R in memory.
        controls = {"FrameRate": request.fps} if request.fps else {}
        size_wh = request.size_wh or _USUAL_SIZE_WH
        camera.configure(camera.create_video_configuration(main={"size": size_wh, "format": "RGB888"}, controls=controls))
        camera.start()
    except (RuntimeError, IndexError, OSError, ValueError) as error:
        raise CameraError(f"the CSI camera cannot be started: {error}") from error

    def read() -> Image:
        return np.ascontiguousarray(camera.capture_array("main"), np.uint8)

    return read
