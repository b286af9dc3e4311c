"""How well a camera with a trigger answers parts on a belt: one answer each, and as right as on still pictures."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edgecnn.classifier import Classifier
from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.synthetic.belt import Belt, BeltFrame, play_belt
from edgecnn.metrics import Share
from edgecnn.text import percent
from edgecnn_device.finders import find_whole, look_at
from edgecnn_device.frames import Box, Frame, Observation
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Statistics, Watcher, observe
from edgecnn_device.part_views import PartViews
from edgecnn_device.passages import Passages
from edgecnn_device.tracking import Tracker
from edgecnn_device.triggered import OnParts
from edgecnn_device.triggers import Trigger

_FPS = 30.0
_SOURCE = "belt"
_NEAR = 0.12  # of a part's side: a frame in which a plain loop can be expected to be right
_BATCH = 64
_EMPTY_FRAMES, _TURNS = 120, 3


@dataclass(frozen=True)
class BeltFigures:
    """Of `parts` on the belt: how many were answered `once`, `missed`, `doubled`, and answers that belong to none (`false`).

    `unanswered` are events without an answer. `stills`, `best` and `right` are the shares of parts whose most probable class is
    right: on the pictures themselves, by the best frame of each part, and by all of its views together; a part that was missed
    is wrong. `plain` and `smoothed` are of the frames of a loop without a trigger in which a part is near the middle. `cost` is
    the CPU time of a frame, in that of a loop without a trigger which looks at a window of a part's size; `cost_empty` that of
    a frame of the empty belt, in that of one which classifies the whole frame.
    """

    parts: int
    frames: int
    once: int
    missed: int
    doubled: int
    false: int
    unanswered: int
    stills: Share
    right: Share
    best: Share
    plain: Share
    smoothed: Share
    cost: float
    cost_empty: float

    @property
    def kept(self) -> float:
        """The accuracy on parts as a share of that on stills."""
        return self.right.value / self.stills.value if self.stills.value else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        counts = ("parts", "frames", "once", "missed", "doubled", "false", "unanswered")
        shares = ("stills", "right", "best", "plain", "smoothed")
        return {
            **{name: getattr(self, name) for name in counts},
            **{name: getattr(self, name).to_json() for name in shares},
            "kept": self.kept,
            "cost": self.cost,
            "cost_empty": self.cost_empty,
        }


def measure_belt(
    classifier: Classifier,
    pictures: Dataset,
    trigger: Trigger,
    belt: Belt,
    *,
    smooth: int = 5,
    fill: float | None = None,
    seed: int = 0,
) -> BeltFigures:
    """Let every picture pass on a belt, in an order drawn by `seed`, before a camera with a trigger and one without."""
    order = np.random.default_rng(seed).permutation(len(pictures.images))
    stills, truth = pictures.images[order], pictures.class_ids[order].tolist()
    boxes: list[dict[int, Box]] = []
    views = PartViews(fill)
    parts = OnParts(trigger.text, Passages(trigger.line, views=smooth, live=False, fps=_FPS), views)
    events, event_s = _watch(_frames(stills, belt, seed, boxes), classifier, Tracker(1), parts)
    seen, seen_s = _watch(_middles(_frames(stills, belt, seed, []), stills.shape[1:3], belt), classifier, Tracker(smooth), None)
    answers = [(_part_of(event, boxes), event) for event in events if event.predictions]
    first = {part: event for part, event in reversed(answers) if part is not None}
    times = Counter(part for part, _ in answers if part is not None)
    near = [(truth[part], each) for each in seen if each.predictions and (part := _near(each, boxes, belt)) is not None]
    return BeltFigures(
        parts=len(stills),
        frames=len(boxes),
        once=sum(count == 1 for count in times.values()),
        missed=len(stills) - len(times),
        doubled=sum(count > 1 for count in times.values()),
        false=sum(part is None for part, _ in answers),
        unanswered=sum(event.event is not None and not event.predictions for event in events),
        stills=_share(zip(truth, _classify(classifier, stills), strict=True), len(truth)),
        right=_share(((truth[part], each.predictions[0].smoothed.class_id) for part, each in first.items()), len(truth)),
        best=_share(((truth[part], each.predictions[0].raw.class_id) for part, each in first.items()), len(truth)),
        plain=_share(((label, each.predictions[0].raw.class_id) for label, each in near), len(near)),
        smoothed=_share(((label, each.predictions[0].smoothed.class_id) for label, each in near), len(near)),
        cost=event_s / seen_s,
        cost_empty=_cost_empty(stills, belt, classifier, trigger),
    )


def _cost_empty(stills: Any, belt: Belt, classifier: Classifier, trigger: Trigger) -> float:
    """Return the CPU time of a frame of the empty belt, in that of classifying it; the least of several turns of each."""
    shown = itertools.islice(play_belt(stills[:1], replace(belt, lead=_EMPTY_FRAMES / _FPS)), _EMPTY_FRAMES)
    frames = [_frame(each, number) for number, each in enumerate(shown)]
    costs = []
    for _ in range(_TURNS):
        parts = OnParts(trigger.text, Passages(trigger.line, live=False, fps=_FPS), PartViews(1.0))
        triggered, plain = (_watch(iter(frames), classifier, Tracker(1), each)[1] for each in (parts, None))
        costs.append((triggered, plain))
    return min(each[0] for each in costs) / min(each[1] for each in costs)


def format_belt(figures: BeltFigures) -> list[str]:
    """Say what was found, a line each."""
    counted = (
        f"{figures.once} of {figures.parts} parts answered once; {figures.missed} missed, {figures.doubled} more than once"
    )
    rows = {
        "pictures themselves": figures.stills,
        "parts, all views": figures.right,
        "parts, best frame": figures.best,
        "no trigger, frames with a part near the middle": figures.plain,
        "no trigger, the same frames smoothed": figures.smoothed,
    }
    width = max(map(len, rows))
    return [
        f"{counted}, {figures.false} answers of no part, {figures.unanswered} events without an answer",
        *[f"{name:<{width}}  {percent(share.value, share.interval)} of {share.count}" for name, share in rows.items()],
        f"{100 * figures.kept:.1f} % of the accuracy on the pictures themselves; "
        f"a frame costs {figures.cost:.2f} times one of a loop without a trigger at a window of a part's size,",
        f"and on the empty belt {figures.cost_empty:.2f} times one that is classified as a whole",
    ]


def _frames(stills: Any, belt: Belt, seed: int, boxes: list[dict[int, Box]]) -> Iterator[Frame]:
    """Yield the frames of a belt, and note in `boxes` where each part is."""
    for number, shown in enumerate(play_belt(stills, belt, seed)):
        boxes.append(shown.boxes)
        yield _frame(shown, number)


def _frame(shown: BeltFrame, number: int) -> Frame:
    return Frame(shown.image_bgr, number, _SOURCE, datetime.now(UTC), time.monotonic(), number / _FPS)


def _middles(frames: Iterator[Frame], size_hw: Sequence[int], belt: Belt) -> Iterator[Frame]:
    """Yield the middle of each frame, as large as a part: where a camera without a trigger looks, by --roi."""
    height, width = size_hw if belt.direction in ("left", "right") else size_hw[::-1]
    for frame in frames:
        top, left = (frame.image_bgr.shape[0] - height) // 2, (frame.image_bgr.shape[1] - width) // 2
        yield replace(frame, image_bgr=np.ascontiguousarray(frame.image_bgr[top : top + height, left : left + width]))


def _watch(
    frames: Iterator[Frame], classifier: Classifier, tracker: Tracker, parts: OnParts | None
) -> tuple[list[Observation], float]:
    """Return what is observed, without the pictures, and the CPU seconds of a frame beside making it."""
    spent_s, count, found = 0.0, 0, []
    watcher = Watcher(lambda: classifier, look_at(find_whole), Health(Limits(live=False)), tracker, parts=parts)
    started_s = making_s = time.process_time()

    def timed() -> Iterator[Frame]:
        nonlocal spent_s, count, making_s
        for frame in frames:
            spent_s += time.process_time() - making_s
            count += 1
            yield frame
            making_s = time.process_time()

    for observation in observe(timed(), watcher, Statistics()):
        found.append(_light(observation))
    return found, (time.process_time() - started_s - spent_s) / max(count, 1)


def _light(observation: Observation) -> Observation:
    """Return an observation that keeps no frame in memory."""
    frame = observation.frame
    small = None if frame is None else replace(frame, image_bgr=np.empty((*frame.image_bgr.shape[:2], 0), np.uint8))
    light = [replace(p, region=replace(p.region, view=p.input), behind=None) for p in observation.predictions]
    return replace(observation, frame=small, predictions=tuple(light))


def _part_of(event: Observation, boxes: list[dict[int, Box]]) -> int | None:
    """Return the part that most of an answer's view shows, None where it shows none."""
    assert event.frame is not None
    shared = {part: _shared(event.predictions[0].region.box, box) for part, box in boxes[event.frame.number].items()}
    part = max(shared, key=lambda each: shared[each], default=None)
    return part if part is not None and shared[part] > 0.5 else None


def _shared(view: Box, box: Box) -> float:
    across = min(view[0] + view[2], box[0] + box[2]) - max(view[0], box[0])
    down = min(view[1] + view[3], box[1] + box[3]) - max(view[1], box[1])
    return max(0, across) * max(0, down) / (box[2] * box[3])


def _near(observation: Observation, boxes: list[dict[int, Box]], belt: Belt) -> int | None:
    """Return the part that is near the middle of a frame."""
    assert observation.frame is not None
    axis = 0 if belt.direction in ("left", "right") else 1
    for part, box in boxes[observation.frame.number].items():
        view = belt.view * box[2 + axis]
        if abs(box[axis] + box[2 + axis] / 2 - view / 2) <= _NEAR * box[2 + axis]:
            return part
    return None


def _classify(classifier: Classifier, stills: Any) -> list[int]:
    found: list[int] = []
    for at in range(0, len(stills), _BATCH):
        probabilities = classifier.runtime.run(stills[at : at + _BATCH])
        found += probabilities.argmax(axis=1).tolist()
    return found


def _share(pairs: Any, count: int) -> Share:
    return Share(sum(label == answer for label, answer in pairs), count)
