"""How steadily the digits of a video are read: right or wrong, how often answers change, and whether each keeps its id.

    edgecnn study digits VIDEO LABELS

`LABELS` is a table with the columns frame, digit, x, y, w, h, label: where a digit stands in a frame (from 0 on), under any
name. Between two of its rows a digit moves evenly; it is there from its first row to its last.
"""

from __future__ import annotations

import csv
import itertools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.classifier import Classifier
from edgecnn.errors import DatasetError, InputError
from edgecnn.files import read_bytes
from edgecnn.handwriting.evaluation import TrueBox
from edgecnn.progress import report
from edgecnn.text import aligned, percent
from edgecnn_device.finders import ReadHandwritingOverTime
from edgecnn_device.frames import Box, Frame, RegionPrediction
from edgecnn_device.sources.select import SourceOptions, open_source
from edgecnn_device.tracking import Tracker

COLUMNS = ("frame", "digit", "x", "y", "w", "h", "label")
_DRAWS, _SEED, _CONFIDENCE = 2000, 0, 0.95


@dataclass(frozen=True)
class TrueDigit:
    """A digit of a video: its `boxes` at some `frames`, in ascending order."""

    name: str
    label: str
    frames: tuple[int, ...]
    boxes: tuple[Box, ...]

    def at(self, frame: int) -> TrueBox | None:
        """Return where it stands in a frame; None before its first and after its last."""
        if not self.frames[0] <= frame <= self.frames[-1]:
            return None
        after = min(bisect_right(self.frames, frame), len(self.frames) - 1)
        before = max(after - 1, 0)
        share = (frame - self.frames[before]) / max(self.frames[after] - self.frames[before], 1)
        x, y, w, h = (round((1 - share) * a + share * b) for a, b in zip(self.boxes[before], self.boxes[after], strict=True))
        return TrueBox(x, y, w, h, self.label, "digit")


@dataclass(frozen=True)
class Reading:
    """What a camera shows of a region: its id, and its label over the last frames; None where it gives none."""

    region_id: int
    box: Box
    label: str | None

    @classmethod
    def of(cls, prediction: RegionPrediction) -> Reading:
        """Take it from a camera's prediction."""
        return cls(prediction.region_id, prediction.region.box, prediction.smoothed.label)


@dataclass(frozen=True)
class DigitFigures:
    """How one digit was read: in how many `frames` it stands, in how many of them it was `found` and read `right`.

    `changes` counts how often its answer became another one, no answer included; `ids` how many ids it had.
    """

    name: str
    label: str
    frames: int
    found: int
    right: int
    changes: int
    ids: int


@dataclass(frozen=True)
class Second:
    """One second of a video: how many digits stand in its frames, all frames together, and how many were read right."""

    second: int
    shown: int
    right: int


