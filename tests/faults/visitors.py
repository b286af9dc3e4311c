"""Requests that are anything, from a seed."""

from __future__ import annotations

import contextlib
import random
import socket
import string
from urllib.parse import quote

from web_page import Page

ROUTES = ["/", "/app.js", "/style.css", "/icon.svg", "/healthz", "/metrics", "/snapshot.jpg"]
ROUTES += ["/api/stats", "/api/model", "/api/history", "/api/history.csv"]
STREAMS = ["/stream.mjpg", "/api/live", "/api/predictions"]


def talk(page: Page, request: bytes, *, patience_s: float = 3.0, most: int = 4096) -> bytes:
    """Send bytes and return what comes back at first; an end without an answer is an answer."""
    with socket.create_connection(("127.0.0.1", page.sink.port), timeout=patience_s) as visitor, contextlib.suppress(OSError):
        visitor.sendall(request)
        visitor.shutdown(socket.SHUT_WR)
        return visitor.recv(most)
    return b""


def random_request(rng: random.Random) -> bytes:
    """Make a request, mostly well formed, whose parts are anything."""
    noise = "".join(rng.choice(string.printable) for _ in range(rng.randrange(40)))
    path = rng.choice(
        [*ROUTES, *STREAMS, "/" + quote(noise), "/api/../api/stats", "*", "http://evil/", "", "/%", "/%00", "/%ff%fe"]
    )
    query = rng.choice(
        ["", "", "?token=", f"?token={noise.encode().hex()}", "?" + quote(noise), "?a=1&" * 50, "?%", "?token=%ff"]
    )
    method = rng.choice(["GET"] * 6 + ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "BREW", "\x00"])
    headers = {"Host": rng.choice(["localhost", "127.0.0.1", "evil.example", "", "[::1]", "a" * 300, "localhost:99999"])}
    for _ in range(rng.randrange(4)):
        name = rng.choice(
            ["Cookie", "Authorization", "Range", "If-None-Match", "Accept", "Content-Length", "Transfer-Encoding"]
        )
        headers[name] = rng.choice(
            [noise, "Bearer " + noise, "bytes=0-", "*/*", "0", "-1", "999999999999", "chunked", "; =;" * 20]
        )
    lines = [f"{method} {path}{query} {rng.choice(['HTTP/1.1'] * 6 + ['HTTP/1.0', 'HTTP/2', 'HTTP/9.9', ''])}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    data = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
    match rng.randrange(10):
        case 0:
            return rng.randbytes(rng.randrange(1, 400))
        case 1:
            at = rng.randrange(len(data))
            return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
        case 2:
            return data[: rng.randrange(len(data))]
        case 3:
            return data + rng.randbytes(rng.randrange(500))
        case _:
            return data
