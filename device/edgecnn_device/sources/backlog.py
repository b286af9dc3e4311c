"""Recognises frames that are old although they were only just read."""

from __future__ import annotations

_MIN_GAP_S, _GAP_INTERVALS = 0.5, 5.0
_WAITED_PART = 0.3
_LEARNING = 5


class Backlog:
    """Tells by the time that each read took which frames had been lying in a buffer.

    After a stall a server or the network delivers at once what it held back, and OpenCV returns it frame by frame as if it
    were new. Such frames come without waiting; the first that has to be waited for again is fresh.
    """

    def __init__(self) -> None:
        """Begin with a source whose rhythm is not known; until it is, every frame counts as fresh."""
        self._interval_s = 0.0
        self._seen = 0
        self._draining = False

    def is_old(self, waited_s: float) -> bool:
        """Judge a frame whose read blocked for `waited_s` seconds."""
        known = self._seen >= _LEARNING
        if known and waited_s > max(_MIN_GAP_S, _GAP_INTERVALS * self._interval_s):
            self._draining = True
            return True
        if self._draining:
            self._draining = waited_s < _WAITED_PART * self._interval_s
            return self._draining
        self._learn(waited_s)
        return False

    def _learn(self, waited_s: float) -> None:
        weight = 1 / min(self._seen + 1, 30)
        self._interval_s += weight * (waited_s - self._interval_s)
        self._seen += 1
