"""Whether anybody still reads what is written into a pipe: `edgecnn camera ... | head -1` is to end with its reader."""

from __future__ import annotations

import io
import os
import select
import stat
import time
from collections.abc import Callable
from typing import TextIO

_LOOK_EVERY_S = 0.5


class PipeWatch:
    """Looks twice a second at the other end of a stream that is a pipe; any other stream is never closed.

    Writing would tell too, but a camera that sees nothing new may write nothing for a long time.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch `stream`."""
        self._poll = _poll_pipe(stream)
        self._clock = clock
        self._due_s = clock()

    def is_closed(self) -> bool:
        """Tell whether the reader has gone."""
        if self._poll is None or self._clock() < self._due_s:
            return False
        self._due_s = self._clock() + _LOOK_EVERY_S
        return bool(self._poll.poll(0))


def _poll_pipe(stream: TextIO) -> select.poll | None:
    try:
        descriptor = stream.fileno()
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return None
    except (OSError, io.UnsupportedOperation, ValueError):  # a stream in memory, or one that was closed at the start
        return None
    poll = select.poll()
    poll.register(descriptor, 0)  # errors are reported whether asked for or not
    return poll
