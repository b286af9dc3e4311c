"""Recognises frames that are old although they were only just read."""

from __future__ import annotations

_MIN_GAP_S, _GAP_INTERVALS = 0.5, 5.0
_WAITED_PART = 0.3
_USUAL_INTERVAL_S = 1 / 30
_WAITS_IN_A_ROW = 2
_MOST_DRAINED = 150


class Backlog:
    """Tells by the time that each read took which frames had been lying in a buffer.

    FFmpeg collects up to a second of frames while it opens a stream, and after a stall a server or the network delivers at
    once what it held back. OpenCV returns all of them one by one as if they were new. Such frames come without waiting; when
    two in a row had to be waited for, the second is fresh (a single wait may be a busy processor's, or a decoder's that gives
    the frame before).
    """

    def __init__(self) -> None:
        """Begin with a source that was just opened, whose rhythm is not known."""
        self._interval_s = _USUAL_INTERVAL_S
        self._seen = 0
        self._draining = True
        self._drained = 0
        self._waits: list[float] = []

    def is_old(self, waited_s: float) -> bool:
        """Judge a frame whose read blocked for `waited_s` seconds."""
        if self._draining:
            self._drain(waited_s)
        elif waited_s > max(_MIN_GAP_S, _GAP_INTERVALS * self._interval_s):
            self._draining, self._drained = True, 0
            self._waits.clear()
        else:
            self._learn(waited_s)
        return self._draining

    def _drain(self, waited_s: float) -> None:
        self._drained += 1
        if waited_s < _WAITED_PART * self._interval_s:
            self._waits.clear()
        else:
            self._waits.append(waited_s)
        if len(self._waits) == _WAITS_IN_A_ROW:
            self._draining = False
            self._learn(min(self._waits))
        elif self._drained == _MOST_DRAINED:  # a source that never lets us wait is read as it comes
            self._draining = False

    def _learn(self, waited_s: float) -> None:
        self._seen += 1
        self._interval_s += (waited_s - self._interval_s) / min(self._seen, 30)
