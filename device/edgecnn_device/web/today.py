"""What people on the floor want to know of the day: how often each class came into view, its last picture, and the alarm."""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgecnn.errors import EdgecnnError
from edgecnn.files import read_bytes, write_bytes
from edgecnn_device.classes import Classes
from edgecnn_device.frames import Image, Observation, RegionPrediction
from edgecnn_device.web.jpeg import encode

# A class that was out of view for less has flickered, and did not come again.
_GONE_S = 1.0
_PICTURE_SIDE = 320
_VERSION = 1
_MOST_BYTES = 16_000_000
# Often enough to lose little with the power, and seldom enough for a card: some 100 kB each time.
_SAVE_EVERY_S, _SAVE_ALARM_S = 300.0, 10.0
# A board without a battery begins in the past; by then its clock has been set, or nobody sets it.
_CLOCK_SET_S = 600.0


@dataclass(frozen=True, eq=False)
class Appearance:
    """How often a class came into view today, when last (seconds since 1970), and how it looked then."""

    count: int = 0
    last_at: float = 0.0
    probability: float = 0.0
    picture: Image | bytes = b""

    def to_base64(self) -> str:
        """Return the picture as JPEG in Base64, an empty text without one; it is encoded only for who wants to see it."""
        jpeg = self.picture if isinstance(self.picture, bytes) else encode(self.picture, ".jpg")
        return base64.b64encode(jpeg).decode()


@dataclass(frozen=True)
class Alarm:
    """A defect came into view: its `number` since the first start, the newest defect, how many since when, and who saw it.

    Times are seconds since 1970; `acknowledged_at` is None until somebody has acknowledged it.
    """

    number: int
    label: str
    region: int
    probability: float
    raised_at: float
    last_at: float
    count: int = 1
    acknowledged_at: float | None = None


@dataclass(eq=False)
class _Day:
    day: str
    since: float
    appearances: dict[str, Appearance] = field(default_factory=dict)


