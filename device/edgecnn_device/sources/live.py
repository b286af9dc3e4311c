"""A capture thread that keeps only the newest frame, and goes on trying when the camera is gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Protocol

import cv2

from edgecnn.errors import CameraError, InputError
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.frames import Frame, Image, Missing
from edgecnn_device.torn import torn, torn_by

RETRY_S = (0.5, 30.0)


@dataclass(frozen=True, eq=False)
class Picture:
    """What a camera delivers: `image_bgr` `(h, w, 3)` uint8, when it came (monotonic), and what only some have.

    These are the picture's own `name`, its place in a video (see `Frame`), and `damage`: what its decoder says is wrong.
    """

    image_bgr: Image
    monotonic_s: float
    name: str = ""
    media_time_s: float | None = None
    damage: str = ""


@dataclass(frozen=True)
class Idle:
    """A camera that is there has no new picture, for `reason`."""

    reason: str


class Camera(Protocol):
    """Something live that delivers pictures until it fails."""

    @property
    def name(self) -> str:
        """Name the camera without any password."""

    def pictures(self) -> Iterator[Picture | Idle]:
        """Connect and yield pictures. CameraError when it fails; a clean end says that nothing more will ever come."""

    def interrupt(self) -> None:
        """End `pictures()` at once, from any thread, for good."""


class NewestFrame:
    """A mailbox with one place: a frame that is put in replaces one that nobody took."""

    def __init__(self) -> None:
        """Begin empty."""
        self.skipped = 0
        self._frame: Frame | None = None
        self._changed = threading.Condition()

    def put(self, frame: Frame) -> None:
        """Leave a frame; one that still lies there is counted as skipped."""
        with self._changed:
            self.skipped += self._frame is not None
            self._frame = frame
            self._changed.notify()

    def take(self, patience_s: float) -> Frame | None:
        """Take the newest frame, waiting at most `patience_s` for one."""
        with self._changed:
            if self._frame is None:
                self._changed.wait(patience_s)
            frame, self._frame = self._frame, None
            return frame


class LiveCapture:
    """Iterates over a camera's newest frames, and over a `Missing` about ten times a second while none comes.

    A context manager: the thread starts on entry and is joined on exit. `losses` counts the failures of the camera, each of
    which is followed by another try after 0.5 s, then 1 s, and so on up to 30 s; a picture that comes sets the delay back.
    `retry_s` is when that will be, on the monotonic clock; None at other times.
    """

    live = True
    endless = True

    def __init__(
        self,
        camera: Camera,
        *,
        fps: float = 30.0,
        transform: Callable[[Image], Image] | None = None,
        clock: Callable[[], float] = time.monotonic,
        retry_s: tuple[float, float] = RETRY_S,
        patience_s: float = 0.1,
    ) -> None:
        """Read `camera`, asked for `fps`; `transform` is applied to the frames that are taken, not to the skipped.

        A lost camera is tried again after the first time of `retry_s`, then twice that, up to the second. A `Missing` is
        yielded per `patience_s` without a frame.
        """
        self.fps = fps
        self.losses = 0
        self.retry_s: float | None = None
        self.captured = 0
        self._camera = camera
        self._transform = transform
        self._clock = clock
        self._first_delay_s, self._longest_delay_s = retry_s
        self._patience_s = patience_s
        self._newest = NewestFrame()
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._reason = "connecting"
        self._bug: BaseException | None = None
        self._thread = threading.Thread(target=self._capture, name="capture", daemon=True)

    @property
    def skipped(self) -> int:
        """Frames that were replaced by a newer one before anybody took them."""
        return self._newest.skipped

    def __enter__(self) -> LiveCapture:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._camera.interrupt()
        self._thread.join()

    def __iter__(self) -> Iterator[Frame | Missing]:
        """Yield until the camera ends for good; forever with a camera that only fails."""
        last_s = self._clock()
        while True:
            ended = self._ended.is_set()
            frame = self._newest.take(0.0 if ended else self._patience_s)
            if frame is not None:
                last_s = frame.monotonic_s
                yield frame if self._transform is None else transformed(frame, self._transform)
            elif ended:
                if self._bug is not None:
                    raise self._bug
                return
            else:
                yield Missing(self._camera.name, self._reason, last_s)

    def _capture(self) -> None:
        try:
            self._keep_reading()
        except BaseException as error:  # a bug must not leave the loop waiting for a thread that is gone
            self._bug = error
        finally:
            self._ended.set()

    def _keep_reading(self) -> None:
        delay_s = self._first_delay_s
        while not self._stopping.is_set():
            try:
                for picture in self._camera.pictures():
                    delay_s = self._first_delay_s
                    if isinstance(picture, Idle):
                        self._reason = picture.reason
                        continue
                    self._reason = "waiting for the next frame"
                    self._put(picture)
                return
            except CameraError as error:
                if self._stopping.is_set():  # we ended it ourselves
                    return
                self.losses += 1
                self._reason = str(error)
            self.retry_s = self._clock() + delay_s
            self._stopping.wait(delay_s)
            self.retry_s = None
            delay_s = min(2 * delay_s, self._longest_delay_s)

    def _put(self, picture: Picture) -> None:
        number, self.captured = self.captured, self.captured + 1
        age_s = self._clock() - picture.monotonic_s
        captured_at = datetime.now(UTC) - timedelta(seconds=age_s)
        name = picture.name or self._camera.name
        unusable = torn_by(picture.damage)
        frame = Frame(picture.image_bgr, number, name, captured_at, picture.monotonic_s, picture.media_time_s, unusable)
        self._newest.put(frame)


def transformed(frame: Frame, transform: Callable[[Image], Image]) -> Frame:
    """Return the frame with its picture transformed.

    Whether the picture is torn is asked before, while its blocks lie as they were decoded. One that cannot be transformed,
    such as that of a camera that came back with another size, stays as it is and is `unusable`.
    """
    unusable = frame.unusable or torn(frame.image_bgr)
    try:
        return replace(frame, image_bgr=transform(frame.image_bgr), unusable=unusable)
    except (InputError, cv2.error) as error:
        return replace(frame, unusable=unusable or " ".join(str(error).split()))
