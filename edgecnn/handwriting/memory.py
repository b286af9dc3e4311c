"""What the frames before have shown: components that did not change need not be classified again."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.components import Component
from edgecnn.handwriting.regions import DigitRegion, Setting, Sheet

Answer = tuple[DigitRegion, NDArray[np.float32], int, float]
"""A region of the frame, the probabilities `(10,)` float32 of its classes, the most probable one and its probability."""

# A component is one that is known when its box has moved by no more pixels, and its ink has changed by no larger share.
_SAME_BOX, _SAME_AREA = 1, 0.1
_Measures = NDArray[np.int64]


class Memory:
    """The components of the frame before, as they were classified, and where this frame is unlike it."""

    def __init__(self, before: Memory | None = None, changed: NDArray[np.uint8] | None = None) -> None:
        """Take the memory of the frame before and where this one differs: `(h, w)` uint8, not 0 there, of any size."""
        self._before = before._seen if before is not None and changed is not None else {}
        self._changed = None if changed is None else cv2.integral(np.minimum(changed, 1))
        self._seen: dict[Setting, list[tuple[_Measures, list[Answer]]]] = {}

    def keep(self, sheet: Sheet, components: Sequence[Component], answers: list[Answer]) -> None:
        """Keep what components of a sheet were taken for, for the next frame."""
        if components:
            self._seen.setdefault(sheet.setting, []).append((_measures(components), answers))

    def recall(self, sheet: Sheet, components: Sequence[Component]) -> list[Answer | None]:
        """Return what components were taken for in the frame before; None where they are new or something has changed."""
        batches = self._before.get(sheet.setting, [])
        if not batches or not components:
            return [None] * len(components)
        now, before = _measures(components), np.concatenate([measures for measures, _ in batches])
        answers = [answer for _, batch in batches for answer in batch]
        alike = (np.abs(now[:, None, :4] - before[:, :4]) <= _SAME_BOX).all(axis=2)
        alike &= np.abs(now[:, None, 4] - before[:, 4]) <= _SAME_AREA * before[:, 4]
        alike &= ~self._has_changed(now, sheet)[:, None]
        return [answers[int(row.argmax())] if row.any() else None for row in alike]

    def _has_changed(self, boxes: _Measures, sheet: Sheet) -> NDArray[np.bool_]:
        """Tell for boxes of a sheet whether the frame has changed in them."""
        if self._changed is None:
            return np.ones(len(boxes), np.bool_)
        size = np.array(self._changed.shape[::-1]) - 1
        shares = size / sheet.frame_hw[::-1]
        first = sheet.setting.corner + boxes[:, :2] * sheet.setting.scale
        left, top = np.floor(first * shares).astype(int).T
        right, bottom = np.minimum(np.ceil((first + boxes[:, 2:4] * sheet.setting.scale) * shares).astype(int), size).T
        total = self._changed
        return np.asarray(total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left] > 0, np.bool_)


def _measures(components: Sequence[Component]) -> _Measures:
    """Return boxes and areas `(n, 5)`."""
    return np.array([(*part.box, part.area) for part in components], np.int64).reshape(-1, 5)
