"""As much of an MQTT 3.1.1 broker as a camera can see, on a real socket: it can refuse, fall silent, die and come back."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

ACCEPTED, BAD_PASSWORD = 0, 4


@dataclass(frozen=True)
class Received:
    """One PUBLISH."""

    topic: str
    payload: str
    retained: bool


class TinyBroker:
    """Takes publications on a port of its own and remembers them in `received`; `answer` is its word to the next CONNECT."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.connects: list[bytes] = []
        self.subscriptions: list[str] = []
        self.left = 0
        self.answer = ACCEPTED
        self.silent = False
        self._connections: list[socket.socket] = []
        self._named: dict[bytes, socket.socket] = {}
        self._listener: socket.socket | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        """Come (back) to life on the same port."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def die(self) -> None:
        """Close the port and every connection."""
        listener, self._listener = self._listener, None
        for connection in [*([listener] if listener else []), *self._connections]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._connections.clear()

    def send(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Publish a message of a few bytes to everybody, with QoS 0."""
        body = struct.pack("!H", len(topic)) + topic.encode() + payload
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.sendall(bytes([0x30 | retained, len(body)]) + body)

    def topics(self, ending: str) -> list[str]:
        """Return the payloads on topics with this ending."""
        return [message.payload for message in self.received if message.topic.endswith(ending)]

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # A connection that is lost in the middle of a packet shows itself as struct.error or IndexError.
        with connection, contextlib.suppress(OSError, struct.error, IndexError), connection.makefile("rb") as stream:
            while True:
                head = stream.read(1)[0]
                body = stream.read(_length(stream.read))
                match head >> 4:
                    case 1:
                        self.connects.append(body)
                        self._take_over(_client_id(body), connection)
                        connection.sendall(bytes([0x20, 2, 0, self.answer]))
                        if self.answer != ACCEPTED:
                            return
                    case 3:
                        self._publish(connection, head, body)
                    case 8:
                        (length,) = struct.unpack_from("!H", body, 2)
                        self.subscriptions.append(body[4 : 4 + length].decode())
                        connection.sendall(bytes([0x90, 3]) + body[:2] + b"\0")
                    case 12:
                        connection.sendall(bytes([0xD0, 0]))
                    case 14:
                        self.left += 1
                        return

    def _take_over(self, client_id: bytes, connection: socket.socket) -> None:
        """End the connection of another client of this name, as 3.1.1 demands (MQTT-3.1.4-2)."""
        before = self._named.get(client_id)
        self._named[client_id] = connection
        if before is not None:
            with contextlib.suppress(OSError):
                before.shutdown(socket.SHUT_RDWR)

    def _publish(self, connection: socket.socket, head: int, body: bytes) -> None:
        (length,) = struct.unpack_from("!H", body)
        topic, number, payload = body[2 : 2 + length], body[2 + length : 4 + length], body[4 + length :]
        self.received.append(Received(topic.decode(), payload.decode("utf-8", "replace"), bool(head & 1)))
        if not self.silent:
            connection.sendall(bytes([0x40, 2]) + number)


def _client_id(connect: bytes) -> bytes:
    """Return the client's name out of a CONNECT: it stands behind protocol, flags and keep-alive."""
    (length,) = struct.unpack_from("!H", connect, 10)
    return connect[12 : 12 + length]


def _length(read: Callable[[int], bytes]) -> int:
    """Read MQTT's remaining length: seven bits a byte, the lowest first."""
    value, shift = 0, 0
    while True:
        byte = read(1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value
