"""The camera loop: frames in, observations out, to any number of sinks. A list of frames is a valid camera."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from edgecnn.classifier import Classifier
from edgecnn.errors import EdgecnnError, InferenceError
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.clock import ClockWatch, describe_jump
from edgecnn_device.finders import Look
from edgecnn_device.frames import STAGES, Frame, Missing, Observation, State
from edgecnn_device.gates import Gate, always
from edgecnn_device.health import Health
from edgecnn_device.tracking import Tracker

if TYPE_CHECKING:  # a camera without a trigger starts without them
    from edgecnn_device.triggered import OnParts, OnShots

_REMEMBERED = 512
_REPEAT_S = 1.0


class Sink(Protocol):
    """Where observations go. OSError, cv2.error and EdgecnnError of `write` are counted and do not end the loop."""

    @property
    def name(self) -> str:
        """Name the sink in counters and messages."""

    def write(self, observation: Observation) -> None:
        """Take one observation."""

    def __enter__(self) -> Sink: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


@dataclass(eq=False)
class Statistics:
    """Counters since the start, and the latencies of the last frames in milliseconds by stage.

    `reasons` counts the frames that could not be believed, by the kind of reason: `black picture`, `torn picture`, `frozen` ...
    `events` are those of a trigger, by their outcome.
    """

    frames: int = 0
    gated: int = 0
    regions: int = 0
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    clock_jumps: int = 0
    sink_errors: Counter[str] = field(default_factory=Counter)
    latency_ms: dict[str, deque[float]] = field(
        default_factory=lambda: {stage: deque(maxlen=_REMEMBERED) for stage in (*STAGES, "age")}
    )

    def percentile_ms(self, stage: str, percent: float) -> float | None:
        """Return a percentile of a stage's (or the `age`'s) last latencies, None before the first."""
        values = self.latency_ms[stage]
        return float(np.percentile(values, percent)) if values else None

    def count(self, observation: Observation) -> None:
        """Count one observation."""
        self.states[observation.state.name] += 1
        self.regions += len(observation.predictions)
        if observation.event is not None:
            self.events[observation.event.outcome] += 1
        for prediction in observation.predictions:
            self.labels[prediction.raw.label or "unknown"] += 1
        if observation.frame is not None:
            for stage, ms in observation.latency_ms.items():
                if stage != "publish":  # counted when it is over
                    self.latency_ms[stage].append(ms)
            if observation.age_ms is not None:
                self.latency_ms["age"].append(observation.age_ms)


@dataclass(eq=False)
class Watcher:
    """All that stands between a frame and its observation.

    `model()` gives the classifier of this very frame; `warning()` what should be known beside its answers, mostly nothing. With
    `parts` there is an answer for each part that passes, with `shots` for each frame that they ask for, and no other.
    """

    model: Callable[[], Classifier]
    look: Look
    health: Health
    tracker: Tracker
    gate: Gate = always
    parts: OnParts | None = None
    shots: OnShots | None = None
    clock: Callable[[], float] = time.monotonic
    warning: Callable[[], str] = lambda: ""

    def lose(self) -> None:
        """Forget what was in view: the camera sees nothing."""
        self.tracker.reset()
        if self.parts is not None:
            self.parts.lose()


def run_loop(
    frames: Iterable[Frame | Missing],
    watcher: Watcher,
    sinks: Sequence[Sink],
    *,
    between: Callable[[], bool] = lambda: True,
    complain: Callable[[str], None] = lambda line: None,
    statistics: Statistics | None = None,
    judge: Callable[[Observation], Observation] = lambda observation: observation,
) -> Statistics:
    """Observe every frame and publish to all `sinks`, which are open; return the counters.

    `between` is called before each frame and ends the loop by returning False. `complain` hears in one line of a sink that
    begins to fail, and of a wall clock that was set. `judge` may add to an observation what only many of them tell.
    """
    statistics = Statistics() if statistics is None else statistics
    publish = Publisher(sinks, statistics, complain)
    for observation in observe(_while(between, frames), watcher, statistics):
        started_s = watcher.clock()
        if observation.clock_jump_s is not None and observation.frame is not None:
            statistics.clock_jumps += 1
            complain(describe_jump(observation.clock_jump_s, observation.frame))
        publish(judge(observation))
        statistics.latency_ms["publish"].append(1000 * (watcher.clock() - started_s))
        del observation  # the picture's memory is in the processor's cache: the next frame should get it
    return statistics


def observe(frames: Iterable[Frame | Missing], watcher: Watcher, statistics: Statistics) -> Iterator[Observation]:
    """Yield what is to be reported: each frame that passes the gate, each change of state, and every second of silence.

    A warning that comes or goes is reported with the next frame, whether the gate lets it pass or not.
    """
    last_state, last_warning, said_s = "ok", "", -np.inf
    wall = ClockWatch()
    asked_s = watcher.clock()
    for frame in frames:
        now_s = watcher.clock()
        jump_s = wall.jump_s(frame) if isinstance(frame, Frame) else None
        warning = watcher.warning()
        is_first = said_s == -np.inf and (watcher.parts is not None or watcher.shots is not None)
        must_say = last_state != "ok" or jump_s is not None or warning != last_warning or is_first
        for found in _observe_one(frame, watcher, statistics, now_s, 1000 * (now_s - asked_s), must_say):
            observation = found if jump_s is None else replace(found, clock_jump_s=jump_s)
            troubled = observation.state.name != "ok"
            # A camera at 30 frames a second that is frozen needs no 30 lines a second; a picture of a folder has but one.
            repeats = troubled and watcher.health.limits.live and observation.state.name == last_state
            if jump_s is not None or not (repeats and now_s < said_s + _REPEAT_S):
                said_s, last_warning = now_s, warning
                yield replace(observation, warning=warning) if warning else observation
            last_state, jump_s = observation.state.name, None
            del found, observation
        del frame
        asked_s = watcher.clock()
    if watcher.parts is not None:
        yield from watcher.parts.finish(watcher.model(), watcher.clock)


def _observe_one(
    frame: Frame | Missing, watcher: Watcher, statistics: Statistics, now_s: float, capture_ms: float, must_say: bool
) -> list[Observation]:
    """Return the observations of one frame, mostly one; the gate is not asked where something must be said."""
    if isinstance(frame, Missing):
        return _observe_missing(frame, watcher, now_s)
    statistics.frames += 1
    age_ms = 1000 * (now_s - frame.monotonic_s)

    def refuse(state: State) -> list[Observation]:
        statistics.reasons[state.kind[1]] += 1
        watcher.lose()
        return [Observation(frame.source, state, frame, (), age_ms, {"capture": capture_ms})]

    state = watcher.health.judge(frame, now_s)
    if state.name != "ok":
        return refuse(state)
    event = None
    if watcher.shots is not None:
        event = watcher.shots(frame)
        watcher.tracker.reset()  # one answer has nothing to do with the last
    published = statistics.latency_ms["publish"]
    known_ms = {"capture": capture_ms, "publish": published[-1] if published else 0.0}

    def quiet() -> Observation:
        return Observation(frame.source, state, frame, (), age_ms, known_ms, event=event)

    if watcher.shots is not None and (event is None or event.outcome != "answered"):
        statistics.gated += event is None
        return [quiet()] if must_say or event is not None else []
    if watcher.parts is None and not watcher.gate(frame) and not must_say:
        statistics.gated += 1
        return []
    classifier = watcher.model()
    try:
        if watcher.parts is not None:
            return watcher.parts.observe(quiet(), classifier, watcher.clock) or ([quiet()] if must_say else [])
        seen = watcher.look(frame.image_bgr, classifier, watcher.clock)
    except InferenceError as error:
        return refuse(State("error", str(error)))
    except (EdgecnnError, cv2.error, MemoryError) as error:
        if not watcher.health.limits.live and statistics.frames == 1:
            raise  # the options do not fit the pictures
        return refuse(State("blind", " ".join(str(error).split()) or "out of memory"))
    predictions = watcher.tracker.update(frame.source, seen, classifier)
    latency_ms = {"capture": capture_ms, **seen.latency_ms, "publish": known_ms["publish"]}
    # The work itself may have taken so long that its answer is about the past.
    state = watcher.health.judge_age(frame, watcher.clock())
    believed = predictions if state.name == "ok" else ()
    return [Observation(frame.source, state, frame, believed, age_ms, latency_ms, event=event, cpu_ms=seen.cpu_ms)]


def _observe_missing(missing: Missing, watcher: Watcher, now_s: float) -> list[Observation]:
    state = watcher.health.judge_missing(missing, now_s)
    if state.name == "ok":
        return []
    watcher.lose()
    return [Observation(missing.source, state, age_ms=None if missing.since_s is None else 1000 * (now_s - missing.since_s))]


class Publisher:
    """Writes observations to sinks and counts what fails; a sink is complained about when it begins to fail."""

    def __init__(self, sinks: Sequence[Sink], statistics: Statistics, complain: Callable[[str], None]) -> None:
        """Publish to `sinks`."""
        self._sinks = sinks
        self._statistics = statistics
        self._complain = complain
        self._failing: set[str] = set()

    def __call__(self, observation: Observation) -> None:
        """Write to every sink, whatever happens to the others."""
        self._statistics.count(observation)
        for sink in self._sinks:
            try:
                sink.write(observation)
            except (OSError, cv2.error, EdgecnnError) as error:
                self._statistics.sink_errors[sink.name] += 1
                if sink.name not in self._failing:
                    self._failing.add(sink.name)
                    self._complain(f"{sink.name} fails: {error}; the camera continues")
            else:
                self._failing.discard(sink.name)


def _while(between: Callable[[], bool], frames: Iterable[Frame | Missing]) -> Iterator[Frame | Missing]:
    """Pass frames on for as long as `between()` says so, asking before each is taken."""
    iterator = iter(frames)
    while between():
        try:
            yield next(iterator)
        except StopIteration:
            return
