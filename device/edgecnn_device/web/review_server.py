"""The review of a folder served by itself, on a workstation: no camera and no model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgecnn.samples.folder import read_samples
from edgecnn_device.web.answers import page_file
from edgecnn_device.web.auth import Guard
from edgecnn_device.web.neighbours import TrainingPictures
from edgecnn_device.web.options import WebOptions
from edgecnn_device.web.review import Access, Review, review_routes
from edgecnn_device.web.server import WebServer

_SHARED = {"/style.css": ("style.css", "text/css"), "/icon.svg": ("icon.svg", "image/svg+xml")}


@contextmanager
def serve_review(folder: Path, options: WebOptions, training: TrainingPictures | None = None) -> Iterator[str]:
    """Serve the page while the block runs, and give its address; InputError where there is no folder of samples."""
    read_samples(folder)
    server = WebServer(options, [])
    access = Access(lambda request: guard.may_edit(request.scope), lambda request: guard.csrf_token(request.scope))
    shared = [Route(path, _serve(*file)) for path, file in _SHARED.items()]
    labels: Callable[[], Sequence[str]] = tuple if training is None else lambda: training.labels
    app = Starlette(routes=[*review_routes(Review(folder, labels, training), access, at="/", has_camera=False), *shared])
    app.router.redirect_slashes = False
    guard = Guard(app, options, server.port)
    server.start(guard)
    try:
        yield f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{server.port}/"
    finally:
        server.stop()


def wait_for_signal() -> None:
    """Return when SIGTERM or Ctrl-C asks for the end."""
    import signal

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


def _serve(name: str, kind: str) -> Callable[[Request], Response]:
    body = page_file(name)
    return lambda request: Response(body, media_type=kind)
