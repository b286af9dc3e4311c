"""Addresses of cameras and brokers. Whatever stands in one beside scheme, host and port may be a secret and is never shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from edgecnn.errors import InputError

# A single slash counts: `rtsp:/user:password@host` is a typing error and no path.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_ADDRESS_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/[^\s'\"()]+")
# Whatever may hold a password stands behind one of these.
_SECRETIVE = frozenset("@?=&#:")
_HOST_LETTERS = frozenset("-._~:%")
# FFmpeg listens on these where no host is given.
_WITHOUT_HOST = ("udp", "rtp", "tcp")
FORM = "SCHEME://[USER[:PASSWORD]@]HOST[:PORT]/PATH"
UNREADABLE = "an address that cannot be read"


def looks_like_address(text: str) -> bool:
    """Tell whether a text is meant as an address, be it a good one or not."""
    return _ADDRESS.match(text) is not None


def may_hold_secret(text: str) -> bool:
    """Tell whether a text that is not a readable address could still have a password in it, so that no message repeats it."""
    return looks_like_address(text) or bool(_SECRETIVE & set(text))


def holds_secret(address: str) -> bool:
    """Tell whether an address has a place in it where cameras take a password: before an @, or as a parameter."""
    return looks_like_address(address) and bool(set("@?=") & set(address))


def hide_addresses(text: str) -> str:
    """Return a text that quotes what somebody typed, in which each address is replaced by its origin."""
    return _ADDRESS_IN_TEXT.sub(lambda found: origin(found[0]), text)


def hide(text: str, address: str) -> str:
    """Return a text of somebody else's, such as an error of a library, in which nothing of `address` but its origin is left."""
    text = text.replace(address, origin(address))
    try:
        parts = urlsplit(address)
    except ValueError:
        return text
    pieces = {parts.netloc.rpartition("@")[0], parts.username, parts.password, parts.path, parts.query, parts.fragment}
    for piece in sorted(pieces - {None, "", "/"}, key=lambda piece: -len(piece or "")):
        text = text.replace(piece or "", "***")
    return text


def origin(address: str) -> str:
    """Return what may be shown of an address: its scheme, host and port. It never raises."""
    try:
        parts = split_address(address)
    except InputError:
        return UNREADABLE
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return f"{parts.scheme}://{host}" + ("" if parts.port is None else f":{parts.port}")


def split_address(address: str, *, schemes: Sequence[str] = (), form: str = FORM) -> SplitResult:
    """Split an address whose scheme is one of `schemes` (any, where there are none); `form` says what was expected.

    Raises InputError for one that cannot be read without doubt. Its text never repeats the address: with a password that has
    a `#`, `/` or `?` in it, what looks like the host is the user's name, and what looks like the port is the password.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:  # its own text would quote the address
        raise _refuse("it has no host and port that can be read", form) from None
    if "://" not in address or not looks_like_address(address) or (schemes and parts.scheme not in schemes):
        raise _refuse(f"it does not begin with {' or '.join(f'{s}://' for s in schemes or ('SCHEME',))}", form)
    if not address.isprintable() or " " in address:
        raise _refuse("it holds spaces or characters that cannot be printed", form)
    if "@" in parts.path + parts.query + parts.fragment:
        raise _refuse("an @ follows a /, ? or #", form)
    if port == 0:
        raise _refuse("port 0 is not valid", form)
    if not _is_host(parts.hostname or "") and (parts.hostname or parts.scheme not in _WITHOUT_HOST or port is None):
        raise _refuse("it has no host that can be read" if parts.hostname else "it has no host", form)
    return parts


def _is_host(host: str) -> bool:
    return bool(host) and all(letter.isalnum() or letter in _HOST_LETTERS for letter in host)


def _refuse(why: str, form: str) -> InputError:
    return InputError(
        f"the address cannot be used: {why}; expected {form} (it is not shown here, since it may hold a password, in which "
        "# is written %23, / %2F, ? %3F and @ %40)"
    )
