"""Telling an address of an event by POST, signed as the Standard Webhooks specification says (standardwebhooks.com, 1.0)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from edgecnn import __version__
from edgecnn.addresses import origin
from edgecnn.errors import InputError, OutputError
from edgecnn_device.actions.queue import Event, Retry

_AGAIN = frozenset({408, 425, 429})
_SECRET = "whsec_"
_MOST_ANSWER = 4096


def read_key(secret: str) -> bytes:
    """Return the key that a secret stands for: base64 behind `whsec_`, else its own bytes. InputError for bad or no base64."""
    if not secret.startswith(_SECRET):
        return secret.encode()
    try:
        key = base64.b64decode(secret[len(_SECRET) :], validate=True)
    except ValueError:
        raise InputError("--on-secret-file: what stands behind whsec_ is not base64") from None
    if not key:  # with which anybody could sign
        raise InputError("--on-secret-file: nothing stands behind whsec_")
    return key


def signature(key: bytes, event_id: str, at: int, body: bytes) -> str:
    """Return the signature of a message: HMAC-SHA256 over `id.timestamp.body`, as base64 behind its version."""
    digest = hmac.new(key, f"{event_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class Poster:
    """Posts events to one address. No redirect is followed: a signed message is for this host and no other."""

    def __init__(self, url: str, key: bytes | None, timeout_s: float, wall_clock: Callable[[], float] = time.time) -> None:
        """Sign with `key` where there is one; a whole exchange takes `timeout_s` at most."""
        self._url, self._key, self._timeout_s, self._wall_clock = urlsplit(url), key, timeout_s, wall_clock
        self._origin = origin(url)

    def __call__(self, event: Event) -> None:
        """Post one event; Retry when that may work later, OutputError when the address refuses it for good."""
        body = json.dumps({"id": event.id} | event.body, ensure_ascii=True, separators=(",", ":")).encode()
        status = self._post(body, self._headers(event, body))
        if 200 <= status < 300:
            return
        if status in _AGAIN or status >= 500:
            raise Retry(f"{self._origin} answers with {status}")
        hint = ": redirects are not followed" if 300 <= status < 400 else ""
        raise OutputError(f"{self._origin} refuses with {status}{hint}")

    def _headers(self, event: Event, body: bytes) -> dict[str, str]:
        at = int(self._wall_clock())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"edgecnn/{__version__}",
            "Idempotency-Key": event.id,
            "webhook-id": event.id,
            "webhook-timestamp": str(at),
            "Connection": "close",
        }
        return headers if self._key is None else headers | {"webhook-signature": signature(self._key, event.id, at, body)}

    def _post(self, body: bytes, headers: dict[str, str]) -> int:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        # Without a port, http.client takes the end of an IPv6 address for one.
        connection = kind(self._url.hostname or "", self._url.port or kind.default_port, timeout=self._timeout_s)
        path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
        # A socket's own timeout begins again with every byte that trickles in.
        deadline = threading.Timer(self._timeout_s, _hang_up, (connection,))
        deadline.daemon = True
        deadline.start()
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            status = answer.status
            answer.read(_MOST_ANSWER)
            return status
        except (OSError, http.client.HTTPException) as error:
            raise Retry(f"cannot reach {self._origin}: {str(error) or type(error).__name__}") from error
        finally:
            deadline.cancel()
            connection.close()


def _hang_up(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
