"""A real MJPEG-over-HTTP camera that can die, hang, stall, repeat itself and come back."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Mood = Literal["well", "hang", "freeze", "black"]
_HEAD = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def draw_time(seconds: float, size_wh: tuple[int, int] = (320, 240)) -> NDArray[np.uint8]:
    """Draw a picture that shows a time as 40 black and white squares: milliseconds in binary, over a checkered ground."""
    width, height = size_wh
    image = np.full((height, width, 3), 128, np.uint8)
    image[::16] = 60
    bits = int(seconds * 1000) & (2**40 - 1)
    for bit in range(40):
        row, column = divmod(bit, 20)
        image[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 255 if bits >> bit & 1 else 0
    return image


def read_time(image_bgr: NDArray[np.uint8]) -> float:
    """Read the time that `draw_time` drew, in seconds."""
    bits = 0
    for bit in range(40):
        row, column = divmod(bit, 20)
        bits |= int(image_bgr[row * 16 + 8, column * 16 + 8, 1] > 128) << bit
    return bits / 1000


class MjpegServer:
    """Serves pictures that show the time at which they were made, at `fps`, on a port of its own that it keeps."""

    def __init__(self, fps: float = 30.0) -> None:
        self.fps = fps
        self.mood: Mood = "well"
        self.served = 0
        self._server: ThreadingHTTPServer | None = None
        self._connections: set[socket.socket] = set()
        self.port = _free_port()
        self.start()

    @property
    def address(self) -> str:
        """The address of the stream."""
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    def start(self) -> None:
        """Come (back) to life."""
        self.mood = "well"
        server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self), bind_and_activate=False)
        server.daemon_threads = True
        server.allow_reuse_address = True
        server.server_bind()
        server.server_activate()
        self._server = server
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def die(self) -> None:
        """Close the port and reset every connection, as a camera does that loses its power."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
                connection.close()

    def pictures(self) -> Iterator[bytes]:
        """Yield JPEG files in the server's mood, until it has died."""
        due = time.monotonic()
        image = draw_time(due)
        while self._server is not None:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + 1 / self.fps, time.monotonic() - 1)
            match self.mood:
                case "well":
                    image = draw_time(time.monotonic())
                case "black":
                    image = np.zeros_like(image)
                case "hang":
                    continue
            self.served += 1
            yield cv2.imencode(".jpg", image)[1].tobytes()

    @contextlib.contextmanager
    def connected(self, connection: socket.socket) -> Iterator[None]:
        """Remember a connection for as long as it lasts."""
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)


def _handler(camera: MjpegServer) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with camera.connected(self.connection), contextlib.suppress(OSError, ValueError):
                for data in camera.pictures():
                    self.wfile.write(_HEAD % len(data) + data + b"\r\n")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().handle()

    return Handler


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
