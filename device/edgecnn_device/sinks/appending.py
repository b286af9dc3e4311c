"""Text files that only grow by whole lines and are set aside when they are full."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise, takewhile
from pathlib import Path

from edgecnn.errors import OutputError

_TAIL_BYTES = 2**20
_MOST_OLD_FILES = 1000
_DAY_S = 86400
_FEW_LINES = 20


class LineFile:
    """Appends lines to `path`, each with one call of the operating system: a crash costs at most the last line.

    When the file would exceed `max_bytes`, and at midnight, it becomes `path.1`, that one `path.2`, and so on. The oldest go
    when there are more than `keep` and more than `keep` full ones would take. A line that the disk took only in part is
    taken back, so the file is always made of whole lines.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        keep: int,
        header: bytes = b"",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Open or create the file; `header` begins every new one. OutputError when that is not possible.

        `wall_clock` gives the seconds since 1970, by which days end at local midnight.
        """
        self.path = path
        self.appended_bytes = 0
        self._max_bytes = max_bytes
        self._keep = keep
        self._header = header
        self._wall_clock = wall_clock
        self._descriptor = -1
        try:
            self._open()
        except OSError as error:
            raise OutputError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error

    def append(self, line: bytes) -> None:
        """Append one line, given with its line end. OSError when the disk is full or gone; the next line is tried anew."""
        if self._descriptor < 0:
            self._open()
        if self._size and (self._size + len(line) > self._max_bytes or self._is_past_midnight()):
            self._rotate()
        if self._size == 0:
            self._midnight_s = _next_midnight_s(self._wall_clock())
            if self._header:
                self._write(self._header)
        self._write(line)

    @property
    def capacity_bytes(self) -> int:
        """How many bytes this file and the old ones may have together."""
        return (1 + self._keep) * self._max_bytes

    def stored_bytes(self) -> int:
        """Return how many bytes this file and the old ones have now."""
        return self._size + sum(file.stat().st_size for file in self._old_files())

    def mean_line_bytes(self) -> float | None:
        """Return how long a line is on average at the end of the file, None while it has too few to tell."""
        tail = os.pread(self._descriptor, _TAIL_BYTES, max(0, self._size - _TAIL_BYTES))
        count = tail.count(b"\n")
        return len(tail) / count if count >= _FEW_LINES else None

    def close(self) -> None:
        """Flush to the disk and close."""
        if self._descriptor < 0:
            return
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = _end_of_last_line(self._descriptor)
        if self._size != os.fstat(self._descriptor).st_size:
            os.ftruncate(self._descriptor, self._size)
        # The day on which it was written last: a restart in the morning ends yesterday's file.
        self._midnight_s = _next_midnight_s(os.fstat(self._descriptor).st_mtime)

    def _write(self, line: bytes) -> None:
        written = 0
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, "no space left for a whole line")
        except OSError:
            if written:
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += written
        self.appended_bytes += written

    def _is_past_midnight(self) -> bool:
        now_s = self._wall_clock()
        if now_s < self._midnight_s - 2 * _DAY_S:  # a clock that was ahead, and is set back, has not ended its day
            self._midnight_s = _next_midnight_s(now_s)
        return now_s >= self._midnight_s

    def _rotate(self) -> None:
        self.close()
        files = [self.path, *self._old_files()]
        sizes = [file.stat().st_size for file in files]
        while len(files) > _MOST_OLD_FILES or (len(files) > self._keep and sum(sizes) > self._keep * self._max_bytes):
            files.pop().unlink()
            sizes.pop()
        for old, new in reversed(list(pairwise([*files, self._old_file(len(files))]))):
            old.replace(new)
        self._open()

    def _old_files(self) -> list[Path]:
        """Return those set aside up to the first gap, such as a kill in `_rotate` leaves; those behind it need not move."""
        numbered = (self._old_file(n) for n in range(1, _MOST_OLD_FILES + 1))
        return list(takewhile(Path.exists, numbered))

    def _old_file(self, n: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{n}")


def _end_of_last_line(descriptor: int) -> int:
    """Return the length of the file without a last line that a crash cut short."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    return size - (len(tail) - tail.rfind(b"\n") - 1)


def _next_midnight_s(now_s: float) -> float:
    """Return when the local day ends in which `now_s` lies; a day of the clock change has 23 or 25 hours."""
    day = datetime.fromtimestamp(now_s).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=1)).timestamp()
