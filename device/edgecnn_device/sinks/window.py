"""A window on the desktop, where OpenCV was built with one."""

from __future__ import annotations

from types import TracebackType

import cv2

from edgecnn.errors import MissingDependencyError
from edgecnn_device.annotate import annotate
from edgecnn_device.frames import Observation

_TITLE = "edgecnn"


class WindowSink:
    """Shows the annotated frames."""

    name = "window"

    def __init__(self) -> None:
        """Open the window; MissingDependencyError with an OpenCV that has none, or without a display."""
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise MissingDependencyError(
                "this OpenCV has no windows, or there is no display. On a desktop, install one that has: "
                "pip uninstall opencv-python-headless; pip install 'opencv-python<5'"
            ) from error

    def __enter__(self) -> WindowSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        cv2.destroyWindow(_TITLE)

    def write(self, observation: Observation) -> None:
        """Show one frame."""
        image = annotate(observation)
        if image is not None:
            cv2.imshow(_TITLE, image)
            cv2.waitKey(1)
