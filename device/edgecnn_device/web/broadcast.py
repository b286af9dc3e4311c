"""Between the loop and its viewers: the loop leaves its newest observation, viewers take it at their own pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

from edgecnn_device.classes import NO_CLASSES, Classes
from edgecnn_device.frames import Observation, State
from edgecnn_device.web.counters import Counters
from edgecnn_device.web.views import View

# The loop wakes nobody: that would cost it a system call per frame. The server looks, and only often while somebody watches.
_LOOK_S, _IDLE_LOOK_S = 1 / 30, 0.25
_FPS_OVER_S = 5.0


class Broadcast:
    """Holds the current view and wakes viewers for the next; belongs to the server's event loop, but for `put`."""

    def __init__(self, counters: Counters, frames: Callable[[], int], classes: Classes = NO_CLASSES) -> None:
        """Show nothing yet; `frames` tells how many frames the loop has taken, `classes` which answers are defects."""
        self.counters = counters
        self._classes = classes
        self.viewers: Counter[str] = Counter()
        self._frames = frames
        self._newest = Observation("", State("stale", "no frame yet"))
        self._frame_s: float | None = None
        self._shown = self._newest
        self._silence: State | None = None
        self._view = View(0, self._newest)
        self._changed = asyncio.Event()
        self._rates: deque[tuple[float, int]] = deque([(counters.started_s, 0)])

    def put(self, observation: Observation) -> None:
        """Leave the newest observation, from any thread."""
        if observation.frame is not None:
            self._frame_s = observation.frame.monotonic_s
        self._newest = observation

    async def run(self) -> None:
        """Look for news until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S if self.viewers.total() else _IDLE_LOOK_S)

    def look(self) -> View:
        """Return the current view, and wake viewers when it is new."""
        now_s, frames = self.counters.clock(), self._frames()
        self.counters.states.pulse(frames, now_s)
        self._note_rate(now_s, frames)
        newest, silence = self._newest, self.counters.states.silence(now_s)
        if newest is not self._shown or silence != self._silence:
            self._shown, self._silence = newest, silence
            shown = newest if silence is None else replace(newest, state=silence, predictions=())
            self._view = View(self._view.number + 1, shown, self._classes)
            self._changed.set()
            self._changed = asyncio.Event()
        return self._view

    @contextlib.contextmanager
    def viewer(self, kind: str) -> Iterator[None]:
        """Count somebody who watches for the time of the block."""
        self.viewers[kind] += 1
        try:
            yield
        finally:
            self.viewers[kind] -= 1

    async def views(self, *, at_most_hz: float, patience_s: float) -> AsyncIterator[View]:
        """Yield the newest view again and again, skipping those that a viewer was too slow for.

        When nothing happens for `patience_s` the same one comes again, so that a connection that is dead is noticed.
        """
        view = self.look()
        while True:
            yielded_s = self.counters.clock()
            yield view
            await asyncio.sleep(max(0.0, 1 / at_most_hz - (self.counters.clock() - yielded_s)))
            if self._view is view:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience_s):
                        await self._changed.wait()
            view = self._view

    def fps(self) -> float:
        """Return how many frames per second the loop took in the last seconds."""
        (first_s, first), (last_s, last) = self._rates[0], self._rates[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def age_s(self) -> float | None:
        """Return how old the newest frame is now; None before the first."""
        return None if self._frame_s is None else self.counters.clock() - self._frame_s

    def _note_rate(self, now_s: float, frames: int) -> None:
        if now_s - self._rates[-1][0] >= _IDLE_LOOK_S:
            self._rates.append((now_s, frames))
            while now_s - self._rates[0][0] > _FPS_OVER_S:
                self._rates.popleft()
