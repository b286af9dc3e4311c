"""What the network is shown of a part that has passed, and the one answer that its views give together."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import cv2
import numpy as np

from edgecnn.classifier import Classifier
from edgecnn.runtimes.runtime import answer
from edgecnn_device.finders import Clock, Seen, look_at
from edgecnn_device.frames import Box, Image, Region, RegionPrediction
from edgecnn_device.passages import Passed
from edgecnn_device.tracking import combine

# The shares of a view's side that a part may fill, tried on the first parts.
FILLS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_ENOUGH, _TRIED, _REMEMBERED = 5, 12, 32
# Another share than 1 has to look this much more like the training pictures.
_BETTER = 0.95


class PartViews:
    """Cuts views of parts out of frames, as large as the training pictures show them, and has them classified.

    How much of a view a part fills is `fill`; None tries FILLS on the first parts, and takes what is least novel to the model:
    the share that the parts had in its training pictures. A model that does not tell what is novel is shown whole boxes; so is
    every model until there were enough parts, or an odd part would be shown in the way in which it looks least odd.
    """

    def __init__(self, fill: float | None = None, *, where: bool = False) -> None:
        """Have seen no part."""
        self._stated, self._where = fill, where
        self._tried: deque[list[float]] = deque(maxlen=_REMEMBERED)
        self._model: Classifier | None = None

    def classify(self, passed: Passed, classifier: Classifier, clock: Clock) -> tuple[RegionPrediction, Seen]:
        """Return the answer to a part that was seen whole, by all of its views, and what was seen in them."""
        best = passed.sights[0]
        started_s = clock()
        fill = self._fill(best.frame.image_bgr, best.box, classifier)
        regions = [view_of(sight.frame.image_bgr, sight.box, fill, classifier) for sight in passed.sights]
        found_s = clock()
        seen = look_at(lambda _: regions, where=self._where)(best.frame.image_bgr, classifier, clock)
        latency_ms = seen.latency_ms | {"find": 1000 * (found_s - started_s)}
        return combine(passed.number, seen, classifier), replace(seen, latency_ms=latency_ms)

    def _fill(self, image: Image, box: Box, classifier: Classifier) -> float:
        if self._stated is not None or classifier.evidence is None:
            return self._stated or FILLS[0]
        if classifier is not self._model:
            self._tried.clear()
            self._model = classifier
        if len(self._tried) < _TRIED:
            views = [view_of(image, box, fill, classifier).view for fill in FILLS]
            judged = classifier.judge(answer(classifier.runtime, np.stack([classifier.preprocessing(view) for view in views])))
            if judged is not None:
                self._tried.append(judged.novelty.tolist())
        if len(self._tried) < _ENOUGH:
            return FILLS[0]
        novelty = np.median(np.asarray(self._tried), axis=0)
        least = int(novelty.argmin())
        return FILLS[least] if novelty[least] < _BETTER * novelty[0] else FILLS[0]


def view_of(image: Image, box: Box, fill: float, classifier: Classifier) -> Region:
    """Return the view `(h, w, 3)` around a box, of the shape of the model's input, of which the box's longer side fills `fill`.

    What lies beyond the frame repeats its border; the region's box is the part of the view that lies in the frame.
    """
    x, y, w, h = box
    height, width = classifier.preprocessing.shape[:2]
    scale = max(w / width, h / height) / fill
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = round(x + (w - across) / 2), round(y + (h - down) / 2)
    right, bottom = left + across, top + down
    inside = max(0, left), max(0, top), min(image.shape[1], right), min(image.shape[0], bottom)
    view = image[inside[1] : inside[3], inside[0] : inside[2]]
    beyond = inside[1] - top, bottom - inside[3], inside[0] - left, right - inside[2]
    if any(beyond):
        view = np.asarray(cv2.copyMakeBorder(view, *beyond, cv2.BORDER_REPLICATE), np.uint8)
    return Region((inside[0], inside[1], inside[2] - inside[0], inside[3] - inside[1]), view)