@dataclass(frozen=True)
class VideoFigures:
    """How the digits of a video were read; `false_reports` are labels where none stands, in `frames` with at least one."""

    fps: float
    frames: int
    digits: tuple[DigitFigures, ...]
    seconds: tuple[Second, ...]
    false_reports: int

    @property
    def accuracy(self) -> float:
        """Read right, of all digits in all frames."""
        return sum(each.right for each in self.digits) / sum(each.frames for each in self.digits)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % percentile bootstrap over digits (Efron, 1979): frames of one digit are no independent draws."""
        counts = np.array([(each.right, each.frames) for each in self.digits], np.int64)
        drawn = np.random.default_rng(_SEED).integers(0, len(counts), (_DRAWS, len(counts)))
        right, frames = counts[drawn].sum(axis=1).T
        low, high = np.percentile(right / frames, [50 * (1 - _CONFIDENCE), 50 * (1 + _CONFIDENCE)])
        return float(low), float(high)

    @property
    def changes_per_minute(self) -> float:
        """Changes of the answer per digit and minute in which it is shown."""
        minutes = sum(each.frames for each in self.digits) / self.fps / 60
        return sum(each.changes for each in self.digits) / minutes

    @property
    def kept(self) -> int:
        """How many digits were found and had one id all the time."""
        return sum(each.ids == 1 for each in self.digits)

    def to_json(self) -> dict[str, Any]:
        """Return all figures with plain numbers."""
        return {
            "fps": self.fps,
            "frames": self.frames,
            "accuracy": {"share": self.accuracy, "interval": list(self.interval)},
            "changes_per_minute": self.changes_per_minute,
            "kept_id": self.kept,
            "false_reports": self.false_reports,
            "digits": [vars(each) for each in self.digits],
            "seconds": [vars(each) for each in self.seconds],
        }


def read_labels(path: Path) -> list[TrueDigit]:
    """Read the digits of a video; DatasetError, with the line, for a table that is none."""
    rows = csv.DictReader(read_bytes(path, at_most=2**24).decode("utf-8", "replace").splitlines())
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        raise DatasetError(f"{path}: expected the columns {', '.join(COLUMNS)}, got {rows.fieldnames}")
    marks: dict[str, dict[int, tuple[Box, str]]] = defaultdict(dict)
    for row in rows:
        try:
            frame, x, y, w, h = (int(row[column]) for column in ("frame", "x", "y", "w", "h"))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{path}, line {rows.line_num}: {error}") from error
        if frame < 0 or min(w, h) < 1 or frame in marks[row["digit"]]:
            expected = "a frame from 0 on, once for each digit, and a box that is not empty"
            raise DatasetError(f"{path}, line {rows.line_num}: expected {expected}")
        marks[row["digit"]][frame] = (x, y, w, h), row["label"]
    if not marks:
        raise DatasetError(f"{path} names no digit")
    return [_digit(path, name, rows) for name, rows in marks.items()]


def _digit(path: Path, name: str, rows: dict[int, tuple[Box, str]]) -> TrueDigit:
    frames, labels = tuple(sorted(rows)), {label for _, label in rows.values()}
    if len(labels) > 1:
        raise DatasetError(f"{path}: digit {name!r} has several labels: {', '.join(sorted(labels))}")
    return TrueDigit(name, labels.pop(), frames, tuple(rows[frame][0] for frame in frames))


def read_video(video: str, classifier: Classifier, *, smooth: int = 5) -> Iterator[tuple[float, list[Reading]]]:
    """Read a video as a live camera does, by the video's own time; yield its frames per second and what each frame shows.

    InputError when the model reads no handwriting, or there is no such video.
    """
    if classifier.preprocessing.fit != "digit":
        raise InputError("study digits needs a model of handwritten digits (28 x 28, fit 'digit'), such as mnist")
    tracker, look = Tracker(smooth), ReadHandwritingOverTime()
    with open_source(SourceOptions(video)) as source:
        for number, frame in enumerate(each for each in source if isinstance(each, Frame)):
            report("frames", number, None)
            seen = look(frame.image_bgr, classifier, lambda: number / source.fps)  # noqa: B023 - called before the next frame
            yield source.fps, [Reading.of(each) for each in tracker.update(video, seen, classifier)]


def judge(digits: Sequence[TrueDigit], shown: Iterable[Sequence[Reading]], fps: float) -> VideoFigures:
    """Compare what each frame shows with the digits that stand in it."""
    answers: dict[str, list[Reading | None]] = {digit.name: [] for digit in digits}
    seconds: dict[int, list[bool]] = defaultdict(list)
    false_reports = frames = 0
    for number, readings in enumerate(shown):
        there = {digit.name: box for digit in digits if (box := digit.at(number)) is not None}
        if not there:
            continue
        frames += 1
        matched = _matched(list(there.values()), readings)
        false_reports += sum(each.label is not None for each in readings) - sum(
            each is not None and each.label is not None for each in matched
        )
        for (name, box), reading in zip(there.items(), matched, strict=True):
            answers[name].append(reading)
            seconds[int(number / fps)].append(reading is not None and reading.label == box.label)
    figures = tuple(_figures(digit, answers[digit.name]) for digit in digits if answers[digit.name])
    if not figures:
        raise DatasetError("the video ends before the first frame that is labelled")
    rows = tuple(Second(second, len(right), sum(right)) for second, right in seconds.items())
    return VideoFigures(fps, frames, figures, rows, false_reports)


def _matched(boxes: Sequence[TrueBox], readings: Sequence[Reading]) -> list[Reading | None]:
    """Return the reading that belongs to each box, the nearest pairs first; None where there is none."""
    pairs = sorted(
        (_away(box, reading.box), i, j)
        for i, box in enumerate(boxes)
        for j, reading in enumerate(readings)
        if box.holds(reading.box)
    )
    found: dict[int, int] = {}
    for _, i, j in pairs:
        if i not in found and j not in found.values():
            found[i] = j
    return [readings[found[i]] if i in found else None for i in range(len(boxes))]


def _away(box: TrueBox, read: Box) -> float:
    return abs(box.x + box.w / 2 - read[0] - read[2] / 2) + abs(box.y + box.h / 2 - read[1] - read[3] / 2)


def _figures(digit: TrueDigit, answers: Sequence[Reading | None]) -> DigitFigures:
    found = [each for each in answers if each is not None]
    labels = [None if each is None else each.label for each in answers]
    changes = sum(one != other for one, other in itertools.pairwise(labels))
    right = sum(label == digit.label for label in labels)
    return DigitFigures(
        digit.name, digit.label, len(answers), len(found), right, changes, len({each.region_id for each in found})
    )


def study_digits(video: str, digits: Sequence[TrueDigit], classifier: Classifier, *, smooth: int = 5) -> VideoFigures:
    """Read a video and judge what it shows."""
    read = list(read_video(video, classifier, smooth=smooth))
    return judge(digits, [readings for _, readings in read], read[0][0])


def format_lines(figures: VideoFigures) -> list[str]:
    """Return the figures as lines of text."""
    digits: list[Sequence[str]] = [("digit", "label", "frames", "found", "right", "changes", "ids")]
    digits += [
        (one.name, one.label, *map(str, (one.frames, one.found, one.right, one.changes, one.ids))) for one in figures.digits
    ]
    seconds = [("second", "shown", "right"), *((str(one.second), str(one.shown), str(one.right)) for one in figures.seconds)]
    return [
        *aligned(digits, left=2),
        "",
        *aligned(seconds),
        "",
        f"read right: {percent(figures.accuracy, figures.interval)} of {len(figures.digits)} digits in {figures.frames} frames",
        f"the answer changes {figures.changes_per_minute:.1f} times per digit and minute",
        f"{figures.kept} of {len(figures.digits)} digits keep one id; {figures.false_reports} false reports",
    ]
