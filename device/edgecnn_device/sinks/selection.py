"""Which observations are written: every one, one per interval, or what is new and a heartbeat."""

from __future__ import annotations

import re
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edgecnn.errors import InputError
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.frames import Observation
from edgecnn_device.loop import Sink
from edgecnn_device.sinks.timeline import Timeline

if TYPE_CHECKING:
    from edgecnn_device.sinks.reach import Pace

HEARTBEAT_S = 60.0
_EVERY = re.compile(r"every(?:\s+([0-9]+(?:[.][0-9]+)?)\s*s?)?")
_LONGEST_S = 86400.0


@dataclass(frozen=True)
class WritePolicy:
    """`changes` with a heartbeat, or `every` observation (`every_s` 0), or one every `every_s` seconds."""

    kind: Literal["changes", "every"] = "changes"
    every_s: float = 0.0

    @classmethod
    def parse(cls, text: str) -> WritePolicy:
        """Read `changes`, `every` or `every N s`; InputError for anything else."""
        if text == "changes":
            return cls()
        found = _EVERY.fullmatch(text)
        every_s = float(found[1] or 0) if found else -1.0
        if found is None or every_s > _LONGEST_S or (found[1] is not None and every_s == 0):
            raise InputError(f"--write {text!r}: give changes, every, or 'every N s' of at most a day, such as 'every 10 s'")
        return cls("every", every_s)


class Selection(Protocol):
    """Chooses observations, one after the other."""

    def __call__(self, observation: Observation) -> bool:
        """Tell whether this one is to be written."""

    def forget(self) -> None:
        """Hear that the one last chosen could not be written: the next one is to be chosen in its place."""


class Changes:
    """Chooses an observation whose state or answers differ from those last chosen, and one every `heartbeat_s` seconds.

    At most `burst` changes at once and `per_s` a second in the long run: an answer that flickers 30 times a second would
    fill a card as every frame does. Nothing is limited where `per_s` is None.
    """

    def __init__(
        self, timeline: Timeline, *, heartbeat_s: float = HEARTBEAT_S, burst: int = 60, per_s: float | None = 1.0
    ) -> None:
        """Choose the first observation, whatever it says."""
        self._timeline = timeline
        self._heartbeat_s = heartbeat_s
        self._burst, self._per_s = burst, per_s
        self._chosen: Any = None
        self._due_s = 0.0
        self._credit, self._credited_s = float(burst), 0.0

    def __call__(self, observation: Observation) -> bool:
        """Tell whether this one is to be written."""
        now_s = self._timeline.at(observation)
        if observation.event is not None:  # each is news, and no more come than there are parts
            self._chosen = None
            return True
        says = _says(observation)
        if now_s < self._due_s and (says == self._chosen or not self._afford(now_s)):
            return False
        self._chosen, self._due_s = says, now_s + self._heartbeat_s
        return True

    def forget(self) -> None:
        """Choose the next observation, whatever it says."""
        self._due_s = 0.0

    def _afford(self, now_s: float) -> bool:
        if self._per_s is None:
            return True
        self._credit = min(self._burst, self._credit + self._per_s * (now_s - self._credited_s))
        self._credited_s = now_s
        if self._credit < 1:
            return False
        self._credit -= 1
        return True


class EverySeconds:
    """Chooses an observation when the interval has passed."""

    def __init__(self, timeline: Timeline, every_s: float) -> None:
        """Choose the first observation; 0 chooses all."""
        self._timeline = timeline
        self._every_s = every_s
        self._due_s = 0.0

    def __call__(self, observation: Observation) -> bool:
        """Tell whether this one is to be written."""
        now_s = self._timeline.at(observation)
        if now_s < self._due_s:
            return False
        # In step with the first one, however late each comes; what a silence left out is not made up for.
        self._due_s += self._every_s
        if self._due_s <= now_s:
            self._due_s = now_s + self._every_s
        return True

    def forget(self) -> None:
        """Choose the next observation."""
        self._due_s = 0.0


class Selected:
    """A sink that is given what a selection chooses."""

    def __init__(self, sink: Sink, select: Selection) -> None:
        """Stand before `sink`, under its name."""
        self.name = sink.name
        self._sink = sink
        self._select = select

    def __enter__(self) -> Selected:
        self._sink.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sink.__exit__(kind, error, trace)

    def write(self, observation: Observation) -> None:
        """Pass on what is chosen, and a wall clock that was set."""
        if not self._select(observation) and observation.clock_jump_s is None:
            return
        try:
            self._sink.write(observation)
        except Exception:
            self._select.forget()
            raise


def selected(sink: Sink, policy: WritePolicy, *, live: bool, fps: float) -> Sink:
    """Let a sink of a source have what a policy chooses."""
    timeline = Timeline(live=live, fps=fps)
    if policy.kind == "changes":
        return Selected(sink, Changes(timeline, per_s=1.0 if live else None))
    return Selected(sink, EverySeconds(timeline, policy.every_s)) if policy.every_s else sink


def paces(policy: WritePolicy, fps: float) -> list[Pace]:
    """Return how many lines a policy makes of a camera, from the fewest to the most."""
    from edgecnn_device.sinks.reach import Pace  # for files of lines alone

    if policy.kind == "changes":
        return [Pace(1 / HEARTBEAT_S, "when nothing changes"), Pace(1.0, "with a change every second")]
    if policy.every_s:
        return [Pace(1 / policy.every_s, f"with a line every {policy.every_s:g} s")]
    return [Pace(fps, f"at {fps:g} lines a second (--write changes reaches further)")]


def _says(observation: Observation) -> Any:
    labels = [prediction.smoothed.label for prediction in observation.predictions]
    return observation.source, observation.state.kind, observation.warning, observation.drift, labels
