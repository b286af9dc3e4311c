"""Durations of repeated calls, and what a process costs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

RUNS, SECONDS = 200, 2.0
_WARMUP = 10
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Latency:
    """How long `count` calls took, in milliseconds."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Summarise durations in seconds, of which there is at least one."""
        p50, p95, p99 = (float(1000 * value) for value in np.percentile(seconds, (50, 95, 99)))
        return cls(len(seconds), 1000 * float(np.mean(seconds)), p50, p95, p99)

    def to_json(self) -> dict[str, float]:
        """Return it with microseconds as the last digits."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def repeat(call: Callable[[int], None], *, runs: int = RUNS, seconds: float = SECONDS, warmup: int = _WARMUP) -> None:
    """Call `call(0)`, `call(1)` ... `runs` times or for `seconds`, whichever ends first, after `warmup` calls with -1, -2 ...

    At least one call is made, however long it takes.
    """
    for number in range(warmup):
        call(-1 - number)
    end_s = time.perf_counter() + seconds
    for number in range(runs):
        call(number)
        if time.perf_counter() > end_s:
            return


def resident_bytes() -> int:
    """Return the memory that this process occupies now, 0 where /proc does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
