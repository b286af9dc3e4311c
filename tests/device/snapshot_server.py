"""A camera that gives one picture for each request, on a real socket: it remembers who asked, and can want a login."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import cv2
from mjpeg_server import draw_time

Login = Literal["none", "basic", "digest", "digest without qop", "digest sha-256", "other"]
Mark = Literal["none", "etag", "last-modified"]
USER, PASSWORD = "admin", 'p"a:ss?#'


def as_jpeg(seconds: float) -> bytes:
    return cv2.imencode(".jpg", draw_time(seconds))[1].tobytes()


class SnapshotServer:
    """Gives `picture` at `/snap.jpg` and `/cgi-bin/snapshot.cgi`; other paths lead there, or to something else."""

    def __init__(self, login: Login = "none", mark: Mark = "none", *, changes: bool = True, keeps_alive: bool = True) -> None:
        self.login, self.mark, self.changes, self.keeps_alive = login, mark, changes, keeps_alive
        self.status = 200
        self.kind: str | None = "image/jpeg"
        self.body: bytes | None = None
        self.location = "/snap.jpg"
        self.paths: list[str] = []
        self.asked_s: list[float] = []
        self.asked: list[dict[str, str]] = []
        self.connections = 0
        self.not_modified = 0
        self._first = as_jpeg(time.monotonic())
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def address(self, path: str = "/snap.jpg", login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def picture(self) -> bytes:
        if self.body is not None:
            return self.body
        return as_jpeg(time.monotonic()) if self.changes else self._first

    def admits(self, method: str, headers: Any) -> bool:
        given = headers.get("Authorization", "")
        if self.login == "none":
            return True
        if self.login == "basic":
            return bool(given == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
        if not given.startswith("Digest "):
            return False
        fields = {key: quoted or plain for key, quoted, plain in re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))', given)}
        name = "sha256" if "sha" in self.login else "md5"

        def digest(text: str) -> str:
            return hashlib.new(name, text.encode()).hexdigest()

        secret, wanted = digest(f"{USER}:cam:{PASSWORD}"), digest(f"{method}:{fields['uri']}")
        if "without" in self.login:
            return bool(fields["response"] == digest(f"{secret}:{fields['nonce']}:{wanted}"))
        middle = f"{fields['nonce']}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}"
        return bool(fields["response"] == digest(f"{secret}:{middle}:{wanted}"))

    @property
    def challenge(self) -> str:
        return {
            "basic": 'Basic realm="cam"',
            "digest": 'Digest realm="cam", nonce="abc, def", qop="auth,auth-int", opaque="x"',
            "digest without qop": 'Digest realm="cam", nonce="abc"',
            "digest sha-256": 'Digest realm="cam", nonce="abc", qop="auth", algorithm=SHA-256',
        }.get(self.login, "Negotiate")


def _handler(camera: SnapshotServer) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            camera.connections += 1
            super().setup()

        def do_GET(self) -> None:
            camera.asked_s.append(time.monotonic())
            camera.asked.append(dict(self.headers))
            camera.paths.append(self.path)
            if not camera.admits("GET", self.headers):
                self._answer(401, {"WWW-Authenticate": camera.challenge})
            elif self.path == "/moved.jpg":
                self._answer(302, {"Location": camera.location})
            elif self.path == "/round.jpg":
                self._answer(302, {"Location": "/round.jpg"})
            elif self.path == "/stream.jpg":
                self._stream()
            elif self.path.startswith("/no-http.jpg"):
                self.wfile.write(f"{camera.location}\r\n\r\n".encode())
                self.close_connection = True
            elif self._is_known():
                camera.not_modified += 1
                self._answer(304, {})
            else:
                marks = {"etag": {"ETag": '"1"'}, "last-modified": {"Last-Modified": "Sat, 28 Nov 2026 10:00:00 GMT"}}
                kind = {} if camera.kind is None else {"Content-Type": camera.kind}
                self._answer(camera.status, kind | marks.get(camera.mark, {}), camera.picture)

        def _is_known(self) -> bool:
            wanted = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}.get(camera.mark)
            return wanted is not None and wanted in self.headers

        def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            if status != 304:
                self.send_header("Content-Length", str(len(body)))
            if not camera.keeps_alive:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.send_header("Connection", "close")
            self.end_headers()
            while True:
                body = as_jpeg(time.monotonic())
                self.wfile.write(
                    b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body) + body + b"\r\n"
                )
                time.sleep(1 / 30)

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().handle()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler
