"""Makes frames that are always there behave like a camera: one every 1/fps seconds, whether anybody looks or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from edgecnn_device.capture import Picture
from edgecnn_device.frames import Frame, Missing


class PacedCamera:
    """Plays frames at `fps`."""

    def __init__(self, name: str, play: Callable[[], Iterable[Frame | Missing]], fps: float) -> None:
        """Play what `play()` yields; its end is the end of the camera."""
        self.name = name
        self._play = play
        self._period_s = 1 / fps
        self._stopping = threading.Event()

    def pictures(self) -> Iterator[Picture]:
        """Yield a picture when its time has come."""
        due_s = time.monotonic()
        for frame in self._play():
            if self._stopping.wait(max(0.0, due_s - time.monotonic())):
                return
            if isinstance(frame, Frame):
                yield Picture(frame.image_bgr, time.monotonic(), frame.source)
            # Time that was lost is not made up for: a camera does not deliver two frames at once.
            due_s = max(due_s + self._period_s, time.monotonic())

    def interrupt(self) -> None:
        """End `pictures()`."""
        self._stopping.set()
