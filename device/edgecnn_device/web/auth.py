"""Who may see what: the token, the methods, the headers of every answer. All requests pass here first.

No answer names an address of its own: behind a reverse proxy at a sub-path, all of them are relative.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgecnn_device.web.options import WebOptions, is_loopback

OPEN_PATHS = frozenset({"/healthz", "/style.css", "/icon.svg"})
LOGIN = "/login"
ACTIONS = frozenset({"/api/acknowledge"})
# A page of elsewhere cannot send this header here: its browser would ask first, by OPTIONS, and is refused.
ACTION_HEADER = "x-edgecnn-action"
_COOKIE_S = 30 * 86400
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'",
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
<link rel="stylesheet" href="{root}style.css">
<main class="refused">
<h1>A token is needed</h1>
<form action="{root}" method="get">
<label for="token">It stands in the file that the camera was started with.</label>
<p><input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Open the page</button></p>
</form>
<p class="hint">Or <a href="{root}login">sign in</a> with any user name and the token as password.</p>
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
        """Tell whether a request has shown the token: by cookie, as `Authorization: Bearer`, or as the password of `Basic`."""
        if self._token is None:
            return True
        headers = Headers(scope=scope)
        if _is_same(_read_authorization(headers.get("authorization", "")), self._token):
            return True
        # Two cameras behind one proxy may have cookies of one name, told apart by their paths alone.
        return any(_is_same(found, self._pass()) for found in _read_cookies(headers.get("cookie", ""), self._cookie))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        is_action = scope["path"] in ACTIONS
        if scope["method"] not in (("POST",) if is_action else ("GET", "HEAD")):
            allowed = "POST" if is_action else "GET, HEAD"
            return _refuse(405, f"only {allowed}", {"Allow": allowed})
        if is_action and ACTION_HEADER not in headers:
            return _refuse(403, f"this needs the header {ACTION_HEADER}")
        if headers.get("content-length", "0").strip() != "0" or "transfer-encoding" in headers:
            return _refuse(413, "requests here have no body")
        # A page of elsewhere whose name suddenly points to this machine (DNS rebinding) would read what nobody guards.
        if self._only_local and not is_loopback(_host_name(headers.get("host", ""))):
            return _refuse(421, "this address is served for localhost only; a camera that others reach needs --web-token-file")
        if self._token is None:
            return None
        return self._ask_for_token(scope)

    def _ask_for_token(self, scope: Scope) -> Response | None:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for key, value in pairs if key == "token"]
        if given and self._token is not None and _is_same(given[0], self._token):
            return self._welcome(scope, scope["path"].rpartition("/")[2], [pair for pair in pairs if pair[0] != "token"])
        if self.is_allowed(scope):
            return self._welcome(scope, "", pairs) if scope["path"] == LOGIN else None
        return None if scope["path"] in OPEN_PATHS else _ask(scope)

    def _welcome(self, scope: Scope, name: str, pairs: list[tuple[str, str]]) -> Response:
        """Set the cookie and lead to `name` in the same folder, without the token, which is to stay in no history or log.

        The cookie names no path, so that it belongs to the folder in which the browser sees this address.
        """
        query = f"?{urlencode(pairs)}" if pairs else ""
        answer = RedirectResponse("./" + quote(name) + query, 303)
        is_secure = Headers(scope=scope).get("x-forwarded-proto") == "https"
        answer.set_cookie(
            self._cookie,
            self._pass().decode(),
            max_age=_COOKIE_S,
            path=None,
            secure=is_secure,
            httponly=True,
            samesite="strict",
        )
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


def _ask(scope: Scope) -> Response:
    """Ask for the token: a person who opens a page by a form, all else by a challenge that programs know how to answer."""
    is_person = "text/html" in Headers(scope=scope).get("accept", "") and scope["path"] != LOGIN
    kinds = ("Bearer",) if is_person else ("Basic", "Bearer")
    page = _REFUSED.replace("{root}", "../" * (scope["path"].count("/") - 1) or "./")
    return HTMLResponse(page, 401, {"WWW-Authenticate": ", ".join(f'{kind} realm="edgecnn"' for kind in kinds)})


def _refuse(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    # Closed afterwards: what else the visitor wants to send is not read.
    return PlainTextResponse(text + "\n", status, {"Connection": "close", **(headers or {})})


def _is_same(given: str, expected: bytes) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected)


def _read_authorization(header: str) -> str:
    """Return the token of a `Bearer` header, or the password of a `Basic` one (RFC 7617); else an empty text."""
    kind, _, given = header.partition(" ")
    if kind.lower() == "bearer":
        return given.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(given.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _read_cookies(header: str, name: str) -> list[str]:
    pairs = [pair.strip().partition("=") for pair in header.split(";")]
    return [value for key, _, value in pairs if key == name]


def _host_name(host: str) -> str:
    """Return a Host header without its port; `[::1]:80` gives `::1`."""
    name, _, port = host.lower().rpartition(":")
    if not name or host.endswith("]"):
        name, port = host.lower(), ""
    if port and not port.isdecimal():
        return ""
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
