"""Where in a frame to look - the whole of it, tiles over a strip, the handwritten digits in it - and what is seen there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.errors import InputError
from edgecnn.numbers import whole_number
from edgecnn.preprocessing import Preprocessing
from edgecnn.quick_dataclass import dataclass
from edgecnn.rejection.evidence import Judged
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.runtime import Answers, answer
from edgecnn_device.frames import Box, Image, Region

if TYPE_CHECKING:
    from edgecnn.handwriting import DigitReading
    from edgecnn.where import MapName

Finder = Callable[[Image], list[Region]]
Clock = Callable[[], float]
Find = Literal["auto", "whole", "digits"]
_MOST_TILES = 64


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network was shown in a frame and what it answered.

    `inputs` is `(n, height, width, channels)` uint8, `probabilities` `(n, classes)` float32; `rejected` `(n,)` bool tells of
    which regions the finder itself holds that they are nothing. `latency_ms` is by stage; `cpu_ms` is this thread's processor
    time of preprocessing and invoking, which does not grow while others have the processor. `judged` says how novel the regions
    are, None where nobody knows, `where` in which box of each the answer lies and by which map, None where nobody asked, or for
    a region where nothing does (`locating_maps`). `answers` are what `probabilities` come from, None of a finder that has asked
    for more than these regions.
    """

    regions: list[Region]
    inputs: Image
    probabilities: NDArray[np.float32]
    rejected: NDArray[np.bool_]
    latency_ms: dict[str, float]
    judged: Judged | None = None
    where: list[tuple[Box, MapName] | None] | None = None
    answers: Answers | None = None
    cpu_ms: float = 0.0


Look = Callable[[Image, Classifier, Clock], Seen]


def look_at(find: Finder, *, where: bool = False) -> Look:
    """Return a look that classifies all regions of a finder as one batch; with `where`, it says where each answer lies."""

    def look(image_bgr: Image, classifier: Classifier, clock: Clock) -> Seen:
        started_s = clock()
        regions = find(image_bgr)
        found_s, cpu_s = clock(), time.thread_time()
        inputs = _batch([classifier.preprocessing(region.view) for region in regions], classifier)
        prepared_s = clock()
        answers = answer(classifier.runtime, inputs)
        judged = classifier.judge(answers)
        latency_ms = {
            "find": 1000 * (found_s - started_s),
            "preprocess": 1000 * (prepared_s - found_s),
            "invoke": 1000 * (clock() - prepared_s),
        }
        cpu_ms = 1000 * (time.thread_time() - cpu_s)
        nothing = np.zeros(len(regions), bool)
        hot = _hot_boxes(regions, inputs, answers, judged, classifier) if where else None
        return Seen(regions, inputs, answers.probabilities, nothing, latency_ms, judged, hot, answers, cpu_ms)

    return look


def _hot_boxes(
    regions: list[Region], inputs: Image, answers: Answers, judged: Judged | None, classifier: Classifier
) -> list[tuple[Box, MapName] | None]:
    """Return for each region, in frame pixels, the box of what speaks most for its most probable class, or is most novel.

    None where nothing does: see `locating_maps`.
    """
    from edgecnn.where import hot_box, locating_maps

    height, width, _ = classifier.preprocessing.shape
    boxes: list[tuple[Box, MapName] | None] = []
    maps = locating_maps(classifier.runtime, classifier.evidence, inputs, answers, judged)
    for region, located in zip(regions, maps, strict=True):
        if located is None:
            boxes.append(None)
            continue
        name, place_map = located
        left, top, across, down = region.box
        shown_x, shown_y, shown_w, shown_h = classifier.preprocessing.source_box((across, down))
        x, y, w, h = hot_box(place_map, (height, width), (width, height))
        first = max(0, round(shown_x + x * shown_w / width)), max(0, round(shown_y + y * shown_h / height))
        last = (
            min(across, round(shown_x + (x + w) * shown_w / width)),
            min(down, round(shown_y + (y + h) * shown_h / height)),
        )
        box = left + first[0], top + first[1], max(1, last[0] - first[0]), max(1, last[1] - first[1])
        boxes.append((box, name))
    return boxes


def _batch(images: list[Image], classifier: Classifier) -> Image:
    if len(images) == 1:
        return images[0][None]
    return np.stack(images) if images else np.empty((0, *classifier.preprocessing.shape), np.uint8)


def find_whole(image_bgr: Image) -> list[Region]:
    """Look at the whole frame as one view; the model's contract says how it is fitted."""
    height, width = image_bgr.shape[:2]
    return [Region((0, 0, width, height), image_bgr)]


