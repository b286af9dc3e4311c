"""The fleet's page: one table of all boards, their last pictures on demand, and `/metrics`. It changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edgecnn.errors import InputError
from edgecnn.numbers import whole_number
from edgecnn_device.fleet.boards import Boards
from edgecnn_device.fleet.metrics import FleetMetrics
from edgecnn_device.fleet.rows import Rows, summarize
from edgecnn_device.web.answers import json_answer, page_file
from edgecnn_device.web.auth import ACTION_HEADER, Guard
from edgecnn_device.web.options import WebOptions
from edgecnn_device.web.prometheus import CONTENT_TYPE
from edgecnn_device.web.server import WebServer

_OWN = {"/": ("fleet.html", "text/html"), "/fleet.js": ("fleet.js", "text/javascript"), "/fleet.css": ("fleet.css", "text/css")}
_SHARED = {"/style.css": ("style.css", "text/css"), "/icon.svg": ("icon.svg", "image/svg+xml")}
_PICTURES_AT_ONCE, _PICTURE_S = 8, 6.0


class Heard(Protocol):
    """What is asked of whoever listens to the boards: see `Listener`."""

    trouble: str

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there."""

    def picture(self, name: str, *, limit_s: float) -> bytes | None:
        """Return a board's last picture as JPEG, None where it does not answer in time."""


@contextmanager
def serve_fleet(boards: Boards, heard: Heard, options: WebOptions) -> Iterator[str]:
    """Serve the page while the block runs, and give its address; OutputError where it is taken."""
    server = WebServer(options, [])
    server.start(Guard(build_fleet_app(boards, heard), options, server.port))
    try:
        yield f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{server.port}/"
    finally:
        server.stop()


def build_fleet_app(boards: Boards, heard: Heard) -> Starlette:
    """Return the application."""
    rows = Rows(boards)
    metrics_of = FleetMetrics(rows.look, lambda: heard.is_connected)
    asking = threading.BoundedSemaphore(_PICTURES_AT_ONCE)

    async def healthz(request: Request) -> Response:
        return json_answer({"state": "ok" if heard.is_connected else "no broker"}, 200 if heard.is_connected else 503)

    def fleet(request: Request) -> Response:
        query = request.query_params
        body = rows.since(query.get("start", ""), whole_number(query.get("since", "0"), at_most=2**53) or 0)
        broker = {"connected": heard.is_connected, "trouble": heard.trouble}
        return json_answer(summarize(rows.look()) | broker | body)

    def metrics(request: Request) -> Response:
        return Response(metrics_of.text(), headers={"Content-Type": CONTENT_TYPE})

    def picture(request: Request) -> Response:
        if ACTION_HEADER not in request.headers:  # it makes a board work: no page of elsewhere may ask for that
            return _text(f"this needs the header {ACTION_HEADER}", 403)
        board = boards.find(request.query_params.get("board", ""))
        if board.report is None or not board.report.pictures:
            return _text("this board gives no pictures: start its camera with --mqtt-picture", 404)
        if not asking.acquire(blocking=False):
            return _text("too many pictures are being asked for; try again", 503)
        try:
            jpeg = heard.picture(board.name, limit_s=_PICTURE_S)
        except InputError as error:
            return _text(str(error), 400)
        finally:
            asking.release()
        return _text("the board did not answer", 504) if jpeg is None else Response(jpeg, media_type="image/jpeg")

    answers = {"/api/fleet": fleet, "/metrics": metrics, "/api/picture": picture}
    routes = [
        Route("/healthz", healthz),
        *(Route(path, _in_thread(answer)) for path, answer in answers.items()),
        *(Route(path, _file(page_file(name, "edgecnn_device.fleet"), kind)) for path, (name, kind) in _OWN.items()),
        *(Route(path, _file(page_file(name), kind)) for path, (name, kind) in _SHARED.items()),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(GZipMiddleware, minimum_size=2048, compresslevel=4)])
    app.router.redirect_slashes = False
    return app


def _file(body: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(body, media_type=kind)

    return answer


def _in_thread(answer: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Answer in a thread: a look at many boards, and a board's picture, take a while."""

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(answer, request)

    return endpoint


def _text(text: str, status: int) -> Response:
    return PlainTextResponse(f"{text}\n", status)
