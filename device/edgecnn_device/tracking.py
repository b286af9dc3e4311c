"""Regions keep their identity from frame to frame, and their answers are smoothed over their last frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier, Prediction
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.finders import Seen
from edgecnn_device.frames import Behind, Box, RegionPrediction

# A region that was not seen for this many frames is forgotten.
PATIENCE = 5
# Boxes belong together when they overlap this much, or when a small one has moved by less than its own size.
MIN_OVERLAP, MAX_SHIFT = 0.2, 0.75


class _History:
    """The probabilities, rejections and novelties of a region's last `length` frames, in a ring."""

    def __init__(self, length: int, classes: int) -> None:
        self._rows = np.empty((length, classes), np.float32)
        self._rejections = [False] * length
        self._novelties: list[float | None] = [None] * length
        self._frames = 0

    def __len__(self) -> int:
        return min(self._frames, len(self._rejections))

    def add(self, row: NDArray[np.float32], rejected: bool, novelty: float | None) -> None:
        place = self._frames % len(self._rejections)
        self._rows[place], self._rejections[place], self._novelties[place] = row, rejected, novelty
        self._frames += 1

    def mean(self) -> NDArray[np.float32]:
        # What ndarray.mean does, at a third of its cost for so few rows.
        return np.asarray(np.add.reduce(self._rows[: len(self)]) / np.float32(len(self)), np.float32)

    def novelty(self) -> float | None:
        known = [each for each in self._novelties[: len(self)] if each is not None]
        return sum(known) / len(known) if known else None

    def mostly_rejected(self) -> bool:
        return 2 * sum(self._rejections) > len(self)


@dataclass(eq=False)
class _Track:
    region_id: int
    box: Box
    history: _History
    unseen: int = 0


class Tracker:
    """Gives regions their identity and averages the probabilities of a region's last `smooth` frames."""

    def __init__(self, smooth: int = 5) -> None:
        """Average over `smooth` frames; 1 leaves the answers as they are."""
        self._smooth = smooth
        self._tracks: list[_Track] = []
        self._source: str | None = None
        self._next_id = 1

    def update(self, source: str, seen: Seen, classifier: Classifier) -> tuple[RegionPrediction, ...]:
        """Return the predictions of what was seen in a frame.

        A frame from another source (the next picture of a folder) has nothing to do with those before it.
        """
        if source != self._source:
            self._source = source
            self.reset()
        tracks = self._match([region.box for region in seen.regions], len(classifier.labels))
        return tuple(self._predict(track, seen, index, classifier) for index, track in enumerate(tracks))

    def reset(self) -> None:
        """Forget all regions; identities are never given twice."""
        self._tracks.clear()

    def _predict(self, track: _Track, seen: Seen, index: int, classifier: Classifier) -> RegionPrediction:
        track.history.add(*_row(seen, index))
        return _predict(track.region_id, track.history, seen, index, classifier)

    def _match(self, boxes: list[Box], classes: int) -> list[_Track]:
        """Find each box's track, the closest pairs first; boxes that belong to none begin one."""
        if [track.box for track in self._tracks] == boxes:  # a fixed grid: nothing to search
            for track in self._tracks:
                track.unseen = 0
            return self._tracks
        found: dict[int, _Track] = {}
        alike = likenesses([track.box for track in self._tracks], boxes)
        pairs = np.argwhere(alike > 0)
        taken: set[int] = set()
        for number, i in pairs[np.argsort(-alike[alike > 0], kind="stable")].tolist():
            track = self._tracks[number]
            if i not in found and track.region_id not in taken:
                found[i] = track
                taken.add(track.region_id)
        tracks = [found.get(i) or self._begin(classes) for i in range(len(boxes))]
        for track, box in zip(tracks, boxes, strict=True):
            track.box, track.unseen = box, 0
        self._age({track.region_id for track in tracks})
        return tracks

    def _begin(self, classes: int) -> _Track:
        track = _Track(self._next_id, (0, 0, 0, 0), _History(self._smooth, classes))
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _age(self, seen: set[int]) -> None:
        for track in self._tracks:
            track.unseen += track.region_id not in seen
        self._tracks = [track for track in self._tracks if track.unseen <= PATIENCE]


def combine(region_id: int, seen: Seen, classifier: Classifier) -> RegionPrediction:
    """Return one prediction of views that all show the same: `raw` is the first's, `smoothed` that of all."""
    history = _History(len(seen.regions), len(classifier.labels))
    for index in range(len(seen.regions)):
        history.add(*_row(seen, index))
    return _predict(region_id, history, seen, 0, classifier)


def _row(seen: Seen, index: int) -> tuple[NDArray[np.float32], bool, float | None]:
    novelty = None if seen.judged is None else seen.judged.novelty.item(index)
    return seen.probabilities[index], seen.rejected.item(index), novelty


def _predict(region_id: int, history: _History, seen: Seen, index: int, classifier: Classifier) -> RegionPrediction:
    """Return the prediction of a region, smoothed over its history, of which it is a part."""
    row, rejected, novelty = _row(seen, index)
    nearest = None if seen.judged is None else seen.judged.nearest.item(index)
    tempered = None if seen.judged is None else seen.judged.tempered[index]
    smoothed = raw = _interpret(classifier, row, rejected, novelty, nearest, tempered)
    if len(history) > 1:
        smoothed = _interpret(classifier, history.mean(), history.mostly_rejected(), history.novelty(), nearest)
    where, where_map = (None, None) if seen.where is None else seen.where[index] or (None, None)
    behind = None if seen.answers is None else Behind(classifier, seen.answers, index)
    pooled = None if seen.judged is None or seen.answers is None else seen.answers.pooled  # computed already
    features = None if pooled is None else pooled[index]
    return RegionPrediction(
        region_id, seen.regions[index], seen.inputs[index], raw, smoothed, where, where_map, behind, features
    )


def _interpret(
    classifier: Classifier,
    probabilities: NDArray[np.float32],
    rejected: bool,
    novelty: float | None,
    nearest: int | None,
    tempered: NDArray[np.float32] | None = None,
) -> Prediction:
    prediction = classifier.interpret(probabilities, novelty, nearest, tempered)
    return replace(prediction, label=None, verdict="unsure") if rejected else prediction


def likenesses(ones: Sequence[Box], others: Sequence[Box]) -> NDArray[np.float64]:
    """Return `(n, m)`: 1..2 for overlapping boxes, 0..1 for near ones of about the same size, 0 for strangers."""
    a, b = np.array(ones, np.float64).reshape(-1, 1, 4), np.array(others, np.float64).reshape(1, -1, 4)
    size_a, size_b = a[..., 2:], b[..., 2:]
    shared = (np.minimum(a[..., :2] + size_a, b[..., :2] + size_b) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(axis=2)
    overlap = shared / (size_a.prod(axis=2) + size_b.prod(axis=2) - shared)
    longest_a, longest_b = size_a.max(axis=2), size_b.max(axis=2)
    longest = np.maximum(longest_a, longest_b)
    shift = np.hypot(*np.moveaxis(a[..., :2] + size_a / 2 - b[..., :2] - size_b / 2, 2, 0))
    near = np.where(np.minimum(longest_a, longest_b) < 0.6 * longest, 0.0, np.maximum(0.0, 1 - shift / (MAX_SHIFT * longest)))
    return np.where(overlap >= MIN_OVERLAP, 1 + overlap, near)
