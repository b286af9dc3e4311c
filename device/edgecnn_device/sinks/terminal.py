"""The terminal: one line that is refreshed, or plain lines where nobody can refresh one."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from edgecnn.classifier import Prediction
from edgecnn.text import printable
from edgecnn_device.frames import Event, Observation
from edgecnn_device.sinks.selection import Changes
from edgecnn_device.sinks.timeline import Timeline

_MOST_REGIONS = 8
_REFRESH_S = 0.1


class TerminalSink:
    """Shows the newest observation.

    On a terminal one line is rewritten, at most ten times a second. Elsewhere a line is printed when it says something new,
    and every minute, since a journal is read by people; of a camera that flickers, at most six a minute in the long run.
    """

    name = "terminal"

    def __init__(
        self, stream: TextIO, *, live: bool = True, fps: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Write to `stream` what a `live` source shows, or a file of `fps` frames a second."""
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._is_news = Changes(Timeline(live=live, fps=fps, clock=clock), burst=30, per_s=0.1 if live else None)
        self._last = ""
        self._due_s = 0.0

    def __enter__(self) -> TerminalSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(BrokenPipeError):
            if self._is_terminal and self._last:
                self._stream.write(self._last + "\n")
            self._stream.flush()

    def write(self, observation: Observation) -> None:
        """Show one observation; a closed pipe is not a failure, since the camera then ends."""
        with contextlib.suppress(BrokenPipeError):
            if self._is_terminal:
                self._refresh(observation)
            elif self._is_news(observation):
                self._print(observation)

    def _refresh(self, observation: Observation) -> None:
        number = "" if observation.frame is None else f"{observation.frame.number} "
        total_ms = sum(observation.latency_ms.get(stage, 0.0) for stage in ("find", "preprocess", "invoke"))
        line = f"{number}{observation.source}: {describe(observation)}" + (f" ({total_ms:.1f} ms)" if total_ms else "")
        width = shutil.get_terminal_size().columns
        self._last = "\r\033[K" + printable(line)[: width - 1]
        if self._clock() >= self._due_s:
            self._due_s = self._clock() + _REFRESH_S
            self._stream.write(self._last)
            self._stream.flush()

    def _print(self, observation: Observation) -> None:
        number = "-" if observation.frame is None else observation.frame.number
        self._stream.write(printable(f"{number} {observation.source}: {describe(observation)}") + "\n")
        self._stream.flush()


def describe(observation: Observation) -> str:
    """Say in a few words what an observation says."""
    drift = "" if observation.drift is None else f"; drifting: {observation.drift.words}"
    return _answers(observation) + drift


def _answers(observation: Observation) -> str:
    if observation.state.name != "ok":
        return f"{observation.state.name}: {observation.state.reason}"
    if observation.event is not None:
        return _describe_event(observation, observation.event)
    if not observation.predictions:
        return "nothing found"
    return _describe_answers(observation)


def _describe_event(observation: Observation, event: Event) -> str:
    """Say what a trigger reports, or why it has no answer."""
    why = {
        "answered": _describe_answers(observation) if observation.predictions else "nothing found",
        "partial": "no answer: it was never whole in view",
        "interrupted": "no answer: the camera was lost meanwhile",
    }
    moved = f", moved {event.direction}" if event.direction else ""
    return f"{event.trigger} {event.number}: {why[event.outcome]}{moved}"


def _describe_answers(observation: Observation) -> str:
    answers = [p.smoothed for p in observation.predictions[:_MOST_REGIONS]]
    more = len(observation.predictions) - len(answers)
    return ", ".join(map(_describe_answer, answers)) + (f" and {more} more" if more else "")


def _describe_answer(answer: Prediction) -> str:
    """Say an answer and its probability; of a novel one its novelty, which is above 1."""
    number = answer.novelty if answer.verdict == "novel" and answer.novelty is not None else answer.probability
    return f"{answer.label or answer.verdict} {number:.2f}"
