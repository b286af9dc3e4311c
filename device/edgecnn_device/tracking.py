"""Regions keep their identity from frame to frame, and their answers are smoothed over their last frames."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgecnn.classifying import Classifier, Prediction
from edgecnn_device.finders import Seen
from edgecnn_device.frames import Box, RegionPrediction

# A region that was not seen for this many frames is forgotten.
PATIENCE = 5
# Boxes belong together when they overlap this much, or when a small one has moved by less than its own size.
MIN_OVERLAP, MAX_SHIFT = 0.2, 0.75


@dataclass(eq=False)
class _Track:
    region_id: int
    box: Box
    history: deque[NDArray[np.float32]]
    rejections: deque[bool]
    unseen: int = field(default=0)


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
        tracks = self._match([region.box for region in seen.regions])
        return tuple(self._predict(track, seen, index, classifier) for index, track in enumerate(tracks))

    def reset(self) -> None:
        """Forget all regions; identities are never given twice."""
        self._tracks.clear()

    def _predict(self, track: _Track, seen: Seen, index: int, classifier: Classifier) -> RegionPrediction:
        row = seen.probabilities[index]
        track.history.append(row)
        track.rejections.append(bool(seen.rejected[index]))
        smoothed = raw = _interpret(classifier, row, track.rejections[-1])
        if len(track.history) > 1:
            mean = np.asarray(np.mean(track.history, axis=0), np.float32)
            smoothed = _interpret(classifier, mean, 2 * sum(track.rejections) > len(track.rejections))
        return RegionPrediction(track.region_id, seen.regions[index], seen.inputs[index], raw, smoothed)

    def _match(self, boxes: list[Box]) -> list[_Track]:
        """Find each box's track, the closest pairs first; boxes that belong to none begin one."""
        found: dict[int, _Track] = {}
        if [track.box for track in self._tracks] == boxes:  # a fixed grid: nothing to search
            found = dict(enumerate(self._tracks))
        else:
            pairs = [(_likeness(t.box, box), i, t) for t in self._tracks for i, box in enumerate(boxes)]
            taken: set[int] = set()
            for likeness, i, track in sorted(pairs, key=lambda pair: -pair[0]):
                if likeness > 0 and i not in found and track.region_id not in taken:
                    found[i] = track
                    taken.add(track.region_id)
        tracks = [found.get(i) or self._begin() for i in range(len(boxes))]
        for track, box in zip(tracks, boxes, strict=True):
            track.box, track.unseen = box, 0
        self._age({track.region_id for track in tracks})
        return tracks

    def _begin(self) -> _Track:
        track = _Track(self._next_id, (0, 0, 0, 0), deque(maxlen=self._smooth), deque(maxlen=self._smooth))
        self._next_id += 1
        self._tracks.append(track)
        return track

    def _age(self, seen: set[int]) -> None:
        for track in self._tracks:
            track.unseen += track.region_id not in seen
        self._tracks = [track for track in self._tracks if track.unseen <= PATIENCE]


def _interpret(classifier: Classifier, probabilities: NDArray[np.float32], rejected: bool) -> Prediction:
    prediction = classifier.interpret(probabilities)
    return replace(prediction, label=None) if rejected else prediction


def _likeness(one: Box, other: Box) -> float:
    """Return 1..2 for overlapping boxes, 0..1 for near ones of about the same size, 0 for strangers."""
    shared_w = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    shared_h = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(shared_w, 0) * max(shared_h, 0)
    overlap = shared / (one[2] * one[3] + other[2] * other[3] - shared)
    if overlap >= MIN_OVERLAP:
        return 1 + overlap
    size = max(one[2], one[3], other[2], other[3])
    if min(max(one[2:]), max(other[2:])) < 0.6 * size:
        return 0.0
    shift_x = one[0] + one[2] / 2 - other[0] - other[2] / 2
    shift_y = one[1] + one[3] / 2 - other[1] - other[3] / 2
    return max(0.0, 1 - float(np.hypot(shift_x, shift_y)) / (MAX_SHIFT * size))
