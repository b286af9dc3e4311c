"""Lets a deployment on this board listen to a running camera: what it runs, what it answers, and on demand its pictures.

Beside a model file that is deployed to there is a folder (`versions_folder`), and in it, for as long as somebody listens, a
Unix socket. The camera connects to it and never waits for it: what the socket does not take at once is left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from edgecnn_device.distinct import DistinctAnswers
from edgecnn_device.frames import Image, Observation, RegionPrediction
from edgecnn_device.model import ModelSlot

if TYPE_CHECKING:  # most cameras have nobody to tell
    import socket

Wanted = Literal["answers", "inputs", "views"]
SOCKET = "tap.sock"
BEAT_S = 1.0
_ROOM_BYTES = 2**22  # a few pictures; the kernel grants what it is allowed to


def versions_folder(model: Path) -> Path:
    """Return the folder of what was deployed to the file `model`."""
    return model.with_name(f"{model.name}.versions")


@contextlib.contextmanager
def socket_address(folder: Path) -> Iterator[str]:
    """Give the socket's address, which stays below the 108 bytes of unix(7) however long the folder's path is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)


class Tap:
    """A sink that tells whoever listens; `beat` tells between frames that the camera is alive, and of its model.

    Of each answer it tells whether it counts, by what `distinct` says of those that are told.
    """

    name = "tap"

    def __init__(self, slot: ModelSlot, distinct: DistinctAnswers, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Tell of the model in `slot`."""
        self._slot, self._distinct, self._digest = slot, distinct, ""
        self._folder = versions_folder(slot.path)
        self._clock = clock
        self._due_s = clock()
        self._socket: socket.socket | None = None
        self._waiting = b""
        self._asked = b""
        self._wanted: Wanted = "answers"

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def beat(self) -> None:
        """Look once a second whether somebody listens, and tell what runs."""
        now_s = self._clock()
        if now_s < self._due_s:
            return
        self._due_s = now_s + BEAT_S
        if self._socket is None:
            self._socket = self._connect()
        if self._socket is not None:
            running = self._slot.current
            body = {"digest": running.digest, "refusals": self._slot.refusals, "warning": self._slot.warning}
            self._tell({"kind": "beat", "pid": os.getpid(), **body})
            self._hear()

    def write(self, observation: Observation) -> None:
        """Tell what was seen, unless nobody listens or the listener is behind."""
        self._send()
        if self._socket is None or self._waiting:
            return
        digest = self._slot.current.digest
        if digest != self._digest:  # both models are to have seen the same
            self._digest = digest
            self._distinct.forget()
        work_ms = sum(observation.latency_ms.get(stage, 0.0) for stage in ("preprocess", "invoke"))
        pictures = [] if self._wanted == "answers" else [_picture(region, self._wanted) for region in observation.predictions]
        body = {
            "kind": "seen",
            "digest": digest,
            "state": observation.state.name,
            "reason": observation.state.reason,
            "work_ms": round(work_ms, 3),
            "cpu_ms": round(observation.cpu_ms, 3),
            "answers": [_answer(region, self._slot) for region in observation.predictions],
            "counts": self._distinct.counts(observation),
            "pictures": [list(picture.shape) for picture in pictures],
        }
        self._tell(body, *(picture.tobytes() for picture in pictures))

    def _connect(self) -> socket.socket | None:
        if not (self._folder / SOCKET).exists():
            return None
        import socket

        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        found.setblocking(False)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_BYTES)
        try:
            with socket_address(self._folder) as address:
                found.connect(address)
        except OSError:  # what is left of a listener that was killed
            found.close()
            return None
        self._waiting, self._asked, self._wanted, self._digest = b"", b"", "answers", ""
        return found

    def _tell(self, body: dict[str, Any], *pictures: bytes) -> None:
        self._send()
        if not self._waiting:
            self._waiting = b"".join([json.dumps(body).encode(), b"\n", *pictures])
            self._send()

    def _send(self) -> None:
        while self._waiting and self._socket is not None:
            try:
                self._waiting = self._waiting[self._socket.send(self._waiting) :]
            except BlockingIOError:
                return
            except OSError:
                self._leave()

    def _hear(self) -> None:
        """Take what the listener asks for: one word on a line."""
        if self._socket is None:
            return
        try:
            heard = self._socket.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if not heard:
            self._leave()
        *lines, self._asked = (self._asked + heard)[-4096:].split(b"\n")
        for line in lines:
            self._wanted = "inputs" if line == b"inputs" else "views" if line == b"views" else "answers"
            if self._wanted != "answers":  # what counted until now was seen by one model alone
                self._distinct.forget()

    def _leave(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._waiting = None, b""


def _picture(region: RegionPrediction, wanted: Wanted) -> Image:
    return region.input if wanted == "inputs" else region.region.view


def _answer(region: RegionPrediction, slot: ModelSlot) -> tuple[str, str]:
    """Return the verdict and the label that is most probable, be it given or not."""
    return region.raw.verdict, slot.current.classifier.labels[region.raw.class_id]
