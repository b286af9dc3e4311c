"""Text files that only grow by whole lines and are set aside when they are full."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path

from edgecnn.errors import OutputError

_TAIL_BYTES = 2**20


class LineFile:
    """Appends lines to `path`, each with one call of the operating system: a crash costs at most the last line.

    When the file would exceed `max_bytes` it becomes `path.1`, that one `path.2`, up to `keep` old files. A line that the
    disk took only in part is taken back, so the file is always made of whole lines.
    """

    def __init__(self, path: Path, *, max_bytes: int, keep: int, header: bytes = b"") -> None:
        """Open or create the file; `header` begins every new one. OutputError when that is not possible."""
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._header = header
        self._descriptor = -1
        try:
            self._open()
        except OSError as error:
            raise OutputError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error

    def append(self, line: bytes) -> None:
        """Append one line, given with its line end. OSError when the disk is full or gone; the next line is tried anew."""
        if self._descriptor < 0:
            self._open()
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        if self._size == 0 and self._header:
            self._write(self._header)
        self._write(line)

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
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size = _end_of_last_line(self._descriptor)
        if self._size != os.fstat(self._descriptor).st_size:
            os.ftruncate(self._descriptor, self._size)

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

    def _rotate(self) -> None:
        self.close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._keep + 1))]
        # Up to the first gap, such as a kill in the middle of this leaves: what stands behind it need not move, nor go.
        end = next((n for n, name in enumerate(names) if not name.exists()), self._keep)
        for old, new in reversed(list(pairwise(names[: end + 1]))):
            old.replace(new)
        self._open()


def _end_of_last_line(descriptor: int) -> int:
    """Return the length of the file without a last line that a crash cut short."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    return size - (len(tail) - tail.rfind(b"\n") - 1)
