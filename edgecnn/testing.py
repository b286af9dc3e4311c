"""Stand-ins for a board's hardware, for tests of your own sources, sinks and loops. No ML framework is loaded.

from edgecnn.testing import FakeCamera, JumpingClock, fake_classifier, gray_picture

clock = JumpingClock()
camera = FakeCamera([gray_picture(60), gray_picture(240), None], clock=clock)
watcher = Watcher(fake_classifier, look_at(find_whole), Health(Limits()), Tracker(1), clock=clock)
run_loop(camera, watcher, [my_sink])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.preprocessing import Preprocessing
from edgecnn_device.frames import Frame, Image, Missing, Observation

__all__ = ["LABELS", "START", "FakeCamera", "FakeRuntime", "JumpingClock", "ListSink", "fake_classifier", "gray_picture"]

LABELS = ("dark", "gray", "light")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)  # the wall clock's time at second 0 of a JumpingClock


class JumpingClock:
    """A monotonic clock in seconds that stands still until it is moved."""

    def __init__(self, now_s: float = 100.0) -> None:
        """Show `now_s`."""
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the time in seconds, as `time.monotonic` does."""
        return self.now_s

    def jump(self, seconds: float) -> None:
        """Move on."""
        self.now_s += seconds


class FakeRuntime:
    """Answers by the mean gray of a picture, with the probability 0.9; `batches` are the sizes of what it was given."""

    name = "brightness 1.0"

    def __init__(self) -> None:
        """Have answered nothing yet."""
        self.batches: list[int] = []

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` uint8 to probabilities `(n, 3)`."""
        self.batches.append(len(images))
        winners = np.minimum(images.reshape(len(images), -1).mean(axis=1) // 86, 2).astype(int)
        return np.where(np.arange(3) == winners[:, None], 0.9, 0.05).astype(np.float32)


def fake_classifier(reject_threshold: float | None = None, runtime: FakeRuntime | None = None) -> Classifier:
    """Return a classifier of brightness with `LABELS` that looks at 20 x 20 gray pixels."""
    return Classifier(runtime or FakeRuntime(), LABELS, Preprocessing(20, 20), reject_threshold)


def gray_picture(level: int, seed: int = 0, size_hw: tuple[int, int] = (48, 64)) -> Image:
    """Return a picture `(h, w, 3)` uint8 of about one gray level with a sensor's noise, without which it would be `blind`."""
    noise = np.random.default_rng(seed).integers(-8, 9, (*size_hw, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


class FakeCamera:
    """A source that shows `pictures` `(h, w, 3)` uint8, one per 1 / `fps` seconds of the clock; None is a lost frame."""

    endless = False
    skipped = 0
    retry_s: float | None = None

    def __init__(
        self,
        pictures: Iterable[Image | None],
        *,
        clock: JumpingClock,
        fps: float = 30.0,
        live: bool = True,
        name: str = "fake",
    ) -> None:
        """Show them when it is iterated over."""
        self.fps, self.live, self.losses = fps, live, 0
        self._pictures, self._clock, self._name = pictures, clock, name

    def __enter__(self) -> FakeCamera:
        """Open nothing."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close nothing."""

    def __iter__(self) -> Iterator[Frame | Missing]:
        """Yield a frame for each picture, and a `Missing` for each None."""
        last_s, was_lost = self._clock(), False
        for number, picture in enumerate(self._pictures):
            self._clock.jump(1 / self.fps)
            if picture is None:
                self.losses += not was_lost
                yield Missing(self._name, "unplugged", last_s)
            else:
                last_s = self._clock()
                yield Frame(picture, number, self._name, START + timedelta(seconds=last_s), last_s)
            was_lost = picture is None


class ListSink:
    """Remembers observations; fails with `error` while that is set."""

    name = "list"

    def __init__(self) -> None:
        """Have seen nothing yet."""
        self.observations: list[Observation] = []
        self.error: Exception | None = None

    def write(self, observation: Observation) -> None:
        """Keep one observation."""
        if self.error is not None:
            raise self.error
        self.observations.append(observation)

    def __enter__(self) -> ListSink:
        """Open nothing."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close nothing."""
