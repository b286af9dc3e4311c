"""Slow, dead, many and malicious visitors, and the end."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from web_page import Page, next_event, next_picture, seen, serve

from edgecnn_device.frames import Observation
from edgecnn_device.web.crowd import Limits
from edgecnn_device.web.jpeg import encode_frame
from edgecnn_device.web.server import ServerLimits


@pytest.fixture
def page() -> Iterator[Page]:
    with serve() as opened:
        opened.show(seen(size_hw=(480, 640)))
        yield opened


def connect(page: Page, request: bytes = b"", *, receive_bytes: int | None = None) -> socket.socket:
    """Return a connection that has sent `request`, with a small window if `receive_bytes` is given."""
    visitor = socket.socket()
    if receive_bytes is not None:
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    visitor.settimeout(5)
    visitor.connect(("127.0.0.1", page.sink.port))
    visitor.sendall(request)
    return visitor


def is_closed(visitor: socket.socket) -> bool:
    """Tell whether the server ends a connection within its patience."""
    with contextlib.suppress(ConnectionError):
        while visitor.recv(65536):
            pass
    return True


def count_encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the number of each frame is added when it is encoded."""
    encoded: list[int] = []

    def encode(observation: Observation) -> bytes | None:
        assert observation.frame is not None
        encoded.append(observation.frame.number)
        return encode_frame(observation)

    monkeypatch.setattr("edgecnn_device.web.views.encode_frame", encode)
    return encoded


STREAM = b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_headers_without_end_are_refused(page: Page) -> None:
    with connect(page, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20000) as visitor:
        answer = visitor.recv(100)

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_what_is_not_http_is_refused(page: Page) -> None:
    with connect(page, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n") as visitor:
        answer = visitor.recv(100)

    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost: loc"])
def test_who_does_not_ask_is_not_waited_for(beginning: bytes) -> None:
    with serve(limits=ServerLimits(request_s=0.3)) as page, connect(page, beginning) as visitor:
        assert is_closed(visitor)


def test_who_asks_once_and_then_trickles_is_not_waited_for() -> None:
    beginning = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT"
    with serve(limits=ServerLimits(request_s=0.3)) as page, connect(page, beginning) as visitor:
        assert is_closed(visitor)


def test_who_does_not_listen_is_dropped() -> None:
    with serve(limits=ServerLimits(write_s=0.5)) as page, connect(page, STREAM, receive_bytes=4096):
        page.wait_for_viewers("stream", 1)
        for number in range(15):
            page.show(seen(number, size_hw=(480, 640)))
            time.sleep(0.08)
        page.wait_for_viewers("stream", 0)


def test_who_goes_is_forgotten(page: Page) -> None:
    with page.watch("/api/live"):
        page.wait_for_viewers("page", 1)

    page.wait_for_viewers("page", 0)


def test_a_slow_viewer_sees_the_newest_picture_next(page: Page) -> None:
    with page.watch("/api/predictions") as stream:
        next_event(stream, "prediction")
        for number in range(2, 500):
            page.show(seen(number))
        numbers = (
            [next_event(stream, "prediction")["frame"] for _ in range(2)]
            if False
            else [next_event(stream, "prediction")["frame"]]
        )
        while numbers[-1] < 499:
            numbers.append(next_event(stream, "prediction")["frame"])

    assert len(numbers) < 100


def test_beyond_the_limit_the_answer_is_503() -> None:
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(serve(limits=ServerLimits(most_connections=30)))
        page.show(seen())
        for _ in range(28):  # all of them watch: nobody can be sent away
            stack.enter_context(connect(page, STREAM))
        page.wait_for_viewers("stream", 28)
        stack.enter_context(connect(page, STREAM))
        visitor = stack.enter_context(connect(page, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))

        assert visitor.recv(100).startswith(b"HTTP/1.1 503 ")


def test_far_beyond_the_limit_there_is_no_answer() -> None:
    crowd = Limits(with_idle=20, at_all=20, each=20)
    with serve(limits=ServerLimits(crowd=crowd)) as page, contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(page, STREAM)).recv(1)  # it watches
        visitor = stack.enter_context(connect(page))

        assert is_closed(visitor)


def test_fifty_viewers_see_the_picture_move_and_one_encoding_serves_them(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = count_encodings(monkeypatch)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(page.watch("/stream.mjpg")) for _ in range(50)]
        for stream in streams:
            next_picture(stream)
        page.show(seen(1000))
        pictures = [next_picture(stream) for stream in streams]

    assert len(set(pictures)) == 1
    assert encoded.count(1000) == 1


def test_nobody_watching_means_that_nothing_is_encoded(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = count_encodings(monkeypatch)
    for number in range(20):
        page.show(seen(number))
        time.sleep(0.02)

    assert encoded == []


def write_cost_s(page: Page, count: int = 300) -> float:
    """Return the median processor time of a write, in seconds, at the pace of a fast camera."""
    observations = [seen(number, size_hw=(480, 640)) for number in range(8)]
    costs = []
    for number in range(count):
        started_s = time.thread_time()
        page.sink.write(observations[number % 8])
        costs.append(time.thread_time() - started_s)
        time.sleep(0.002)
    return sorted(costs)[count // 2]


def test_viewers_who_do_not_read_cost_the_loop_nothing(page: Page) -> None:
    alone_s = write_cost_s(page)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(page, STREAM, receive_bytes=4096))
        page.wait_for_viewers("stream", 20)
        watched_s = write_cost_s(page)

    assert watched_s < 3 * alone_s + 50e-6


def test_a_write_costs_the_loop_little(page: Page) -> None:
    assert write_cost_s(page) < 200e-6


@pytest.mark.parametrize("path", ["/stream.mjpg", "/api/live", "/api/predictions"])
def test_it_ends_within_a_second_whoever_watches(path: str) -> None:
    with serve() as page, contextlib.ExitStack() as stack:
        page.show(seen(size_hw=(480, 640)))
        for _ in range(5):
            stack.enter_context(connect(page, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), receive_bytes=4096))
        page.wait_for_viewers({"/stream.mjpg": "stream", "/api/live": "page"}.get(path, "predictions"), 5)

        started_s = time.monotonic()
        page.sink.__exit__(None, None, None)
        took_s = time.monotonic() - started_s

    assert took_s < 0.9
    assert not any(thread.name == "edgecnn-web" for thread in threading.enumerate())


def test_after_the_end_the_port_is_free(page: Page) -> None:
    page.sink.__exit__(None, None, None)

    with socket.socket() as visitor:
        assert visitor.connect_ex(("127.0.0.1", page.sink.port)) == errno.ECONNREFUSED