@dataclass(frozen=True)
class Tiles:
    """A grid of `columns` x `rows` equal views over the frame; neighbours share `overlap` (0 to 0.9) of their side."""

    columns: int
    rows: int
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if not (1 <= self.columns <= _MOST_TILES and 1 <= self.rows <= _MOST_TILES):
            raise InputError(f"--tiles {self.columns}x{self.rows}: give 1 to {_MOST_TILES} columns and rows, such as 6x1")
        if not 0 <= self.overlap <= 0.9:
            raise InputError(f"--overlap {self.overlap}: give 0 to 0.9 of a tile's side")

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return self.columns * self.rows

    @classmethod
    def parse(cls, text: str, overlap: float) -> Tiles:
        """Read `COLUMNSxROWS`, such as `6x1`."""
        columns, _, rows = text.lower().partition("x")
        grid = whole_number(columns, at_most=_MOST_TILES), whole_number(rows, at_most=_MOST_TILES)
        if grid[0] is None or grid[1] is None:
            raise InputError(f"--tiles {text!r}: give COLUMNSxROWS of 1 to {_MOST_TILES}, such as 6x1")
        return cls(grid[0], grid[1], overlap)

    def __call__(self, image_bgr: Image) -> list[Region]:
        """Return the tiles row by row; together they cover the whole frame."""
        height, width = image_bgr.shape[:2]
        if height < self.rows or width < self.columns:
            raise InputError(f"a frame of {width}x{height} pixels has no {self.columns}x{self.rows} tiles")
        return [
            Region((x, y, w, h), image_bgr[y : y + h, x : x + w])
            for y, h in spans(height, self.rows, self.overlap)
            for x, w in spans(width, self.columns, self.overlap)
        ]


def spans(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Divide `length` pixels into `count` equal spans (start, size), neighbours sharing `overlap` of their size."""
    size = length / (count - (count - 1) * overlap)
    whole = min(length, math.ceil(size - 1e-9))
    return [(round(i * (length - whole) / (count - 1)) if count > 1 else 0, whole) for i in range(count)]


def read_handwriting(image_bgr: Image, classifier: Classifier, clock: Clock) -> Seen:
    """Find handwritten digits, and let the network decide what belongs together; the views are their 28 x 28 forms.

    Preparing the forms is part of finding them here: `preprocess` is 0.
    """
    from edgecnn.handwriting import read_digits

    return _read(classifier, clock, lambda runtime: read_digits(image_bgr, runtime, classifier.reject_threshold or 0.0))


class ReadHandwritingOverTime:
    """Reads handwritten digits in a camera's frames as `read_handwriting` does, but what did not change only every second."""

    def __init__(self) -> None:
        """Know nothing yet."""
        from edgecnn.handwriting.over_time import ReaderOverTime

        self._reader = ReaderOverTime()

    def __call__(self, image_bgr: Image, classifier: Classifier, clock: Clock) -> Seen:
        """Return what is in a frame."""
        threshold = classifier.reject_threshold or 0.0
        return _read(classifier, clock, lambda runtime: self._reader.read(image_bgr, runtime, threshold, clock()))


def _read(classifier: Classifier, clock: Clock, read: Callable[[Runtime], list[DigitReading]]) -> Seen:
    started_s = clock()
    runtime = _TimedRuntime(classifier.runtime, clock)
    readings = read(runtime)
    invoke_ms = 1000 * runtime.spent_s
    latency_ms = {"find": 1000 * (clock() - started_s) - invoke_ms, "preprocess": 0.0, "invoke": invoke_ms}
    shape = classifier.preprocessing.shape
    regions = [Region(reading.box, reading.region.form) for reading in readings]
    inputs = _batch([region.view.reshape(shape) for region in regions], classifier)
    probabilities = np.array([reading.probabilities for reading in readings], np.float32).reshape(-1, len(classifier.labels))
    rejected = np.array([reading.class_id is None for reading in readings], bool)
    return Seen(regions, inputs, probabilities, rejected, latency_ms, cpu_ms=1000 * runtime.cpu_s)


class _TimedRuntime:
    """A runtime that knows how long it ran; equal to another of the same runtime."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self.name = runtime.name
        self.spent_s = self.cpu_s = 0.0
        self._runtime = runtime
        self._clock = clock

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _TimedRuntime) and other._runtime is self._runtime

    def __hash__(self) -> int:
        return hash(id(self._runtime))

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        started_s, cpu_s = self._clock(), time.thread_time()
        probabilities = self._runtime.run(images)
        self.spent_s += self._clock() - started_s
        self.cpu_s += time.thread_time() - cpu_s
        return probabilities


def choose_look(
    preprocessing: Preprocessing,
    *,
    find: Find = "auto",
    tiles: str | None = None,
    overlap: float = 0.0,
    where: bool = False,
    live: bool = False,
) -> Look:
    """Choose the look that was asked for; `auto` looks for digits where the model wants them, else at the whole frame.

    Of a `live` source's frames, digits are read where something changes; a file's frames are each read for themselves.
    """
    if find not in get_args(Find):
        raise InputError(f"unknown finder {find!r}; known: {', '.join(get_args(Find))}")
    if tiles is not None:
        if find == "digits":
            raise InputError("--tiles and --find digits exclude each other")
        return look_at(Tiles.parse(tiles, overlap), where=where)
    wants_digits = preprocessing.fit == "digit"
    if find == "digits" and not wants_digits:
        raise InputError("--find digits needs a model of handwritten digits (28 x 28, fit 'digit')")
    if find == "digits" or (find == "auto" and wants_digits):
        if where:
            raise InputError("--where is for models that look at whole regions; the box of a digit is the place already")
        return ReadHandwritingOverTime() if live else read_handwriting
    return look_at(find_whole, where=where)
