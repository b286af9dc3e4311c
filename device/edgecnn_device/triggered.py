"""What a trigger makes of frames: observations with an event, one for each part or shot."""

from __future__ import annotations

import itertools
from dataclasses import replace

from edgecnn.classifier import Classifier
from edgecnn_device.finders import Clock
from edgecnn_device.frames import OK, Event, Frame, Observation
from edgecnn_device.part_views import PartViews
from edgecnn_device.passages import Passages, Passed
from edgecnn_device.triggers import Shots


class OnShots:
    """Numbers the frames that are asked for; for the loop."""

    def __init__(self, trigger: str, shots: Shots) -> None:
        """Have asked for none."""
        self._trigger, self._shots, self._numbers = trigger, shots, itertools.count(1)

    def __call__(self, frame: Frame) -> Event | None:
        """Return the event of this frame, None when it is not asked for."""
        outcome = self._shots(frame)
        return None if outcome is None else Event(next(self._numbers), self._trigger, outcome)


class OnParts:
    """Answers each part that passes once; for the loop."""

    def __init__(self, trigger: str, passages: Passages, views: PartViews) -> None:
        """Have seen no part."""
        self._trigger, self._passages, self._views = trigger, passages, views
        self._numbers = itertools.count(1)
        self._is_lost = False
        self._source = ""

    def observe(self, quiet: Observation, classifier: Classifier, clock: Clock) -> list[Observation]:
        """Take the frame of an observation that says nothing yet; return one for each part that is to be reported now."""
        assert quiet.frame is not None
        started_s = clock()
        passed = self._passages.update(quiet.frame)
        find_ms = 1000 * (clock() - started_s)
        self._is_lost, self._source = False, quiet.source
        return [self._report(each, quiet, classifier, clock, find_ms) for each in passed]

    def lose(self) -> None:
        """Hear that the camera sees nothing; whether a part was lost with it shows when it sees again."""
        self._is_lost = True

    def finish(self, classifier: Classifier, clock: Clock) -> list[Observation]:
        """Return an observation for each part that is in view at the end."""
        passed = self._passages.interrupt() if self._is_lost else self._passages.finish()
        return [self._report(each, Observation(self._source, OK), classifier, clock, 0.0) for each in passed]

    def _report(self, passed: Passed, quiet: Observation, classifier: Classifier, clock: Clock, find_ms: float) -> Observation:
        event = Event(next(self._numbers), self._trigger, passed.outcome, passed.frames, passed.seconds, passed.direction)
        if not passed.sights:
            return replace(quiet, event=event)
        prediction, seen = self._views.classify(replace(passed, number=event.number), classifier, clock)
        frame = passed.sights[0].frame
        return replace(
            quiet,
            frame=frame,
            predictions=(prediction,),
            age_ms=1000 * (clock() - frame.monotonic_s),
            latency_ms=quiet.latency_ms | seen.latency_ms | {"find": seen.latency_ms["find"] + find_ms},
            event=event,
            cpu_ms=seen.cpu_ms,
        )
