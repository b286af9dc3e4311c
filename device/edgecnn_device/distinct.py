"""Which of a camera's frames and answers count as evidence: those to pictures that differ, in time and in what they show.

Frames of a camera are nothing like independent. A part that stands still is one piece of evidence, however long it stands.
"""

from __future__ import annotations

import math
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn_device.frames import Box, Frame, Image, Observation
from edgecnn_device.sinks.timeline import Timeline
from edgecnn_device.tracking import likenesses

EVERY_S = 1.0
_REMEMBERED, _MOST_PLACES = 16, 256
# Mean difference in gray levels. At a cell of 12 pixels a side, a sensor's noise of 10 levels stays below it, and of the steel
# of NEU 99 pairs of 100 are beyond 7.
_SAME_LEVELS, _CELL, _SIDES = 1.0, 12, (32, 16, 8, 4)


class _Place:
    """What counted last at one place of a camera's frames."""

    def __init__(self) -> None:
        self._last: deque[NDArray[np.float32]] = deque(maxlen=_REMEMBERED)
        self.due_s = -math.inf

    def counts(self, image_bgr: Image, now_s: float, every_s: float) -> bool:
        """Tell whether a picture counts, and remember it if so."""
        if now_s < self.due_s:
            return False
        view = _small(image_bgr)
        is_new = all(view.shape != each.shape or np.abs(view - each).mean() >= _SAME_LEVELS for each in self._last)
        # A camera that shows the same goes on to show it: looking at every frame of it would be for nothing.
        self.due_s = now_s + (every_s if is_new else every_s / 4)
        if is_new:
            self._last.append(view)
        return is_new


class DistinctFrames:
    """Tells which frames count: one every `every_s` seconds, if it shows something else than the last ones that did."""

    def __init__(self, timeline: Timeline, every_s: float = EVERY_S) -> None:
        """Let the first frame count."""
        self._timeline, self._every_s = timeline, every_s
        self._place, self._source = _Place(), ""

    def counts(self, observation: Observation, frame: Frame) -> bool:
        """Tell whether a frame counts, and remember it if so; the next picture of a folder need not wait."""
        now_s = self._timeline.at(observation)
        if frame.source != self._source:
            self._source, self._place.due_s = frame.source, now_s
        return self._place.counts(frame.image_bgr, now_s, self._every_s)


class DistinctAnswers:
    """Tells which answers count: each region's by itself, by what counted last at its place in the frame.

    What a trigger reports of a part, or at a signal of its pin, always counts.
    """

    def __init__(self, timeline: Timeline, every_s: float = EVERY_S) -> None:
        """Let the first answers count."""
        self._timeline, self._every_s = timeline, every_s
        self._places: dict[Box, _Place] = {}
        self._source = ""

    def forget(self) -> None:
        """Let the next answers count, such as those of another model."""
        self._places.clear()

    def counts(self, observation: Observation) -> tuple[bool, ...]:
        """Tell of each answer whether it counts, and remember what it was given to."""
        now_s, event = self._timeline.at(observation), observation.event
        if event is not None and not event.trigger.startswith("interval"):
            return (True,) * len(observation.predictions)
        if observation.source != self._source:  # the next picture of a folder need not wait
            self._source = observation.source
            for place in self._places.values():
                place.due_s = now_s
        regions = [prediction.region for prediction in observation.predictions]
        return tuple(self._at(region.box).counts(region.view, now_s, self._every_s) for region in regions)

    def _at(self, box: Box) -> _Place:
        """Return the place of a box, which follows boxes that move; the one that was found least lately makes room."""
        place = self._places.pop(box, None)
        if place is None and self._places:
            known = [*self._places]
            alike = likenesses([box], known)[0]
            place = self._places.pop(known[alike.argmax()]) if alike.any() else None
        if place is None and len(self._places) >= _MOST_PLACES:
            self._places.pop(next(iter(self._places)))
        found = self._places[box] = place or _Place()
        return found


def _small(image: Image) -> NDArray[np.float32]:
    """Return a small gray picture without its mean level, which flickers; `image` is `(h, w)`, or with 1 or 3 channels."""
    side = next((side for side in _SIDES if side * _CELL <= math.sqrt(image.shape[0] * image.shape[1])), _SIDES[-1])
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY) if small.ndim == 3 else small
    return np.asarray(gray, np.float32) - float(gray.mean())
