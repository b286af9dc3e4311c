"""Logging in to a camera's web server: Basic (RFC 7617) and Digest (RFC 7616, and the older RFC 2617)."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable
from urllib.request import parse_http_list, parse_keqv_list

from edgecnn.errors import CameraError

_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


class Login:
    """Answers a server's challenges with a user's name and password, and goes on answering the last one unasked."""

    def __init__(self, user: str, password: str, make_nonce: Callable[[], str] = lambda: os.urandom(8).hex()) -> None:
        """Log in as `user`."""
        self._user, self._password = user, password
        self._make_nonce = make_nonce
        self._challenge: dict[str, str] | None = None
        self._basic = False
        self._count = 0

    def hear(self, challenges: Iterable[str]) -> None:
        """Take the best of the values of WWW-Authenticate. CameraError when there is none that is known here."""
        known = [challenge.strip() for challenge in challenges]
        for challenge in known:
            scheme, _, fields = challenge.partition(" ")
            if scheme.lower() == "digest":
                found = parse_keqv_list(parse_http_list(fields))
                if _hash_name(found) in _HASHES and "auth" in found.get("qop", "auth").replace(",", " ").split():
                    self._challenge, self._basic, self._count = found, False, 0
                    return
        if any(challenge.partition(" ")[0].lower() == "basic" for challenge in known):
            self._challenge, self._basic = None, True
            return
        raise CameraError(
            f"the camera demands a login that is not supported here: {', '.join(c[:40] for c in known) or 'none named'}"
        )

    def header(self, method: str, target: str) -> str | None:
        """Return the value of Authorization for a request, None before any challenge."""
        if self._basic:
            return "Basic " + base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        if self._challenge is None:
            return None
        self._count += 1
        return self._digest(self._challenge, method, target)

    def _digest(self, challenge: dict[str, str], method: str, target: str) -> str:
        name = _hash_name(challenge)

        def digest(text: str) -> str:
            return _HASHES[name](text.encode()).hexdigest()

        realm, nonce = challenge.get("realm", ""), challenge.get("nonce", "")
        count, own_nonce = f"{self._count:08x}", self._make_nonce()
        secret = digest(f"{self._user}:{realm}:{self._password}")
        if challenge.get("algorithm", "").upper().endswith("-SESS"):
            secret = digest(f"{secret}:{nonce}:{own_nonce}")
        wanted = digest(f"{method}:{target}")
        fields = {"username": self._user, "realm": realm, "nonce": nonce, "uri": target}
        if "qop" in challenge:
            fields["response"] = digest(f"{secret}:{nonce}:{count}:{own_nonce}:auth:{wanted}")
            unquoted = f", qop=auth, nc={count}"
            fields["cnonce"] = own_nonce
        else:
            fields["response"], unquoted = digest(f"{secret}:{nonce}:{wanted}"), ""
        if "opaque" in challenge:
            fields["opaque"] = challenge["opaque"]
        if "algorithm" in challenge:
            unquoted += f", algorithm={challenge['algorithm']}"
        quoted = ", ".join(f'{key}="{_escaped(value)}"' for key, value in fields.items())
        return f"Digest {quoted}{unquoted}"


def _hash_name(challenge: dict[str, str]) -> str:
    return challenge.get("algorithm", "MD5").upper().removesuffix("-SESS")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
