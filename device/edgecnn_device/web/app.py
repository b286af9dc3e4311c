"""The routes: the page with its files, the picture, the events, the figures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from edgecnn_device.web.answers import json_answer, page_file
from edgecnn_device.web.broadcast import Broadcast
from edgecnn_device.web.feed import Figures, PageFeed, Shown
from edgecnn_device.web.prometheus import CONTENT_TYPE, Metrics
from edgecnn_device.web.status import read_model_card, read_stats
from edgecnn_device.web.views import BOUNDARY, STREAM_START

_TABS = b'<nav class="tabs" aria-label="Pages"><a href="./" aria-current="page">Live</a><a href="review">Review</a></nav>'
_FILES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
# A moving picture needs no more; every picture costs an encoding and, for each viewer, its bytes.
_STREAM_HZ, _PICTURES_HZ, _EVENTS_HZ = 15.0, 10.0, 60.0
_PATIENCE_S = 5.0


def build_app(shown: Shown, is_allowed: Callable[[Request], bool], more: Sequence[Route] = ()) -> Starlette:
    """Return the application; `is_allowed` tells whether a visitor of an open address may see more than the state.

    `more` are the routes of the review, where samples are kept.
    """
    watched, broadcast, history, today = shown.watched, shown.broadcast, shown.history, shown.today

    def healthz(request: Request) -> Response:
        state = broadcast.look().state
        body = {"state": state.name} | ({"reason": state.reason} if is_allowed(request) and state.reason else {})
        return json_answer(body, 200 if state.name == "ok" else 503)

    def stats(request: Request) -> Response:
        return json_answer(read_stats(watched, broadcast))

    def model(request: Request) -> Response:
        return json_answer(read_model_card(watched))

    def day(request: Request) -> Response:
        return json_answer(today.to_json())

    def acknowledge(request: Request) -> Response:
        number = _whole_number(request, "number")
        done = number is not None and today.acknowledge(number)
        return json_answer({"acknowledged": done}, 200 if done else 409)

    def recent(request: Request) -> Response:
        return json_answer([entry.to_json() for entry in history.entries(broadcast.counters.clock())])

    def recent_csv(request: Request) -> Response:
        headers = {"Content-Disposition": 'attachment; filename="edgecnn-history.csv"'}
        return Response(history.to_csv(broadcast.counters.clock()), headers=headers, media_type="text/csv")

    def metrics(request: Request) -> Response:
        return Response(prometheus.text(), headers={"Content-Type": CONTENT_TYPE})

    def snapshot(request: Request) -> Response:
        view = broadcast.look()
        frame = view.observation.frame
        if view.picture is None or frame is None:
            return PlainTextResponse(f"{view.state.name}: {view.state.reason}\n", 503, {"Retry-After": "1"})
        return Response(view.picture, headers={"X-Captured-At": frame.captured_at.isoformat()}, media_type="image/jpeg")

    def region(request: Request) -> Response:
        view, number = broadcast.look(), _whole_number(request, "id")
        frame = view.observation.frame
        if number is None:
            return json_answer({"error": "give the id of a region, such as /api/region?id=1"}, 400)
        if view.state.name != "ok" or frame is None:
            return json_answer({"error": f"{view.state.name}: {view.state.reason}"}, 503)
        found = view.explain(number)
        if found is None:
            return json_answer({"error": f"region {number} is no longer in the picture"}, 404)
        age_ms = 1000 * (broadcast.counters.clock() - frame.monotonic_s)
        return json_answer(
            {"captured_at": frame.captured_at.isoformat(timespec="milliseconds"), "age_ms": round(age_ms, 1)} | found
        )

    def stream(request: Request) -> Response:
        return _stream(request, _watch_stream(broadcast), f"multipart/x-mixed-replace; boundary={BOUNDARY}")

    def predictions(request: Request) -> Response:
        return _stream(request, _watch_predictions(broadcast), "text/event-stream")

    def live(request: Request) -> Response:
        return _stream(request, _watch_page(broadcast, PageFeed(shown, figures)), "text/event-stream")

    figures, prometheus = Figures(watched, broadcast), Metrics(watched, broadcast)
    answers = {
        "/healthz": healthz,
        "/api/stats": stats,
        "/api/model": model,
        "/api/today": day,
        "/api/history": recent,
        "/api/history.csv": recent_csv,
        "/api/predictions": predictions,
        "/api/live": live,
        "/api/region": region,
        "/metrics": metrics,
        "/snapshot.jpg": snapshot,
        "/stream.mjpg": stream,
    }
    routes = [Route(path, _in_loop(answer)) for path, answer in (answers | _page_files(has_review=bool(more))).items()]
    app = Starlette(routes=[*routes, *more, Route("/api/acknowledge", _in_loop(acknowledge), methods=["POST"])])
    app.router.redirect_slashes = False  # it would lead to wherever the visitor's Host header says
    return app


def _whole_number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _page_files(*, has_review: bool) -> dict[str, Callable[[Request], Response]]:
    """Read the page's files into memory: no path of a request ever meets the file system."""

    def serve(name: str, kind: str) -> Callable[[Request], Response]:
        body = page_file(name)
        if not has_review:
            body = body.replace(_TABS, b"")
        return lambda request: Response(body, media_type=kind)

    return {path: serve(name, kind) for path, (name, kind) in _FILES.items()}


def _in_loop(answer: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Make a function a coroutine: Starlette would run it in a thread of its own, and these are short."""

    async def endpoint(request: Request) -> Response:
        return answer(request)

    return endpoint


async def _watch_stream(broadcast: Broadcast) -> AsyncIterator[bytes]:
    with broadcast.viewer("stream"):
        yield STREAM_START
        async for view in broadcast.views(at_most_hz=_STREAM_HZ, patience_s=_PATIENCE_S):
            yield view.part
            yield b""  # sends nothing and returns when the picture has left: only then is the next one chosen


async def _watch_predictions(broadcast: Broadcast) -> AsyncIterator[bytes]:
    number = None
    with broadcast.viewer("predictions"):
        async for view in broadcast.views(at_most_hz=_EVENTS_HZ, patience_s=_PATIENCE_S):
            yield b": still here\n\n" if view.number == number else view.event
            number = view.number


async def _watch_page(broadcast: Broadcast, feed: PageFeed) -> AsyncIterator[bytes]:
    with broadcast.viewer("page"):
        async for view in broadcast.views(at_most_hz=_PICTURES_HZ, patience_s=1.0):
            for event in feed.news(view):
                yield event
            yield b""  # as for the stream: a slow page sees fewer pictures, and none that is late


def _stream(request: Request, chunks: AsyncIterator[bytes], kind: str) -> Response:
    if request.method == "HEAD":
        return Response(headers={"Content-Type": kind})
    return StreamingResponse(chunks, media_type=kind, headers={"X-Accel-Buffering": "no"})
