"""Text files that only grow by whole lines and are set aside when they are full."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from edgecnn.errors import OutputError

_JSON_LINE = re.compile(rb"\{[^\n]*\}\n")
_TAIL_BYTES = 2**20
_HEAD_BYTES = 2**12
_MOST_OLD_FILES = 1000
_DAY_S = 86400
_FEW_LINES = 20
_WAIT_S, _TRY_EVERY_S = 0.25, 0.001
_TRIES = 5


class LineFile:
    """Appends lines to `path`, each with one call of the operating system: a crash costs at most the last line.

    When the file would exceed `max_bytes`, and at midnight, it becomes `path.1`, that one `path.2`, and so on. The oldest go
    when there are more than `keep` and more than `keep` full ones would take. A line that the disk took only in part is
    taken back, so the file is always made of whole lines.

    Several may append to one path, in any processes: each line is written under a lock (`flock`), and what the file is by then
    is asked again, also because it may have been moved, removed or cut. Files that somebody else has begun are left alone.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        keep: int,
        header: bytes = b"",
        ours: re.Pattern[bytes] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Open or create the file; `header` begins every new one. OutputError when that is not possible.

        `ours` matches the beginning of the files that may be gone on with, set aside and removed; without it, of those that
        begin with `header`, or with a line of JSON where there is no header. `wall_clock` gives the seconds since 1970, by
        which days end at local midnight.
        """
        self.path = path
        self._path = str(path)
        self.appended_bytes = 0
        self._max_bytes = max_bytes
        self._keep = keep
        self._header = header
        self._ours = ours or (re.compile(re.escape(header)) if header else _JSON_LINE)
        self._wall_clock = wall_clock
        self._descriptor = -1
        self._size = -1
        self._is_outdated = False
        check_line_file(path, self._ours)
        try:
            self._hold()
            self._release()
        except OSError as error:
            raise _refusal(path, error) from error

    def append(self, line: bytes) -> None:
        """Append one line, given with its line end. OSError when the disk is full or gone; the next line is tried again."""
        self._hold()
        try:
            if self._size and (self._size + len(line) > self._max_bytes or self._is_outdated or self._is_past_midnight()):
                self._rotate()
            if self._size == 0:
                self._midnight_s = _next_midnight_s(self._wall_clock())
                if self._header:
                    self._write(self._header)
            self._write(line)
        finally:
            self._release()

    @property
    def capacity_bytes(self) -> int:
        """How many bytes this file and the old ones may have together."""
        return (1 + self._keep) * self._max_bytes

    def stored_bytes(self) -> int:
        """Return how many bytes this file and the old ones have now."""
        return max(0, self._size) + sum(file.stat().st_size for file in self._old_files()[0])

    def mean_line_bytes(self) -> float | None:
        """Return how long a line is on average at the end of the file, None while it has too few to tell."""
        if self._descriptor < 0:
            return None
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
            self._leave()

    def _hold(self) -> None:
        """Have the file that is at `path` now open, locked and known, until `_release`."""
        for _ in range(_TRIES):
            if self._descriptor < 0:
                self._open()
            _lock(self._descriptor)
            size = _size_at(self._path, self._identity)
            if size is not None:
                break
            self._leave()  # moved or removed, by logrotate or by another camera that has set it aside
        else:
            raise OSError(errno.EBUSY, "it is moved or removed again and again")
        try:
            if size != self._size:
                self._look_again(size)
        except OSError:
            self._release()
            raise

    def _release(self) -> None:
        if self._descriptor >= 0:
            _unlock(self._descriptor)

    def _open(self) -> None:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        self._size = -1
        status = os.fstat(self._descriptor)
        self._identity = status.st_dev, status.st_ino
        # The day on which it was written last: a restart in the morning ends yesterday's file.
        self._midnight_s = _next_midnight_s(status.st_mtime)

    def _leave(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def _look_again(self, size: int) -> None:
        """Learn what others, or a crash, have made of the file, now of `size` bytes; a last line that was cut short goes."""
        _check_ours(self._descriptor, self._ours)
        self._size = _end_of_last_line(self._descriptor)
        # That of another version ends before the next line.
        self._is_outdated = self._size > 0 and not _head(self._descriptor).startswith(self._header)
        if self._size < size:
            os.ftruncate(self._descriptor, self._size)

    def _write(self, line: bytes) -> None:
        written = 0
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, "no space left for a whole line")
        except OSError:
            if written:  # from the end that there is now: somebody may have cut the file meanwhile
                os.ftruncate(self._descriptor, max(0, os.fstat(self._descriptor).st_size - written))
            raise
        self._size += written
        self.appended_bytes += written

    def _is_past_midnight(self) -> bool:
        now_s = self._wall_clock()
        if now_s < self._midnight_s - 2 * _DAY_S:  # a clock that was ahead, and is set back, has not ended its day
            self._midnight_s = _next_midnight_s(now_s)
        return now_s >= self._midnight_s

    def _rotate(self) -> None:
        os.fsync(self._descriptor)
        old, free = self._old_files()
        files = [self.path, *old]
        sizes = [file.stat().st_size for file in files]
        while len(files) > _MOST_OLD_FILES or (len(files) > self._keep and sum(sizes) > self._keep * self._max_bytes):
            files.pop().unlink()
            sizes.pop()
        for file, place in reversed(list(zip(files, [*old, free], strict=False))):
            file.replace(place)
        self._leave()
        self._hold()

    def _old_files(self) -> tuple[list[Path], Path]:
        """Return those set aside up to the first gap, such as a kill in `_rotate` leaves, and the gap.

        Those behind it need not move. Somebody else's file of such a name is passed over.
        """
        files: list[Path] = []
        for n in range(1, _MOST_OLD_FILES + 1):
            file = self._old_file(n)
            if not os.path.lexists(file):
                return files, file
            if _is_ours(file, self._ours):
                files.append(file)
        return files, self._old_file(_MOST_OLD_FILES + 1)

    def _old_file(self, n: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{n}")


def check_line_file(path: Path, ours: re.Pattern[bytes]) -> None:
    """Raise OutputError when there is something at `path` that `LineFile` does not append to; `ours` is as there."""
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it exists and is not a regular file")
        if path.exists():
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                _check_ours(descriptor, ours)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {(error.strerror or str(error)).lower()}")


def _is_ours(path: Path, ours: re.Pattern[bytes]) -> bool:
    try:
        check_line_file(path, ours)
    except OutputError:
        return False
    return path.is_file()


def _check_ours(descriptor: int, ours: re.Pattern[bytes]) -> None:
    """Raise OSError unless the file is empty, of the zeros that some file systems leave after a power cut, or begun by us."""
    head, status = _head(descriptor), os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it exists and is not a regular file")
    is_blank = status.st_size <= _HEAD_BYTES and not head.strip(b"\0")
    if not is_blank and not ours.match(head):
        raise OSError(errno.EEXIST, "it exists and edgecnn has not begun it; choose another name, or move it away")


def _head(descriptor: int) -> bytes:
    return os.pread(descriptor, _HEAD_BYTES, 0)


def _end_of_last_line(descriptor: int) -> int:
    """Return the length of the file without a last line that a crash cut short."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    return size - (len(tail) - tail.rfind(b"\n") - 1)


def _size_at(path: str, identity: tuple[int, int]) -> int | None:
    """Return the size in bytes of what is at `path`, None when that is not the file of this device and inode."""
    try:
        there = os.stat(path)  # noqa: PTH116  # each line asks, and Path.stat takes twice as long
    except FileNotFoundError:
        return None
    return there.st_size if (there.st_dev, there.st_ino) == identity else None


def _lock(descriptor: int) -> None:
    """Wait for the file to be nobody else's for the moment; OSError when that takes longer than a camera can wait.

    File systems that know no locks are written to without.
    """
    until_s: float | None = None
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            now_s = time.monotonic()
            until_s = now_s + _WAIT_S if until_s is None else until_s
            if now_s >= until_s:
                raise OSError(errno.EAGAIN, "another program keeps it locked") from error
            time.sleep(_TRY_EVERY_S)
        except OSError:
            return
        else:
            return


def _unlock(descriptor: int) -> None:
    try:  # noqa: SIM105  # suppress() takes longer than the call
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except OSError:
        pass


def _next_midnight_s(now_s: float) -> float:
    """Return when the local day ends in which `now_s` lies; a day of the clock change has 23 or 25 hours."""
    day = datetime.fromtimestamp(now_s).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=1)).timestamp()
