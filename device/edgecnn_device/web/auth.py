"""Who may see what, and who may change it: the tokens, the methods, the headers of every answer. All requests pass here first.

No answer names an address of its own: behind a reverse proxy at a sub-path, all of them are relative.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgecnn_device.web.options import WebOptions, is_loopback

OPEN_PATHS = frozenset({"/healthz", "/style.css", "/icon.svg"})
LOGIN = "/login"
# What changes labels asks for more than other actions: the editor's token, and a token that only our own page can have read.
EDITS = frozenset({"/api/review/label", "/api/review/undo"})
ACTIONS = frozenset({"/api/acknowledge"}) | EDITS
# A page of elsewhere cannot send this header here: its browser would ask first, by OPTIONS, and is refused.
ACTION_HEADER = "x-edgecnn-action"
CSRF_HEADER = "x-edgecnn-csrf"
_CSRF_S = 12 * 3600
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

    def __init__(self, app: ASGIApp, options: WebOptions, port: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Guard `app` served on `port`."""
        self._app = app
        self._tokens = [token.encode() for token in (options.token, options.editor_token) if token is not None]
        self._editor = None if options.editor_token is None else options.editor_token.encode()
        self._clock, self._secret = clock, secrets.token_bytes(32)
        # Cookies know no ports: two cameras on one machine must not take each other's.
        self._cookie = f"edgecnn-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        answer = self._refusal(scope) or self._app
        await answer(scope, receive, with_headers(send))

    def is_allowed(self, scope: Scope) -> bool:
        """Tell whether a request has shown a token: by cookie, as `Authorization: Bearer`, or as the password of `Basic`."""
        return not self._tokens or any(self._has_shown(scope, token) for token in self._tokens)

    def may_edit(self, scope: Scope) -> bool:
        """Tell whether a request may change labels: the editor's may; everybody's where no tokens are asked for."""
        return not self._tokens if self._editor is None else self._has_shown(scope, self._editor)

    def csrf_token(self, scope: Scope) -> str:
        """Return what a page has to send with its changes: a page of elsewhere cannot read it. It is good for twelve hours."""
        issued = f"{self._clock():.0f}"
        return f"{issued}.{self._csrf_proof(issued, self.may_edit(scope))}"

    def _has_csrf_token(self, scope: Scope) -> bool:
        issued, _, proof = Headers(scope=scope).get(CSRF_HEADER, "").partition(".")
        is_fresh = issued.isascii() and issued.isdecimal() and len(issued) < 16 and self._clock() - int(issued) < _CSRF_S
        return is_fresh and _is_same(proof, self._csrf_proof(issued, self.may_edit(scope)).encode())

    def _csrf_proof(self, issued: str, may_edit: bool) -> str:
        return hmac.new(self._secret, f"{issued} {may_edit}".encode(), hashlib.sha256).hexdigest()

    def _has_shown(self, scope: Scope, token: bytes) -> bool:
        headers = Headers(scope=scope)
        if _is_same(_read_authorization(headers.get("authorization", "")), token):
            return True
        # Two cameras behind one proxy may have cookies of one name, told apart by their paths alone.
        return any(_is_same(found, _pass(token)) for found in _read_cookies(headers.get("cookie", ""), self._cookie))

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
        if not self._tokens and not is_loopback(_host_name(headers.get("host", ""))):
            return _refuse(421, "this address is served for localhost only; a camera that others reach needs --web-token-file")
        refusal = self._ask_for_token(scope) if self._tokens else None
        return self._refuse_edit(scope) if refusal is None and scope["path"] in EDITS else refusal

    def _refuse_edit(self, scope: Scope) -> Response | None:
        if not self.may_edit(scope):
            return _refuse(403, "this token may look and not label; labelling needs that of --web-editor-token-file")
        if not self._has_csrf_token(scope):
            return _refuse(403, "this page is too old, or another's: load it again")
        return None

    def _ask_for_token(self, scope: Scope) -> Response | None:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for key, value in pairs if key == "token"]
        shown = next((token for token in self._tokens if given and _is_same(given[0], token)), None)
        if shown is not None:
            others = [pair for pair in pairs if pair[0] != "token"]
            return self._welcome(scope, shown, scope["path"].rpartition("/")[2], others)
        known = next((token for token in reversed(self._tokens) if self._has_shown(scope, token)), None)
        if known is not None:
            return self._welcome(scope, known, "", pairs) if scope["path"] == LOGIN else None
        return None if scope["path"] in OPEN_PATHS else _ask(scope)

    def _welcome(self, scope: Scope, token: bytes, name: str, pairs: list[tuple[str, str]]) -> Response:
        """Set the cookie and lead to `name` in the same folder, without the token, which is to stay in no history or log.

        The cookie names no path, so that it belongs to the folder in which the browser sees this address.
        """
        query = f"?{urlencode(pairs)}" if pairs else ""
        answer = RedirectResponse("./" + quote(name) + query, 303)
        is_secure = Headers(scope=scope).get("x-forwarded-proto") == "https"
        answer.set_cookie(
            self._cookie,
            _pass(token).decode(),
            max_age=_COOKIE_S,
            path=None,
            secure=is_secure,
            httponly=True,
            samesite="strict",
        )
        return answer


def _pass(token: bytes) -> bytes:
    """Return what the cookie holds: it proves the token and does not tell it."""
    return hmac.new(token, b"edgecnn visitor", hashlib.sha256).hexdigest().encode()


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
