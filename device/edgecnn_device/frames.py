"""What flows through the camera loop: frames, regions to look at, predictions, and the state of the source."""

from __future__ import annotations

from dataclasses import asdict, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier, Prediction
from edgecnn.quick_dataclass import dataclass
from edgecnn.runtimes.runtime import Answers

if TYPE_CHECKING:
    from edgecnn.where import MapName

Image = NDArray[np.uint8]
Box = tuple[int, int, int, int]
_MOST_CHANGES = 3
Direction = Literal["left", "right", "up", "down"]
# Of a part: what became of it. `partial` was never whole in view, of an `interrupted` one too little was seen.
Outcome = Literal["answered", "partial", "interrupted"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
STAGES = ("capture", "find", "preprocess", "invoke", "publish")


@dataclass(frozen=True, eq=False)
class Frame:
    """One captured picture, `image_bgr` `(h, w, 3)` uint8, which nobody writes into.

    `number` counts what the source delivered from 0 on, the skipped ones too. `captured_at` is the wall clock's time in UTC,
    `monotonic_s` the same moment on the clock that cannot be set. `source` names the camera, or the picture's own path.
    `media_time_s` is where the frame stands in a video file, in seconds from its beginning; None elsewhere.
    `unusable` says why the picture cannot be judged, where its source knows that.
    """

    image_bgr: Image
    number: int
    source: str
    captured_at: datetime
    monotonic_s: float
    media_time_s: float | None = None
    unusable: str = ""


@dataclass(frozen=True)
class Missing:
    """A frame was due and there is none, for `reason`.

    `since_s` is the monotonic time of the last frame (or of the start); None says that none will come for this `source`.
    """

    source: str
    reason: str
    since_s: float | None = None


@dataclass(frozen=True, eq=False)
class Region:
    """Where in a frame to look: `box` (x, y, width, height) in frame pixels, and `view`, the picture to classify."""

    box: Box
    view: Image


@dataclass(frozen=True)
class State:
    """Whether there is an answer to be believed, and why not.

    The source may be `stale` (lost, late or frozen) or `blind` (nothing to see); `error` means that the model gave no answer.
    """

    name: Literal["ok", "stale", "blind", "error"]
    reason: str = ""

    @property
    def kind(self) -> tuple[str, str]:
        """What makes a state another one: the seconds that its reason counts do not."""
        return self.name, self.reason.partition(":")[0]


OK = State("ok")
STATES = ("ok", "stale", "blind", "error")


@dataclass(frozen=True, eq=False)
class Behind:
    """What stands behind the answer to a region, for those who ask: who gave it, and which row of a batch it was."""

    classifier: Classifier
    answers: Answers
    index: int


@dataclass(frozen=True, eq=False)
class RegionPrediction:
    """What was seen in a region: `raw` in this frame, `smoothed` over its last ones; `input` is what the network saw.

    `region_id` stays the same from frame to frame. `input` is `(height, width, channels)` uint8. `where` is the box, in frame
    pixels, of what speaks for the answer in this frame (`where_map` is `class`), or of what is most novel (`novelty`); None
    where that was not asked for. `behind` is None of a finder that reads by itself. `features` are `(channels,)`, what the
    network's last layer looked at; None of a model that is not judged by them.
    """

    region_id: int
    region: Region
    input: Image
    raw: Prediction
    smoothed: Prediction
    where: Box | None = None
    where_map: MapName | None = None
    behind: Behind | None = None
    features: NDArray[np.float64] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the region as it stands in JSON Lines, MQTT and the web page."""
        return {
            "id": self.region_id,
            "box": list(self.region.box),
            **_answer(self.raw),
            **({} if self.where is None else {"where": list(self.where), "where_map": self.where_map}),
            "smoothed": _answer(self.smoothed),
        }


@dataclass(frozen=True)
class Change:
    """One thing that has changed about a camera's pictures: a statistic `what` rises or falls, `by` how much in its unit.

    `words` say it; `since` is when it began, as far as can be told, in seconds since 1970.
    """

    what: str
    direction: Literal["rises", "falls"]
    by: float
    words: str
    since: float


@dataclass(frozen=True)
class Drift:
    """That a camera's pictures are no longer like those that its model was proven on: the changes, the oldest first."""

    changes: tuple[Change, ...]

    @property
    def words(self) -> str:
        """What has changed, in a few words."""
        more = len(self.changes) - _MOST_CHANGES
        return ", ".join(each.words for each in self.changes[:_MOST_CHANGES]) + (f" and {more} more" if more > 0 else "")

    def describe(self, now: float) -> str:
        """Say what has changed since when, as people say it at the time `now`, in seconds since 1970."""
        return f"{self.words} since {_day_words(self.changes[0].since, now)}"

    def to_json(self) -> dict[str, Any]:
        """Return it with plain values; times are ISO 8601 in UTC."""
        changes = [asdict(each) | {"by": round(each.by, 3), "since": _utc(each.since)} for each in self.changes]
        return {"words": self.words, "since": changes[0]["since"], "changes": changes}


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _day_words(at: float, now: float) -> str:
    """Return `14:05`, `yesterday 14:05`, `Tuesday` or `3 Nov 2026`, by the board's local time."""
    then, today = datetime.fromtimestamp(at), datetime.fromtimestamp(now).date()
    days = (today - then.date()).days
    if days in (0, 1):
        return f"{'yesterday ' if days else ''}{then:%H:%M}"
    return f"{then:%A}" if 1 < days < 7 else f"{then.day} {then:%b %Y}"


@dataclass(frozen=True)
class Event:
    """What a trigger reports once: a part that passed, or a frame that was asked for.

    `number` counts the camera's events from 1 on, `trigger` is as it was written, `frames` and `seconds` are in how many frames
    and for how long the part was seen, and `direction` is where it moved, None where it did not.
    """

    number: int
    trigger: str
    outcome: Outcome
    frames: int = 1
    seconds: float = 0.0
    direction: Direction | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the event as it stands in JSON Lines, MQTT and the samples."""
        return {
            "id": self.number,
            "trigger": self.trigger,
            "outcome": self.outcome,
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "direction": self.direction,
        }


@dataclass(frozen=True, eq=False)
class Observation:
    """All that the loop says about one frame, or about a frame that did not come (`frame` None).

    `predictions` is empty unless the state is `ok`. `age_ms` is the frame's age when the loop took it; for a missing frame
    it is the time since the last one. `latency_ms` maps each of STAGES to milliseconds; `publish` is that of the
    observation before, since this one is being published; `cpu_ms` is the processor time behind `preprocess` and `invoke`.
    `warning` is what should be known and does not stop the answers,
    such as that the last good model runs instead of a file that was refused. `clock_jump_s` tells by how many seconds the
    wall clock was set since the observation before; all times until then were by the old one. `drift` says what has changed
    about the camera's pictures, for as long as that lasts. With a trigger, `event` says what is reported, and the frame is the
    best of the part's; without an event there is then no prediction.
    """

    source: str
    state: State
    frame: Frame | None = None
    predictions: tuple[RegionPrediction, ...] = ()
    age_ms: float | None = None
    latency_ms: dict[str, float] = field(default_factory=dict)
    warning: str = ""
    clock_jump_s: float | None = None
    drift: Drift | None = None
    event: Event | None = None
    cpu_ms: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the observation as one JSON object.

        `reason` stands in it only when the state is not `ok`, `media_time_s` only for the frames of a video file, `warning`
        only when there is one, `drift` only while the pictures drift, `clock_jump_s` only when the clock was set, and `event`
        only with a trigger.
        """
        line: dict[str, Any] = {
            "frame": None if self.frame is None else self.frame.number,
            "source": self.source,
            "captured_at": None if self.frame is None else self.frame.captured_at.isoformat(timespec="milliseconds"),
            "age_ms": None if self.age_ms is None else round(self.age_ms, 1),
            "state": self.state.name,
            "latency_ms": {stage: round(ms, 3) for stage, ms in self.latency_ms.items()},
            "regions": [prediction.to_json() for prediction in self.predictions],
        }
        if self.frame is not None and self.frame.media_time_s is not None:
            line["media_time_s"] = round(self.frame.media_time_s, 3)
        if self.clock_jump_s is not None:
            line["clock_jump_s"] = round(self.clock_jump_s, 3)
        reason = {} if self.state.name == "ok" else {"reason": self.state.reason}
        drift = {} if self.drift is None else {"drift": self.drift.to_json()}
        event = {} if self.event is None else {"event": self.event.to_json()}
        return line | reason | ({"warning": self.warning} if self.warning else {}) | drift | event


def _answer(prediction: Prediction) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "label": prediction.label,
        "verdict": prediction.verdict,
        "class_id": prediction.class_id,
        "probability": round(prediction.probability, 6),
    }
    if prediction.novelty is not None:
        answer |= {"novelty": round(prediction.novelty, 3), "nearest": prediction.nearest}
    if prediction.between is not None:
        answer["between"] = list(prediction.between)
    return answer
