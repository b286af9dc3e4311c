"""The terminal: one line that is refreshed, or plain lines where nobody can refresh one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from edgecnn_device.frames import Observation

_MOST_REGIONS = 8
_REFRESH_S, _REPEAT_S = 0.1, 10.0


class TerminalSink:
    """Shows the newest observation.

    On a terminal one line is rewritten, at most ten times a second. Elsewhere a line is printed when it says something new,
    and every ten seconds, since a journal is read by people.
    """

    name = "terminal"

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._last = ""
        self._due_s = 0.0

    def __enter__(self) -> TerminalSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._is_terminal and self._last:
            self._stream.write(self._last + "\n")
        self._stream.flush()

    def write(self, observation: Observation) -> None:
        """Show one observation."""
        if self._is_terminal:
            self._refresh(observation)
        else:
            self._print(observation)

    def _refresh(self, observation: Observation) -> None:
        number = "" if observation.frame is None else f"{observation.frame.number} "
        total_ms = sum(observation.latency_ms.get(stage, 0.0) for stage in ("find", "preprocess", "invoke"))
        line = f"{number}{observation.source}: {describe(observation)}" + (f" ({total_ms:.1f} ms)" if total_ms else "")
        width = shutil.get_terminal_size().columns
        self._last = "\r\033[K" + line[: width - 1]
        if self._clock() >= self._due_s:
            self._due_s = self._clock() + _REFRESH_S
            self._stream.write(self._last)
            self._stream.flush()

    def _print(self, observation: Observation) -> None:
        news = f"{observation.source}: {describe(observation, with_numbers=False)}"
        if news == self._last and self._clock() < self._due_s:
            return
        self._last, self._due_s = news, self._clock() + _REPEAT_S
        number = "-" if observation.frame is None else observation.frame.number
        self._stream.write(f"{number} {observation.source}: {describe(observation)}\n")
        self._stream.flush()


def describe(observation: Observation, *, with_numbers: bool = True) -> str:
    """Say in a few words what an observation says."""
    if observation.state.name != "ok":
        return f"{observation.state.name}: {observation.state.reason}" if with_numbers else observation.state.name
    if not observation.predictions:
        return "nothing found"
    answers = [p.smoothed for p in observation.predictions[:_MOST_REGIONS]]
    words = [f"{a.label or 'unknown'} {a.probability:.2f}" if with_numbers else a.label or "unknown" for a in answers]
    more = len(observation.predictions) - len(answers)
    return ", ".join(words) + (f" and {more} more" if more else "")
