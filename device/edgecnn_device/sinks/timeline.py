"""Where an observation stands in time: by the clock for a camera, by the time of the recording for a file."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgecnn_device.frames import Observation


class Timeline:
    """Turns observations into seconds that never go back, whether a file begins again or a clock is asked twice."""

    def __init__(self, *, live: bool, fps: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Follow the capture times of a `live` source, else the media time; pictures without one are `fps` a second."""
        self._live = live
        self._period_s = 1 / fps
        self._clock = clock
        self._last_s: float | None = None
        self._elapsed_s = 0.0

    def at(self, observation: Observation) -> float:
        """Return the seconds from the first observation to this one."""
        now_s = self._time_of(observation)
        if now_s is not None:
            self._elapsed_s += self._gap_s(now_s)
            self._last_s = now_s if self._last_s is None or not self._live else max(now_s, self._last_s)
        return self._elapsed_s

    def _gap_s(self, now_s: float) -> float:
        if self._last_s is None:
            return 0.0
        gap_s = now_s - self._last_s
        if self._live:
            return max(0.0, gap_s)  # a frame may be older than the silence that was reported before it
        return gap_s if gap_s > 0 else self._period_s  # the file has begun again

    def _time_of(self, observation: Observation) -> float | None:
        frame = observation.frame
        if self._live:
            return self._clock() if frame is None else frame.monotonic_s
        if frame is None:
            return None
        return frame.number * self._period_s if frame.media_time_s is None else frame.media_time_s
