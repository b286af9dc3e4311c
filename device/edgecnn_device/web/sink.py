"""The sink of the page: the loop leaves its newest observation there and goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from edgecnn_device.frames import Observation
from edgecnn_device.web.access import Guard
from edgecnn_device.web.app import build_app
from edgecnn_device.web.history import History
from edgecnn_device.web.hub import Hub
from edgecnn_device.web.options import WebOptions
from edgecnn_device.web.server import WebServer
from edgecnn_device.web.status import Watched
from edgecnn_device.web.tally import Tally


class WebSink:
    """Serves the page, its pictures and figures while it is open; no viewer ever makes `write` wait."""

    name = "web"

    def __init__(self, options: WebOptions, watched: Watched, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the address; OutputError when that is not possible."""
        self._tally = Tally(clock)
        self._history = History()
        self._hub = Hub(self._tally, lambda: watched.statistics.frames)
        self._server = WebServer(options, self._hub)
        self.port = self._server.port
        self.address = f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{self.port}/"
        app = build_app(watched, self._hub, self._history, lambda request: self._guard.is_allowed(request.scope))
        self._guard = Guard(app, options, self.port)

    def __enter__(self) -> WebSink:
        self._server.start(self._guard)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.stop()

    def write(self, observation: Observation) -> None:
        """Leave one observation; encoding and sending are the server's."""
        now_s = self._tally.clock()
        self._tally.count(observation, now_s)
        self._history.add(observation, now_s)
        self._hub.put(observation)
