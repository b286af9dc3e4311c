"""The sink of the page: the loop leaves its newest observation there and goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from starlette.routing import Route

from edgecnn.errors import OutputError
from edgecnn_device.frames import Observation
from edgecnn_device.web.app import build_app
from edgecnn_device.web.auth import Guard
from edgecnn_device.web.broadcast import Broadcast
from edgecnn_device.web.counters import PATIENCE_S, Counters
from edgecnn_device.web.feed import Shown
from edgecnn_device.web.history import History
from edgecnn_device.web.options import WebOptions
from edgecnn_device.web.server import USUAL_LIMITS, ServerLimits, WebServer
from edgecnn_device.web.status import Watched
from edgecnn_device.web.today import Today

_KEEP_S = 1.0


class WebSink:
    """Serves the page, its pictures and figures while it is open; no viewer ever makes `write` wait."""

    name = "web"

    def __init__(
        self,
        options: WebOptions,
        watched: Watched,
        *,
        memory: Path | None = None,
        samples: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
        limits: ServerLimits = USUAL_LIMITS,
    ) -> None:
        """Take the address; OutputError when that is not possible.

        The day's counts and the alarm survive a restart in the folder `memory`; the samples in the folder `samples` can be
        reviewed. A loop that is silent for `patience_s` is `stale`.
        """
        self._statistics = watched.statistics
        self._counters = Counters(clock, patience_s)
        self._history = History()
        self._broadcast = Broadcast(self._counters, lambda: watched.statistics.frames, watched.classes)
        self._server = WebServer(options, [self._broadcast.run, self._keep_today], limits)
        self.port = self._server.port
        # Whoever has the port alone has the file alone, too.
        self._today = Today(watched.classes, file=None if memory is None else memory / f"page-{self.port}.json", clock=clock)
        self.address = f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{self.port}/"
        shown = Shown(watched, self._broadcast, self._history, self._today)
        app = build_app(shown, lambda request: self._guard.is_allowed(request.scope), self._review(samples, watched))
        self._guard = Guard(app, options, self.port)

    def _review(self, samples: Path | None, watched: Watched) -> list[Route]:
        """Return the routes on which samples are labelled, none where none are kept."""
        if samples is None:
            return []
        from edgecnn_device.web.review import Access, Review, review_routes

        access = Access(lambda r: self._guard.may_edit(r.scope), lambda r: self._guard.csrf_token(r.scope))
        return review_routes(Review(samples, lambda: watched.model().artifact.contract.labels), access)

    def __enter__(self) -> WebSink:
        self._server.start(self._guard)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop()
        self._today.save()

    def write(self, observation: Observation) -> None:
        """Leave one observation; encoding and sending are the server's."""
        now_s = self._counters.clock()
        self._counters.count(observation, now_s)
        self._history.add(observation, now_s)
        self._today.add(observation)
        self._broadcast.put(observation)

    async def _keep_today(self) -> None:
        """Save the day's counts from time to time; on the server's thread, since a card may take its time."""
        while True:
            await asyncio.sleep(_KEEP_S)
            try:
                self._today.save_if_due()
            except OutputError:
                self._statistics.sink_errors["page memory"] += 1
