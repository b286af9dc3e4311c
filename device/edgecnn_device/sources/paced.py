"""Makes frames that are always there behave like a camera: each at its time, whether anybody looks or not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from edgecnn_device.frames import Frame, Missing
from edgecnn_device.sources.live import Picture


class PacedCamera:
    """Plays frames at `fps`, or by their own times in a video file."""

    def __init__(
        self, name: str, play: Callable[[], Iterable[Frame | Missing]], fps: float, *, by_media_time: bool = False
    ) -> None:
        """Play what `play()` yields; its end is the end of the camera."""
        self.name = name
        self._play = play
        self._period_s = 1 / fps
        self._by_media_time = by_media_time
        self._stopping = threading.Event()

    def pictures(self) -> Iterator[Picture]:
        """Yield a picture when its time has come."""
        due_s, last = time.monotonic(), None
        for frame in self._play():
            due_s += self._gap_s(last, frame)
            if self._stopping.wait(max(0.0, due_s - time.monotonic())):
                return
            # Time that was lost is not made up for: a camera does not deliver two frames at once.
            due_s = max(due_s, time.monotonic())
            last = frame
            if isinstance(frame, Frame):
                yield Picture(frame.image_bgr, time.monotonic(), frame.source, frame.media_time_s)

    def interrupt(self) -> None:
        """End `pictures()`."""
        self._stopping.set()

    def _gap_s(self, last: Frame | Missing | None, frame: Frame | Missing) -> float:
        """Return how long after the last frame this one is due."""
        if last is None:
            return 0.0
        if self._by_media_time and isinstance(last, Frame) and isinstance(frame, Frame):
            gap_s = (frame.media_time_s or 0.0) - (last.media_time_s or 0.0)
            return gap_s if gap_s > 0 else self._period_s  # a loop begins the file again
        return self._period_s
