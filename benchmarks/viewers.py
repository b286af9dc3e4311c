"""Viewers of the page's live picture, in a process of their own, who read all that comes."""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit


@contextlib.contextmanager
def watch_page(address: str, viewers: int) -> Iterator[None]:
    """Let `viewers` look at the page at `address` while the block runs."""
    if viewers == 0:
        yield
        return
    command = [sys.executable, "-P", __file__, address, str(viewers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # all have seen something
            yield
        finally:
            process.kill()


def main() -> None:
    """Open this many streams, report when each has brought its first bytes, and read until ended."""
    address, viewers = urlsplit(sys.argv[1]), int(sys.argv[2])
    host = f"{address.hostname}:{address.port}"
    request = f"GET /stream.mjpg HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    selector, unseen = selectors.DefaultSelector(), viewers
    for _ in range(viewers):
        connection = socket.create_connection((address.hostname or "", address.port or 80))
        connection.sendall(request)
        selector.register(connection, selectors.EVENT_READ, data=[False])
    while True:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            if not key.fileobj.recv(2**20):
                sys.exit("the page closed a stream")
            if not key.data[0]:
                key.data[0] = True
                unseen -= 1
                if unseen == 0:
                    print("watching", flush=True)


if __name__ == "__main__":
    main()
