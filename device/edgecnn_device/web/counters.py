"""What the page and `/metrics` count beyond the loop's own statistics: seconds in each state, and latencies in buckets."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from edgecnn_device.frames import STAGES, STATES, Observation, State

# The loop says something at least once a second when there is trouble, and takes frames when there is none.
PATIENCE_S = 5.0
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class StateClock:
    """Knows how many seconds each state has lasted; a loop that stands still is `stale`.

    Every second since the start belongs to one state, and no second moves from one to another later. All methods can be
    called from any thread; `now_s` is monotonic.
    """

    def __init__(self, now_s: float, patience_s: float = PATIENCE_S) -> None:
        """Begin `stale`, since nothing has been seen yet; a loop that is silent for `patience_s` stands still."""
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._state = "stale"
        self._at_s = self._alive_s = now_s
        self._frames = 0
        self._seconds = dict.fromkeys(STATES, 0.0)

    def note(self, state: State, now_s: float) -> None:
        """Hear of the state from the loop."""
        with self._lock:
            self._advance(now_s)
            self._state, self._alive_s = state.name, now_s

    def pulse(self, frames: int, now_s: float) -> None:
        """Hear how many `frames` the loop has taken: it may be alive and have nothing to say."""
        with self._lock:
            self._advance(now_s)
            if frames != self._frames:
                self._frames, self._alive_s = frames, now_s

    def silence(self, now_s: float) -> State | None:
        """Return the state that overrides the last one reported when the loop stands still, None as long as it moves."""
        silent_s = now_s - self._alive_s
        return State("stale", f"the camera loop has been stuck for {silent_s:.0f} s") if silent_s > self._patience_s else None

    def seconds(self, now_s: float) -> dict[str, float]:
        """Return the seconds in each state since the start."""
        with self._lock:
            self._advance(now_s)
            return dict(self._seconds)

    def _advance(self, now_s: float) -> None:
        silent_from_s = max(self._at_s, self._alive_s + self._patience_s)
        if now_s > silent_from_s:
            self._seconds["stale"] += now_s - silent_from_s
        self._seconds[self._state] += max(0.0, min(now_s, silent_from_s) - self._at_s)
        self._at_s = max(now_s, self._at_s)


@dataclass(eq=False)
class Histogram:
    """Counts of durations up to each of BUCKETS_S (and beyond), their sum in seconds; only ever growing."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.sum_s += seconds


class Counters:
    """Counts observations for as long as the camera runs; written by the loop, read by the server."""

    def __init__(self, clock: Callable[[], float], patience_s: float = PATIENCE_S) -> None:
        """Start now; see `StateClock` for `patience_s`."""
        self.clock = clock
        self.started_s = clock()
        self.states = StateClock(self.started_s, patience_s)
        self.latency = {stage: Histogram() for stage in STAGES}
        self.age = Histogram()

    def count(self, observation: Observation, now_s: float) -> None:
        """Count one observation; costs a few microseconds."""
        self.states.note(observation.state, now_s)
        if observation.frame is None:
            return
        for stage, ms in observation.latency_ms.items():
            self.latency[stage].add(ms / 1000)
        if observation.age_ms is not None:
            self.age.add(observation.age_ms / 1000)