class Today:
    """Counts since local midnight, over restarts; written by the loop, read and acknowledged by the server.

    A class comes into view when it is the answer of a region and was that of none for a second; one that two tiles share,
    or that wanders from one to the next, is counted once. With a trigger each answer counts. `version` grows
    with each change.
    """

    def __init__(
        self,
        classes: Classes,
        *,
        file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Go on with what `file` has of today; None: nothing is kept over a restart."""
        self.version = 0
        self._classes = classes
        self._file = file
        self._clock, self._wall_clock = clock, wall_clock
        self._lock = threading.Lock()
        self._started_s = self._saved_s = clock()
        self._saved = 0
        self._alarm_saved = _answered(None)
        self._alarm: Alarm | None = None
        self._present: dict[str, float] = {}
        now = wall_clock()
        self._day = _Day(_day_of(now), now)
        self._load()

    def add(self, observation: Observation) -> None:
        """Hear of an observation; only one whose state is ok says anything about what is in view."""
        if observation.state.name != "ok":
            return
        now_s = self._clock()
        best: dict[str, tuple[int, RegionPrediction]] = {}
        for region, prediction in enumerate(observation.predictions, 1):
            label = prediction.smoothed.label
            if label is not None and (
                label not in best or prediction.smoothed.probability > best[label][1].smoothed.probability
            ):
                best[label] = region, prediction
        with self._lock:
            self._turn_over()
            if observation.event is not None:
                self._present.clear()  # two parts in a row are two, whatever they are
            for label, (region, prediction) in best.items():
                self._note(label, region, prediction)
                self._present[label] = now_s
            for label in [label for label, seen_s in self._present.items() if label not in best and now_s - seen_s >= _GONE_S]:
                del self._present[label]
                self.version += 1

    def acknowledge(self, number: int) -> bool:
        """Acknowledge the alarm of this number; False when there is another by now, or none."""
        with self._lock:
            if self._alarm is None or self._alarm.number != number:
                return False
            if self._alarm.acknowledged_at is None:
                self._alarm = replace(self._alarm, acknowledged_at=self._wall_clock())
                self.version += 1
            return True

    def to_json(self) -> dict[str, Any]:
        """Return the counts of today in class order, without pictures, and the alarm (null before the first)."""
        with self._lock:
            self._turn_over()
            day, alarm, present = self._day, self._alarm, set(self._present)
            counts = [self._count_of(label) for label in self._labels()]
        body = None if alarm is None else asdict(alarm) | {"active": alarm.label in present}
        return {"day": day.day, "since": round(day.since, 1), "counts": counts, "alarm": body}

    def appearances(self) -> dict[str, Appearance]:
        """Return what came into view today; an `Appearance` that has changed is another object."""
        with self._lock:
            return dict(self._day.appearances)

    def save_if_due(self) -> None:
        """Save what has changed, an alarm at once, the counts every five minutes. OutputError when that is not possible."""
        since_s = self._clock() - self._saved_s
        is_alarm = _answered(self._alarm) != self._alarm_saved
        if self._saved != self.version and since_s >= (_SAVE_ALARM_S if is_alarm else _SAVE_EVERY_S):
            self.save()

    def save(self) -> None:
        """Save everything. OutputError when that is not possible."""
        self._saved_s, self._saved, self._alarm_saved = self._clock(), self.version, _answered(self._alarm)
        if self._file is None:
            return
        with self._lock:
            day, since, appearances, alarm = self._day.day, self._day.since, dict(self._day.appearances), self._alarm
        seen = {label: [one.count, one.last_at, one.probability, one.to_base64()] for label, one in appearances.items()}
        body = {"version": _VERSION, "day": day, "since": since, "seen": seen}
        write_bytes(self._file, json.dumps(body | {"alarm": None if alarm is None else asdict(alarm)}).encode())

    def _note(self, label: str, region: int, prediction: RegionPrediction) -> None:
        probability, now = prediction.smoothed.probability, self._wall_clock()
        seen = self._day.appearances.get(label, Appearance())
        if label not in self._present:
            self._day.appearances[label] = Appearance(seen.count + 1, now, probability, _small(prediction.region.view))
            if label in self._classes.defects:
                self._raise(label, region, probability, now)
            self.version += 1
        elif probability > seen.probability:  # it has come into view only in part
            self._day.appearances[label] = replace(seen, probability=probability, picture=_small(prediction.region.view))

    def _raise(self, label: str, region: int, probability: float, now: float) -> None:
        old = self._alarm
        if old is not None and old.acknowledged_at is None:
            self._alarm = replace(old, label=label, region=region, probability=probability, last_at=now, count=old.count + 1)
        else:
            self._alarm = Alarm(1 if old is None else old.number + 1, label, region, probability, now, now)

    def _turn_over(self) -> None:
        """Begin a new day at midnight; a clock that is behind the day of the last start may not be set yet."""
        now = self._wall_clock()
        today = _day_of(now)
        if today > self._day.day or (today < self._day.day and self._clock() - self._started_s > _CLOCK_SET_S):
            self._day = _Day(today, now)
            self._present.clear()
            self.version += 1

    def _labels(self) -> list[str]:
        return [*self._classes.labels, *(label for label in self._day.appearances if label not in self._classes.labels)]

    def _count_of(self, label: str) -> dict[str, Any]:
        seen = self._day.appearances.get(label, Appearance())
        return {
            "label": label,
            "defect": label in self._classes.defects,
            "count": seen.count,
            "last_at": round(seen.last_at, 1) if seen.count else None,
            "in_view": label in self._present,
        }

    def _load(self) -> None:
        if self._file is None or not self._file.exists():
            return
        try:
            body = json.loads(read_bytes(self._file, at_most=_MOST_BYTES))
            if body["version"] != _VERSION:
                return
            alarm = _restored_alarm(body["alarm"])
            day = _Day(
                str(body["day"]), _finite(body["since"]), {label: _restored(*seen) for label, seen in body["seen"].items()}
            )
        except (EdgecnnError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return  # what a broken card made of it is worth less than a camera that starts
        self._alarm, self._alarm_saved = alarm, _answered(alarm)
        self._day = day
        self._turn_over()


def _answered(alarm: Alarm | None) -> tuple[int, bool]:
    """Return what of an alarm must not be lost: that there is another one, and whether it was acknowledged."""
    return (0, False) if alarm is None else (alarm.number, alarm.acknowledged_at is not None)


def _restored(count: int, last_at: float, probability: float, jpeg: str) -> Appearance:
    return Appearance(int(count), _finite(last_at), _finite(probability), base64.b64decode(jpeg, validate=True))


def _restored_alarm(body: dict[str, Any] | None) -> Alarm | None:
    if body is None:
        return None
    return Alarm(
        int(body["number"]),
        str(body["label"]),
        int(body["region"]),
        _finite(body["probability"]),
        _finite(body["raised_at"]),
        _finite(body["last_at"]),
        int(body["count"]),
        None if body["acknowledged_at"] is None else _finite(body["acknowledged_at"]),
    )


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {number}")
    return number


def _small(view: Image) -> Image:
    """Return a copy of at most _PICTURE_SIDE pixels a side: a view of the frame would keep all of it in memory."""
    scale = min(1.0, _PICTURE_SIDE / max(view.shape[:2]))
    size_wh = max(1, round(view.shape[1] * scale)), max(1, round(view.shape[0] * scale))
    return np.asarray(cv2.resize(view, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def _day_of(now: float) -> str:
    return datetime.fromtimestamp(now).date().isoformat()
