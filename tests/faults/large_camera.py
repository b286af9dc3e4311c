"""A network camera of 3840x2160, as Motion JPEG or as video whose pictures refer to each other."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Kind = Literal["mjpeg", "video"]
SIZE_WH, FPS = (3840, 2160), 5
_HEAD = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def pictures() -> list[NDArray[np.uint8]]:
    """Return three pictures, so that no frame is the same as the one before."""
    coarse = np.random.default_rng(0).integers(0, 256, (54, 96, 3), np.uint8)
    image = np.asarray(cv2.resize(coarse, SIZE_WH, interpolation=cv2.INTER_CUBIC), np.uint8)
    return [np.roll(image, 40 * number, axis=0) for number in range(3)]


class LargeCamera:
    """Serves pictures at FPS on a port of its own until the block ends."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self._chunks = _jpegs() if kind == "mjpeg" else _video(folder)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """The address of the stream."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/stream.{'mjpg' if self.kind == 'mjpeg' else 'ts'}"

    @property
    def content_type(self) -> str:
        return "multipart/x-mixed-replace; boundary=frame" if self.kind == "mjpeg" else "video/mp2t"

    def chunks(self) -> Iterator[bytes]:
        """Yield what is sent each 1/FPS second."""
        for chunk in itertools.cycle(self._chunks):
            yield chunk
            time.sleep(1 / FPS)

    def __enter__(self) -> LargeCamera:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _jpegs() -> list[bytes]:
    encoded = [cv2.imencode(".jpg", image)[1].tobytes() for image in pictures()]
    return [_HEAD % len(data) + data + b"\r\n" for data in encoded]


def _video(folder: Path) -> list[bytes]:
    """Return a minute of MPEG-4 in a transport stream, cut into as many chunks as it has frames."""
    path, frames = folder / "large.ts", 60 * FPS
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE_WH)
    images = pictures()
    for number in range(frames):
        writer.write(images[number % len(images)])
    writer.release()
    data = path.read_bytes()
    size = len(data) // frames // 188 * 188 + 188
    return [data[at : at + size] for at in range(0, len(data), size)]


def _handler(camera: LargeCamera) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", camera.content_type)
            self.end_headers()
            with contextlib.suppress(OSError):
                for chunk in camera.chunks():
                    self.wfile.write(chunk)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler
