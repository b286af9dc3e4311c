"""uvicorn in a thread of its own, with the limits that a server on a small board needs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgecnn.errors import OutputError
from edgecnn_device.web.crowd import Limits, choose_leaver, name_visitor
from edgecnn_device.web.options import WebOptions

_HEADER_BYTES, _SEND_BYTES = 8192, 2**17
_FAREWELL_S, _JOIN_S = 0.1, 0.8


_CROWD = Limits(with_idle=300, at_all=400, each=150)


@dataclass(frozen=True)
class ServerLimits:
    """How long a visitor may take to ask and to take in what was sent, and how many connections there may be.

    50 browsers open up to six connections each while they load the page, and keep two; a process has 1024 descriptors, and the
    camera needs some of them. Beyond `most_connections` the answer is 503, if nobody idle could be sent away before.
    """

    request_s: float = 10.0
    write_s: float = 10.0
    most_connections: int = 320
    crowd: Limits = _CROWD


USUAL_LIMITS = ServerLimits()


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP, that ends connections whose visitor does not ask or does not listen; uvicorn would wait for ever."""

    limits = USUAL_LIMITS
    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    visitor = ""
    idle_since_s: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, and send somebody away where there are too many."""
        # Nothing is queued for a slow viewer: the next picture is chosen when the last one has left.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)
        self.visitor = name_visitor(self.client[0] if self.client else "")
        self._expect_request()
        all_of_us: set[BoundedProtocol] = self.connections  # type: ignore[assignment]  # of whatever speaks here, for uvicorn
        if (leaver := choose_leaver(all_of_us, self, self.limits.crowd)) is not None:
            all_of_us.discard(leaver)  # it goes when the event loop comes to that, and is not to be chosen again
            leaver.transport.abort()

    def handle_events(self) -> None:
        """Hear whether a request is complete."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            _cancel(self._request_timer)
            self._request_timer = self.idle_since_s = None

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._expect_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the viewer."""
        super().pause_writing()
        self._write_timer = self._write_timer or self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Hear that the viewer has taken everything."""
        _cancel(self._write_timer)
        self._write_timer = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the visitor."""
        _cancel(self._request_timer)
        self._request_timer = None
        _cancel(self._write_timer)
        self._write_timer = None
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        self.idle_since_s = self.loop.time()
        _cancel(self._request_timer)
        self._request_timer = self.loop.call_later(self.limits.request_s, self.transport.abort)


class WebServer:
    """Serves an application from a daemon thread with an event loop of its own."""

    def __init__(
        self,
        options: WebOptions,
        chores: Sequence[Callable[[], Coroutine[Any, Any, None]]],
        limits: ServerLimits = USUAL_LIMITS,
    ) -> None:
        """Take the address; OutputError when that is not possible. `chores` run in its event loop while it serves."""
        self._chores = chores
        self._limits = limits
        self._socket = bind(options)
        self.port = int(self._socket.getsockname()[1])
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()
        self._started = threading.Event()

    def start(self, app: ASGIApp) -> None:
        """Begin to serve; returns when it does."""
        config = uvicorn.Config(
            app,
            http=type("LimitedProtocol", (BoundedProtocol,), {"limits": self._limits}),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=self._limits.most_connections,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_keep_alive=5,
        )
        server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(server)), name="edgecnn-web", daemon=True)
        self._thread.start()
        self._started.wait(5.0)

    def stop(self) -> None:
        """End, giving visitors no time to linger."""
        if self._thread is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(_JOIN_S)
        self._socket.close()

    async def _serve(self, server: uvicorn.Server) -> None:
        self._loop = asyncio.get_running_loop()
        chores = [asyncio.create_task(chore()) for chore in self._chores]
        serving = asyncio.create_task(server.serve(sockets=[self._socket]))
        ending = asyncio.create_task(self._ending.wait())
        self._started.set()
        tasks = (*chores, serving, ending)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await self._send_all_away(server)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result  # a bug of ours keeps its traceback

    async def _send_all_away(self, server: uvicorn.Server) -> None:
        """End what is being answered; uvicorn's own way waits half a second, which a camera that ends has not."""
        connections: list[Any] = list(server.server_state.connections)
        for connection in connections:
            connection.transport.abort()
        if answers := set(server.server_state.tasks):  # they hear of it, and end
            await asyncio.wait(answers, timeout=_FAREWELL_S)


def bind(options: WebOptions) -> socket.socket:
    """Return a listening socket of the address; OutputError when it is taken, forbidden or not of this machine."""
    where = f"{options.host}:{options.port}"
    try:
        family = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listening = socket.create_server((options.host, options.port), family=family, backlog=128)
    except OSError as error:
        raise OutputError(
            f"cannot serve the page on {where}: {error.strerror or error}; choose another --web address"
        ) from error
    # Connections inherit it. Linux would keep up to 4 MB for a slow viewer: a minute of pictures that are past.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
    listening.setblocking(False)
    return listening


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
