"""A camera that is read in a process of its own, so that nothing it does can hold up the loop or the exit.

OpenCV's native reads cannot be interrupted: they block for as long as a server or driver is silent, then may return an old
frame as if it were new, and a thread inside one crashes the interpreter at its end. A process can be ended at any moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import CameraError
from edgecnn_device.sources.controls import NO_CONTROLS, CameraControls
from edgecnn_device.sources.decoder_log import LEVEL
from edgecnn_device.sources.live import Idle, Picture

# Message from the reader: kind, length of what follows in bytes, height, width, monotonic time.
HEADER = struct.Struct("<cQIId")
READY, OPENED, IDLE, DAMAGE, PICTURE, FAILED = b"R", b"O", b"I", b"D", b"P", b"E"
_START_S = 60.0  # importing OpenCV from a slow card
_PIPE_BYTES = 2**20
# OpenCV's own warnings would fill the journal for as long as a camera is away; the reason is reported anyway.
_QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": str(LEVEL)}
_F_SETPIPE_SZ = 1031


@dataclass(frozen=True)
class Request:
    """What the reader is to open, a device, a CSI camera or a stream, how long it may be silent, and what to set at it."""

    kind: Literal["v4l2", "csi", "stream"]
    target: str
    size_wh: tuple[int, int] | None = None
    fps: float | None = None
    open_timeout_s: float = 5.0
    read_timeout_s: float = 3.0
    controls: CameraControls = NO_CONTROLS

    def to_json(self) -> str:
        """Return the request as the reader's stdin gets it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Read what `to_json` wrote."""
        body = json.loads(text)
        size_wh = body["size_wh"] and (int(body["size_wh"][0]), int(body["size_wh"][1]))
        return cls(**(body | {"size_wh": size_wh, "controls": CameraControls(**body["controls"])}))


class ProcessCamera:
    """Starts the reader, receives its pictures, and ends it when it is silent for too long."""

    def __init__(self, name: str, request: Request) -> None:
        """Prepare; nothing is opened before `pictures()`."""
        self.name = name
        self._request = request
        self._process: subprocess.Popen[bytes] | None = None
        self._interrupted = False
        self._lock = threading.Lock()

    def pictures(self) -> Iterator[Picture | Idle]:
        """Start a reader and yield what it reads. CameraError when it fails, ends or is silent."""
        process = self._start()
        try:
            yield from self._received(process)
        finally:
            _end(process)

    def interrupt(self) -> None:
        """End the reader at once; `pictures()` then fails."""
        with self._lock:
            self._interrupted = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._interrupted:
                raise CameraError("interrupted")
            # -P: never import from the current folder.
            command = [sys.executable, "-P", "-m", "edgecnn_device.sources.reader"]
            try:
                with _interrupts_held_back():
                    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_QUIET | os.environ)
            except OSError as error:  # no memory, no descriptors, no processes: that may pass, as a camera may come back
                raise CameraError(f"the reader process cannot be started: {error}") from error
            self._process = process
        assert process.stdin is not None
        try:
            # By stdin, since everybody can read a command line and the address may hold a password.
            process.stdin.write(self._request.to_json().encode())
            process.stdin.close()
        except OSError as error:
            _end(process)
            raise CameraError(f"the reader process did not start: {error}") from error
        return process

    def _received(self, process: subprocess.Popen[bytes]) -> Iterator[Picture | Idle]:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        _enlarge(pipe)
        request = self._request
        waiting_s, doing, damage = _START_S, "start", ""
        while True:
            kind, data, shape_hw, at_s = _receive(pipe, waiting_s, doing)
            match kind:
                case b"R":
                    waiting_s, doing = request.open_timeout_s, "open"
                case b"O":
                    waiting_s, doing = request.read_timeout_s, "read"
                case b"I":
                    yield Idle(data.tobytes().decode("utf-8", "replace"))
                case b"D":
                    damage = data.tobytes().decode("utf-8", "replace")
                case b"P":
                    yield Picture(data.reshape(*shape_hw, 3), at_s, damage=damage)
                    damage = ""
                case _:
                    raise CameraError(data.tobytes().decode("utf-8", "replace"))


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let a child that is started within never see a Ctrl-C, which reaches the whole group: we end it, and it says nothing.

    A child has the mask of the thread that starts it, from its first instruction on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _receive(pipe: int, timeout_s: float, doing: str) -> tuple[bytes, NDArray[np.uint8], tuple[int, int], float]:
    deadline_s = time.monotonic() + timeout_s
    complaint = f"nothing to {doing} for {timeout_s:g} s"
    header = np.empty(HEADER.size, np.uint8)
    _fill(pipe, header.data, deadline_s, complaint)
    kind, length, height, width, at_s = HEADER.unpack(header.data)
    data = np.empty(length, np.uint8)
    _fill(pipe, data.data, deadline_s, complaint)
    return kind, data, (height, width), at_s


def _fill(pipe: int, view: memoryview, deadline_s: float, complaint: str) -> None:
    at = 0
    while at < len(view):
        readable, _, _ = select.select([pipe], [], [], max(0.0, deadline_s - time.monotonic()))
        if not readable:
            raise CameraError(complaint)
        count = os.readv(pipe, [view[at:]])
        if count == 0:
            raise CameraError("the reader process ended")
        at += count


def _enlarge(pipe: int) -> None:
    import fcntl

    # Beyond a limit of this system it stays at 64 KiB, which only costs more calls.
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            pipe.close()
