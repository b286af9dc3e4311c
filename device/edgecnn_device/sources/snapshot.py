"""Cameras that give a picture for each request: their address is asked again and again over one connection."""

from __future__ import annotations

import http.client
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from edgecnn import __version__
from edgecnn.addresses import origin
from edgecnn.errors import CameraError, PictureError
from edgecnn.pictures import decode_picture
from edgecnn_device.frames import Image
from edgecnn_device.sources.http_login import Login

if TYPE_CHECKING:
    from edgecnn_device.sources.process import Request

SNAPSHOT_FPS = 1.0
# Endings of addresses that give a stream for sure: some cameras serve one visitor at a time, who must not be our question.
_STREAMS = (".mjpg", ".mjpeg", ".m3u8", ".mpd", ".ts", ".mp4", ".mkv", ".flv", ".avi", ".sdp")
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"BM")
_MOST_BYTES, _MOST_REDIRECTS, _MOST_DAMAGED = 2**25, 3, 30


@dataclass(frozen=True)
class Answer:
    """What a server answered: the status, the headers in small letters, the body (empty unless it is one picture)."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Snapshots:
    """Polls an address at a steady pace; a call gives the next picture, or None for `idle_reason`.

    A picture is not new when the server says so (304, by its ETag or Last-Modified) or sends the very same bytes.
    """

    polled = True
    idle_reason = "waiting until it is time to ask"

    def __init__(self, connection: Connection, first: Answer, request: Request, clock: Callable[[], float]) -> None:
        """Go on from the `first` answer."""
        self._connection = connection
        self._answer: Answer | None = first
        self._period_s = 1 / (request.fps or SNAPSHOT_FPS)
        self._patience_s = request.read_timeout_s / 2
        self._clock = clock
        self._due_s = clock()
        self._last = b""
        self._damaged = 0

    def __call__(self) -> Image | None:
        """Wait until it is time, ask, and decode. CameraError when the camera fails."""
        answer, self._answer = self._answer, None
        if answer is None:
            left_s = self._due_s - self._clock()
            if left_s > self._patience_s:  # a word to the parent, which would think that we hang
                time.sleep(self._patience_s)
                self.idle_reason = "waiting until it is time to ask"
                return None
            time.sleep(max(0.0, left_s))
            try:
                answer = self._connection.ask()
            except http.client.HTTPException as error:  # its text quotes the answer, or the address
                name = self._connection.name
                raise CameraError(f"{name} sends an invalid HTTP response: {type(error).__name__}") from error
        # Time that was lost is not made up for.
        self._due_s = max(self._due_s, self._clock() - self._period_s) + self._period_s
        return self._decode(answer)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _decode(self, answer: Answer) -> Image | None:
        if answer.status == http.client.NOT_MODIFIED or answer.body == self._last:
            self.idle_reason = "the camera still gives the same picture"
            return None
        if not is_picture(answer):
            raise CameraError(f"{self._connection.name} no longer answers with a picture: {describe(answer)}")
        self._last = answer.body
        try:
            image_bgr = decode_picture(answer.body, name="the picture")
        except PictureError as error:
            self._damaged += 1
            if self._damaged >= _MOST_DAMAGED:
                raise CameraError(f"{self._connection.name}: {_MOST_DAMAGED} damaged pictures in a row: {error}") from error
            self.idle_reason = f"the last picture was damaged: {error}"
            return None
        self._damaged = 0
        return image_bgr


class Connection:
    """One connection to a camera's web server, kept open between requests and made again when the server closes it."""

    def __init__(self, address: str, timeout_s: float) -> None:
        """Prepare; nothing is connected before the first request. No step of a request may take longer than `timeout_s`."""
        self.name = origin(address)
        self._parts = urlsplit(address)
        self._timeout_s = timeout_s
        self._login = _login(self._parts)
        self._http: http.client.HTTPConnection | None = None
        self._origin = _origin(self._parts)
        self._known: dict[str, str] = {}

    def ask(self) -> Answer:
        """Ask for the picture, logging in and following redirections where that is wanted.

        CameraError when there is none, HTTPException for what is not HTTP; the connection is closed then.
        """
        try:
            return self._ask()
        except BaseException:
            self.close()
            raise

    def _ask(self) -> Answer:
        parts, asked_to_log_in = self._parts, False
        for _ in range(_MOST_REDIRECTS + 2):
            answer = self._request(parts, with_login=_origin(parts) == _origin(self._parts))
            if answer.status == http.client.UNAUTHORIZED:
                if self._login is None or asked_to_log_in:
                    raise CameraError(f"{self.name} refuses the login: give http://USER:PASSWORD@... with the right ones")
                self._login.hear(answer.headers.get("www-authenticate", "").split("\n"))
                asked_to_log_in = True
            elif answer.status in (301, 302, 303, 307, 308) and "location" in answer.headers:
                parts = self._led_to(parts, answer.headers["location"])
            else:
                return self._remembered(answer)
        raise CameraError(f"{self.name} redirects endlessly")

    def close(self) -> None:
        """Close it."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _led_to(self, parts: SplitResult, location: str) -> SplitResult:
        """Return where a redirection leads; its address may hold a password, as ours may, and no message repeats it."""
        try:
            found = urlsplit(urljoin(parts.geturl(), location))
            usable = found.scheme in ("http", "https") and found.hostname and found.port != 0
        except ValueError:  # its own text would quote the address
            usable = False
        if not usable:
            raise CameraError(f"{self.name} leads elsewhere: to no http address")
        return found

    def _remembered(self, answer: Answer) -> Answer:
        if answer.status == http.client.NOT_MODIFIED:
            return answer
        if answer.status != http.client.OK:
            raise CameraError(f"{self.name} answers {answer.status} {http.client.responses.get(answer.status, '')}".rstrip())
        names = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
        self._known = {names[key]: answer.headers[key] for key in names if key in answer.headers}
        return answer

    def _request(self, parts: SplitResult, *, with_login: bool) -> Answer:
        target = _encoded(parts._replace(scheme="", netloc="", fragment="", path=parts.path or "/").geturl())
        headers: dict[str, str | bytes] = {
            "User-Agent": f"edgecnn/{__version__}",
            "Accept": "image/*, */*;q=0.1",
            **self._known,
        }
        login = self._login.header("GET", target) if self._login is not None and with_login else None
        if login is not None:
            headers["Authorization"] = login.encode()  # as text it would have to be Latin-1
        while True:
            is_old = self._http is not None and _origin(parts) == self._origin
            try:
                return self._exchange(parts, target, headers)
            except UnicodeError:
                raise CameraError(f"cannot open {self.name}: its host name is not valid") from None
            except OSError as error:
                self.close()
                if not (is_old and isinstance(error, ConnectionError)):  # servers close a connection that stood idle
                    raise CameraError(f"cannot open {self.name}: {_reason(error)}") from error

    def _exchange(self, parts: SplitResult, target: str, headers: Mapping[str, str | bytes]) -> Answer:
        connection = self._connected(parts)
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        answer = Answer(response.status, _headers(response))
        if answer.status != http.client.OK or is_picture(answer):
            answer = Answer(answer.status, answer.headers, _body(response, self.name))
        if response.will_close or not response.isclosed():
            self.close()
        return answer

    def _connected(self, parts: SplitResult) -> http.client.HTTPConnection:
        if self._http is None or _origin(parts) != self._origin:
            self.close()
            self._origin = _origin(parts)
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._http = kind(parts.hostname or "", parts.port, timeout=self._timeout_s)
        return self._http


def try_snapshots(request: Request, clock: Callable[[], float] = time.monotonic) -> Snapshots | None:
    """Ask an http address once; return a poller when it gives one picture, None when it may be a stream.

    Raises CameraError when nobody answers or the answer is an error.
    """
    parts = urlsplit(request.target)
    if parts.path.lower().endswith(_STREAMS):
        return None
    # The parent ends this process sooner. This ends one that has lost its parent.
    connection = Connection(request.target, 2 * max(request.open_timeout_s, request.read_timeout_s))
    try:
        answer = connection.ask()
    except http.client.HTTPException:  # FFmpeg takes answers that are not quite HTTP
        return None
    if is_picture(answer):
        return Snapshots(connection, answer, request, clock)
    connection.close()
    return None


def is_picture(answer: Answer) -> bool:
    """Say whether an answer is one picture, by its type or, where that says nothing, by how its body begins."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/"):
        return True
    is_vague = kind in ("", "application/octet-stream") and "content-length" in answer.headers
    return is_vague and (not answer.body or answer.body.startswith(_PICTURES))


def describe(answer: Answer) -> str:
    """Return what an answer is instead of a picture."""
    return answer.headers.get("content-type", "no content type")[:80]


def _login(parts: SplitResult) -> Login | None:
    if parts.username is None:
        return None
    user, password = unquote(parts.username), unquote(parts.password or "")
    if not (user + password).isprintable():
        raise CameraError("user or password of the address contain characters that cannot be sent")
    return Login(user, password)


def _encoded(target: str) -> str:
    """Return what a request may ask for: letters beyond ASCII, spaces and the like as `%` and two digits, as browsers do."""
    return quote(target, safe=string.punctuation)


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in response.getheaders():
        name = key.lower()
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


def _body(response: http.client.HTTPResponse, name: str) -> bytes:
    body = response.read(_MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise CameraError(f"{name} sends more than {_MOST_BYTES // 2**20} MB for a picture")
    return body


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if type(error).__name__ == "SSLCertVerificationError":
        return f"its certificate is not trusted ({error}); SSL_CERT_FILE=camera.pem trusts it, or use http://"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
