"""Who may see what: the token, the methods, the headers of every answer. All requests pass here first."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgecnn_device.web.options import WebOptions, is_loopback

OPEN_PATHS = frozenset({"/healthz", "/style.css", "/icon.svg"})
_COOKIE_S = 30 * 86400
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_REFUSED = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>edgecnn: token needed</title>
<link rel="stylesheet" href="/style.css">
<main class="refused">
<h1>A token is needed</h1>
<p>Add <code>?token=…</code> to the address: the token stands in the file that the camera was started with.</p>
<p>You have just done so? <a href="/">Open the page</a>.</p>
</main>
</html>
"""


class Guard:
    """Lets those requests through to `app` that may see it, and sets the security headers of all answers."""

    def __init__(self, app: ASGIApp, options: WebOptions, port: int) -> None:
        """Guard `app` served on `port`."""
        self._app = app
        self._token = None if options.token is None else options.token.encode()
        self._only_local = options.token is None
        # Cookies know no ports: two cameras on one machine must not take each other's.
        self._cookie = f"edgecnn-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        answer = self._refusal(scope) or self._app
        await answer(scope, receive, with_headers(send))

    def is_allowed(self, scope: Scope) -> bool:
        """Tell whether a request has shown the token, by cookie or as `Authorization: Bearer`."""
        if self._token is None:
            return True
        headers = Headers(scope=scope)
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _is_same(given.strip(), self._token):
            return True
        return _is_same(_read_cookie(headers.get("cookie", ""), self._cookie), self._pass())

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return _refuse(405, "only GET and HEAD", {"Allow": "GET, HEAD"})
        if headers.get("content-length", "0").strip() != "0" or "transfer-encoding" in headers:
            return _refuse(413, "no request here has a body")
        # A page of elsewhere whose name suddenly points to this machine (DNS rebinding) would read what nobody guards.
        if self._only_local and not is_loopback(_host_name(headers.get("host", ""))):
            return _refuse(421, "this address is served for localhost only")
        if self._token is None:
            return None
        return self._ask_for_token(scope)

    def _ask_for_token(self, scope: Scope) -> Response | None:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for key, value in pairs if key == "token"]
        if given and self._token is not None and _is_same(given[0], self._token):
            return self._welcome(scope["path"], [pair for pair in pairs if pair[0] != "token"])
        if scope["path"] in OPEN_PATHS or self.is_allowed(scope):
            return None
        return HTMLResponse(_REFUSED, 401, {"WWW-Authenticate": 'Bearer realm="edgecnn"'})

    def _welcome(self, path: str, pairs: list[tuple[str, str]]) -> Response:
        """Set the cookie and lead to the same address without the token, which is to stay in no history or log."""
        query = f"?{urlencode(pairs)}" if pairs else ""
        answer = RedirectResponse("/" + quote(path.lstrip("/\\")) + query, 303)
        answer.set_cookie(self._cookie, self._pass().decode(), max_age=_COOKIE_S, path="/", httponly=True, samesite="strict")
        return answer

    def _pass(self) -> bytes:
        """Return what the cookie holds: it proves the token and does not tell it."""
        return hmac.new(self._token or b"", b"edgecnn visitor", hashlib.sha256).hexdigest().encode()


def with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    """Add the security headers to whatever is answered."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
        await send(message)

    return wrapped


def _refuse(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    # Closed afterwards: what else the visitor wants to send is not read.
    return PlainTextResponse(text + "\n", status, {"Connection": "close", **(headers or {})})


def _is_same(given: str, expected: bytes) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected)


def _read_cookie(header: str, name: str) -> str:
    pairs = [pair.strip().partition("=") for pair in header.split(";")]
    return next((value for key, _, value in pairs if key == name), "")


def _host_name(host: str) -> str:
    """Return a Host header without its port; `[::1]:80` gives `::1`."""
    name, _, port = host.lower().rpartition(":")
    if not name or host.endswith("]"):
        name, port = host.lower(), ""
    if port and not port.isdecimal():
        return ""
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
