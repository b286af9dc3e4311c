"""An annotated video that plays as fast as the camera saw it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from edgecnn.errors import InputError, OutputError
from edgecnn_device.annotate import annotate, draw_placard
from edgecnn_device.frames import Image, Observation
from edgecnn_device.sinks.timeline import Timeline

# MPEG-4 Part 2: a seventh of Motion JPEG's bytes, half of its processor time, and a frame that repeats costs next to nothing.
_CODECS = {".avi": "XVID", ".mkv": "XVID", ".mp4": "mp4v"}
# Where in a file which bytes tell its form.
_MARKS = {".avi": (0, b"RIFF"), ".mkv": (0, b"\x1a\x45\xdf\xa3"), ".mp4": (4, b"ftyp")}
_MIN_FREE_BYTES = 2**20
_RATES_FPS = (0.1, 1000.0)
_PAUSE_S, _HOUR_S = 10.0, 3600.0
_PARTS = 8  # of the bound: a file that is this large is followed by another, so that what goes is never the whole history
_LOOK_EVERY = 100


@dataclass(frozen=True)
class VideoOptions:
    """The file, how many frames a second it has at most, and how many bytes all files of an endless source have together.

    Without `fps`, a camera is recorded at ten frames a second or fewer, and every frame of a file is.
    """

    path: Path
    fps: float | None = None
    max_bytes: int | None = None


class VideoSink:
    """Writes observed frames with their boxes and labels, each for as long as it lasted: playing takes as long as recording.

    The video has a constant rate. A frame is repeated until the next one's time has come; where frames come faster than
    the rate of a camera's video, the newest of each period stands in it. A camera that is lost is a placard with its reason.

    A source that does not end has a file an hour, `NAME-20261128T101500Z.avi` by the UTC time of its start, and a new one
    after a pause of ten seconds, such as --on-motion makes; the oldest go. AVI and MKV can be played up to the last half
    megabyte after a crash, MP4 only when it was closed.
    """

    name = "video"

    def __init__(
        self,
        options: VideoOptions,
        *,
        live: bool,
        fps: float,
        endless: bool = True,
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to record a source of `fps` frames a second of which one is observed every `interval_s`, if that is known.

        The file is begun with the first frame. Raises what `check_video` raises.
        """
        check_video(options, endless=endless)
        path = options.path
        self._path = path
        self._endless = endless
        self._ring = _Ring(path, options.max_bytes or 2_000_000_000) if endless else None
        self._drops = live or options.fps is not None
        self._fps = _rate(options.fps or (min(10.0, fps) if live else fps), interval_s if live else None)
        self._pause_s = max(_PAUSE_S, 2 * (interval_s or 0.0))
        self._timeline = Timeline(live=live, fps=fps, clock=clock)
        self._wall_clock = wall_clock
        self._clip: _Clip | None = None
        self._last_s = 0.0
        self._hour = 0

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def write(self, observation: Observation) -> None:
        """Show one frame, or why there is none, from its time on."""
        now_s = self._timeline.at(observation)
        # OpenCV's writer says nothing when it can no longer write.
        if shutil.disk_usage(self._path.parent).free < _MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, "no space left for the video")
        if self._clip is not None and self._is_over(now_s):
            self._end()
        self._last_s = now_s
        image = annotate(observation)
        if image is None and self._clip is not None:
            image = draw_placard(observation.state, self._clip.size_wh)
        if image is None:
            return
        if self._clip is None:
            self._clip = self._begin(image, now_s)
        self._clip.show(image, now_s)

    def _is_over(self, now_s: float) -> bool:
        assert self._clip is not None
        if self._ring is None:
            return False
        return (
            now_s - self._last_s > self._pause_s
            or int(self._wall_clock() // _HOUR_S) != self._hour
            or self._clip.bytes() > self._ring.part_bytes
        )

    def _begin(self, image: Image, now_s: float) -> _Clip:
        wall_s = self._wall_clock()
        self._hour = int(wall_s // _HOUR_S)
        path = self._path if self._ring is None else self._ring.next_path(wall_s)
        lock = _take(path)
        try:
            return _Clip(path, lock, image, now_s, self._fps, drops=self._drops)
        except OutputError:
            os.close(lock)
            path.unlink()
            raise

    def _end(self) -> None:
        if self._clip is not None:
            self._clip.close()
            self._clip = None


def check_video(options: VideoOptions, *, endless: bool, source: Path | None = None) -> None:
    """Raise InputError for a suffix that stands for no known form, and for a bound where there is no end to bound.

    OutputError where there is no folder, for a source that ends when there is something of this name already, and for an
    endless one that is played from `source` when that would be removed in its turn.
    """
    path = options.path
    if path.suffix.lower() not in _CODECS:
        raise InputError(f"--video {path}: use a name that ends in {', '.join(_CODECS)}")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: no such folder")
    if not endless and os.path.lexists(path):
        raise _taken(path)
    if not endless and options.max_bytes is not None:
        raise InputError("--video-mb is for cameras: the video of a file is as long as the file")
    if endless and source is not None and _Ring(path, 0).has(source):
        raise OutputError(
            f"cannot write {path}: {source} would be one of its files, the oldest of which are removed; give another name"
        )


def _take(path: Path) -> int:
    """Create a file that is not there: OpenCV's writer would overwrite what somebody has put there meanwhile.

    Return a descriptor whose lock tells others, for as long as it is open, that the file is being written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError as error:
        raise _taken(path) from error
    with contextlib.suppress(OSError):  # a file system of a network that has no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _taken(path: Path) -> OutputError:
    return OutputError(f"cannot write {path}: it exists already; give another name, or remove it")


class _Clip:
    """One file: pictures are put into the slots of its constant rate."""

    def __init__(self, path: Path, lock: int, image: Image, begun_s: float, fps: float, *, drops: bool) -> None:
        """Begin a file of the size of `image` at `begun_s`; where it `drops`, a slot shows the newest of its pictures.

        The descriptor `lock` is closed with the file.
        """
        # Codecs with halved colour want even sides.
        self.size_wh = (max(2, image.shape[1] // 2 * 2), max(2, image.shape[0] // 2 * 2))
        self._path, self._lock = path, lock
        self._begun_s = begun_s
        self._fps = fps
        self._drops = drops
        self._written = 0
        self._shown: Image | None = None
        self._bytes = 0
        codec = cv2.VideoWriter.fourcc(*_CODECS[path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(path), codec, fps, self.size_wh)
        if not self._writer.isOpened():
            raise OutputError(f"cannot write the video {path}")

    def show(self, image: Image, now_s: float) -> None:
        """Show a picture from `now_s` on."""
        slot = int((now_s - self._begun_s) * self._fps + 0.5)
        if self._shown is not None:
            self._fill(slot if self._drops else max(slot, self._written + 1))
        self._shown = _fitted(image, self.size_wh)

    def bytes(self) -> int:
        """Return about how large the file is."""
        if self._written % _LOOK_EVERY == 0 and self._path.exists():
            self._bytes = self._path.stat().st_size
        return self._bytes

    def close(self) -> None:
        """Show the last picture for one slot, and end the file."""
        self._fill(self._written + 1)
        self._writer.release()
        os.close(self._lock)

    def _fill(self, slot: int) -> None:
        """Repeat what is shown in all slots before this one."""
        while self._written < slot and self._shown is not None:
            self._writer.write(self._shown)
            self._written += 1


class _Ring:
    """The files of a source that does not end: each has the time of its start in its name, and the oldest go."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Name files after `path`; together they have `max_bytes`."""
        self.part_bytes = max_bytes // _PARTS
        self._max_bytes = max_bytes
        self._path = path
        stem, suffix = re.escape(path.stem), re.escape(path.suffix)
        self._ours = re.compile(rf"{stem}-(\d{{8}}T\d{{6}}Z)(?:-(\d+))?{suffix}")

    def next_path(self, wall_s: float) -> Path:
        """Return a name that no file has, after making room for it."""
        self._make_room()
        stamp = datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        again = 0
        while (
            path := self._path.with_name(f"{self._path.stem}-{stamp}{f'-{again}' if again else ''}{self._path.suffix}")
        ).exists():
            again += 1
        return path

    def has(self, file: Path) -> bool:
        """Tell whether a file is counted among these, and removed when it is the oldest."""
        there = file.resolve()
        return there.parent == self._path.parent.resolve() and self._ours.fullmatch(there.name) is not None

    def _make_room(self) -> None:
        found = [
            (match[1], int(match[2] or 0), file)
            for file in self._path.parent.iterdir()
            if (match := self._ours.fullmatch(file.name)) and _is_video(file)
        ]
        sizes = [(file, file.stat().st_size) for *_, file in sorted(found)]
        total = sum(size for _, size in sizes)
        for file, size in sizes:
            if total <= self._max_bytes - self.part_bytes:
                return
            if not _is_being_written(file):
                file.unlink()
                total -= size


def _is_video(file: Path) -> bool:
    """Tell whether a file begins as its suffix says, or is one of which nothing was written before a crash."""
    if file.is_symlink() or not file.is_file():
        return False
    at, mark = _MARKS[file.suffix.lower()]
    with file.open("rb") as opened:
        head = opened.read(at + len(mark))
    return not head or head[at:] == mark


def _is_being_written(file: Path) -> bool:
    """Tell whether another camera, which was given the same name, is writing a file."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks here
        return False
    finally:
        os.close(descriptor)
    return False


def _rate(fps: float, interval_s: float | None) -> float:
    """Return a rate that OpenCV can write; what is seen every ten seconds needs no ten frames a second."""
    lowest, highest = _RATES_FPS
    wanted = fps if interval_s is None else min(fps, 2 / interval_s)
    return min(max(wanted, lowest), highest)


def _fitted(image: Image, size_wh: tuple[int, int]) -> Image:
    """Return the picture scaled into `size_wh` with its aspect kept, on black."""
    width, height = size_wh
    if image.shape[1::-1] == size_wh:
        return image
    scale = min(width / image.shape[1], height / image.shape[0])
    inner_wh = max(1, min(width, round(image.shape[1] * scale))), max(1, min(height, round(image.shape[0] * scale)))
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner_wh[0]) // 2, (height - inner_wh[1]) // 2
    canvas[top : top + inner_wh[1], left : left + inner_wh[0]] = cv2.resize(image, inner_wh)
    return canvas
