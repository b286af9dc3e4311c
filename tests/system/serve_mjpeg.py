"""An MJPEG-over-HTTP camera: `python serve_mjpeg.py PORT`. SIGUSR1 makes it stall, and go on, and it says so."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
from picture_time import draw_gray

FPS, WIDTH, HEIGHT = 15, 320, 240
HEAD = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
stalled = False


class Stream(BaseHTTPRequestHandler):
    """Sends pictures for as long as somebody takes them."""

    def do_GET(self) -> None:
        """Answer, and send."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                if not stalled:
                    gray = np.frombuffer(draw_gray(time.time(), WIDTH, HEIGHT), np.uint8).reshape(HEIGHT, WIDTH)
                    data = cv2.imencode(".jpg", gray)[1].tobytes()
                    self.wfile.write(HEAD % len(data) + data + b"\r\n")
                time.sleep(1 / FPS)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def toggle(number: int, frame: object) -> None:
    """Stall, or go on, and say so."""
    global stalled  # noqa: PLW0603 -- a signal handler has no other place
    stalled = not stalled
    os.write(sys.stdout.fileno(), b"toggled\n")


signal.signal(signal.SIGUSR1, toggle)
ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Stream).serve_forever()
