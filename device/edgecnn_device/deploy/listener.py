"""The board's half listens to the cameras that run a model file: what each runs, and what it answers."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgecnn_device.frames import Image
from edgecnn_device.tap import SOCKET, Wanted, socket_address

_MOST_LINE, _MOST_PICTURES = 2**20, 2**28
_SERVICE_USER = "edgecnn"


@dataclass(frozen=True, eq=False)
class Seen:
    """What a camera made of one frame: its model's digest, the state, milliseconds of work, verdict and class of each region.

    `work_ms` are by the clock, `cpu_ms` those of them that its thread had the processor.
    `counts` says of each answer whether it is one to another picture than those before. `pictures` are what was asked for,
    one for each answer: inputs `(height, width, channels)`, or views.
    """

    digest: str
    state: str
    reason: str
    work_ms: float
    cpu_ms: float
    answers: tuple[tuple[str, str], ...]
    counts: tuple[bool, ...]
    pictures: tuple[Image, ...] = ()


@dataclass(eq=False)
class Camera:
    """A running camera: its process and what it said of itself; `heard_s` is when it was last heard of."""

    pid: int
    heard_s: float
    digest: str = ""
    refusals: int = 0
    warning: str = ""
    is_connected: bool = True


@dataclass(eq=False)
class _Link:
    """A connection, and what came of it that is not whole yet."""

    socket: socket.socket
    data: bytearray = field(default_factory=bytearray)
    camera: Camera | None = None


class Listener:
    """Listens in the folder of a store, which the caller has the lock of. `cameras` are by process id."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Bind nothing yet."""
        self.cameras: dict[int, Camera] = {}
        self._folder = folder
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._links: dict[int, _Link] = {}
        self._wanted: Wanted = "answers"

    def __enter__(self) -> Listener:
        self.began_s = self._clock()
        (self._folder / SOCKET).unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        with socket_address(self._folder) as address:
            self._socket.bind(address)
        # The service may be another user; who connects is looked at then.
        (self._folder / SOCKET).chmod(0o666)
        self._socket.listen(8)
        self._selector.register(self._socket, selectors.EVENT_READ)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            (self._folder / SOCKET).unlink()
        for link in self._links.values():
            link.socket.close()
        self._selector.close()
        self._socket.close()

    @property
    def running(self) -> list[Camera]:
        """The cameras that are connected and have said what they run."""
        return [camera for camera in self.cameras.values() if camera.is_connected]

    def want(self, wanted: Wanted) -> None:
        """Ask the cameras, those of now and later ones, for their answers alone or for pictures as well."""
        self._wanted = wanted
        for link in self._links.values():
            self._ask(link)

    def hear(self, wait_s: float) -> list[Seen]:
        """Return what was seen, after at most `wait_s` seconds."""
        seen: list[Seen] = []
        for key, _ in self._selector.select(wait_s):
            if key.fileobj is self._socket:
                self._accept()
            else:
                seen += self._receive(self._links[key.fd])
        return seen

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._socket.accept()
            if _peer(connection) not in _trusted_users(self._folder):
                connection.close()
                return
            connection.setblocking(False)
            link = self._links[connection.fileno()] = _Link(connection)
            self._selector.register(connection, selectors.EVENT_READ)
            self._ask(link)

    def _ask(self, link: _Link) -> None:
        with contextlib.suppress(OSError):
            link.socket.send(f"{self._wanted}\n".encode())

    def _receive(self, link: _Link) -> list[Seen]:
        try:
            data = link.socket.recv(2**20)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        link.data += data
        if not data or len(link.data) > _MOST_PICTURES:
            self._close(link)
            return []
        try:
            return list(self._messages(link))
        except (ValueError, KeyError, TypeError):  # of another version of edgecnn
            self._close(link)
            return []

    def _messages(self, link: _Link) -> Iterator[Seen]:
        while (body := _take(link.data)) is not None:
            if body["kind"] == "beat":
                self._beat(link, body)
            elif link.camera is not None:
                link.camera.heard_s = self._clock()
                answers = tuple((str(verdict), str(label)) for verdict, label in body["answers"])
                work_ms, cpu_ms = float(body["work_ms"]), float(body["cpu_ms"])
                counts = tuple(bool(each) for each, _ in zip(body["counts"], answers, strict=True))
                pictures = tuple(body["pictures"])
                yield Seen(body["digest"], body["state"], body["reason"], work_ms, cpu_ms, answers, counts, pictures)

    def _beat(self, link: _Link, body: dict[str, Any]) -> None:
        pid = int(body["pid"])
        camera = self.cameras.setdefault(pid, Camera(pid, self._clock()))
        link.camera, camera.is_connected, camera.heard_s = camera, True, self._clock()
        camera.digest, camera.refusals, camera.warning = body["digest"], int(body["refusals"]), body["warning"]

    def _close(self, link: _Link) -> None:
        self._selector.unregister(link.socket)
        del self._links[link.socket.fileno()]
        link.socket.close()
        if link.camera is not None:
            link.camera.is_connected = False


def _take(data: bytearray) -> dict[str, Any] | None:
    """Take the first message off `data`, None when it is not whole."""
    end = data.find(b"\n", 0, _MOST_LINE)
    if end < 0:
        return None
    body: dict[str, Any] = json.loads(data[:end])
    shapes = [tuple(shape) for shape in body.get("pictures", ())]
    sizes = [int(np.prod(shape)) for shape in shapes]
    if len(data) < end + 1 + sum(sizes):
        return None
    start, pictures = end + 1, []
    for shape, size in zip(shapes, sizes, strict=True):
        pictures.append(np.frombuffer(bytes(data[start : start + size]), np.uint8).reshape(shape))
        start += size
    del data[:start]
    return body | {"pictures": pictures}


def _peer(connection: socket.socket) -> int:
    """Return the user id of the process at the other end (SO_PEERCRED of unix(7))."""
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)


def _trusted_users(folder: Path) -> set[int]:
    users = {0, os.getuid(), folder.parent.stat().st_uid}
    with contextlib.suppress(KeyError):
        users.add(pwd.getpwnam(_SERVICE_USER).pw_uid)
    return users
