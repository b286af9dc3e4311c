"""The last minutes, for the strip chart and as CSV: bounded, and thin enough to be kept by the loop."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgecnn_device.frames import Observation
from edgecnn_device.sinks.csv_file import HEADER, csv_rows

MINUTES = 5
# At 30 frames a second nothing is learned from each; what changes is always kept.
_EVERY_S = 0.25
_MOST = round(MINUTES * 60 / _EVERY_S)
_MOST_ANSWERS = 16


@dataclass(frozen=True)
class Entry:
    """One observation: when, the state, (class_id, or -1 for unknown; probability) of its regions, and its CSV rows.

    `at_s` counts from 1970; `monotonic_s` is by the clock that cannot be set, which boards without a battery often do.
    """

    at_s: float
    monotonic_s: float
    state: str
    answers: tuple[tuple[int, float], ...]
    csv: bytes

    def to_json(self) -> list[Any]:
        """Return `[at_s, state, [[class_id, probability], ...]]`."""
        return [round(self.at_s, 2), self.state, [[class_id, round(p, 3)] for class_id, p in self.answers]]


class History:
    """Remembers up to four observations a second, and each whose state or labels differ from the one before."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        """Begin empty."""
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque(maxlen=_MOST)
        self._last: tuple[Any, ...] = ()
        self._due_s = 0.0

    def add(self, observation: Observation, now_s: float) -> None:
        """Remember an observation if it is due or says something new; `now_s` is monotonic."""
        new = (observation.state.name, *[prediction.smoothed.label for prediction in observation.predictions])
        if new == self._last and now_s < self._due_s:
            return
        self._last, self._due_s = new, now_s + _EVERY_S
        frame = observation.frame
        answers = tuple(
            (-1 if answer.label is None else answer.class_id, answer.probability)
            for answer in (prediction.smoothed for prediction in observation.predictions[:_MOST_ANSWERS])
        )
        at_s = self._wall_clock() if frame is None else frame.captured_at.timestamp()
        entry = Entry(at_s, now_s, observation.state.name, answers, csv_rows(observation))
        with self._lock:
            self._entries.append(entry)

    def entries(self, now_s: float) -> list[Entry]:
        """Return what was remembered of the last minutes, the oldest first."""
        with self._lock:
            entries = list(self._entries)
        return [entry for entry in entries if entry.monotonic_s >= now_s - 60 * MINUTES]

    def to_csv(self, now_s: float) -> bytes:
        """Return the entries as a file of the same columns as that of `--csv`."""
        return HEADER + b"".join(entry.csv for entry in self.entries(now_s))
