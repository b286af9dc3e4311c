"""Where the page is served and to whom: an address, and a token wherever others can reach it."""

from __future__ import annotations

import importlib.util
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from edgecnn.errors import InputError, MissingDependencyError
from edgecnn.numbers import whole_number
from edgecnn_device.secret_files import read_secret

USUAL_HOST = "127.0.0.1"
_TOKEN_LENGTHS = range(16, 257)


@dataclass(frozen=True)
class WebOptions:
    """The address to serve on (port 0: any free one), and the token that visitors must show; None: everybody is let in.

    Who shows the `editor_token` may label samples too. Without one, that is for whoever is let in without a token.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)
    editor_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.token is not None and self.token == self.editor_token:
            raise InputError("--web-token-file and --web-editor-token-file hold the same token; the reader's must be another")
        if self.token is None and self.editor_token is None and not is_loopback(self.host):
            raise InputError(
                f"--web {self.host}:{self.port} can be reached from other machines and needs --web-token-file FILE "
                f"(one line of {_TOKEN_LENGTHS.start} characters or more, such as from: openssl rand -hex 16)"
            )


def read_web_options(address: str, token_file: Path | None, editor_file: Path | None = None) -> WebOptions:
    """Read `[HOST:]PORT` and the tokens; InputError for what cannot be meant, MissingDependencyError without the extra."""
    missing = [name for name in ("starlette", "uvicorn", "prometheus_client") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"{' and '.join(missing)} not installed. Install with: pip install 'edgecnn[web]'")
    host, port = parse_address(address)
    editor_token = None if editor_file is None else read_token(editor_file, "--web-editor-token-file")
    return WebOptions(host, port, None if token_file is None else read_token(token_file), editor_token)


def parse_address(text: str) -> tuple[str, int]:
    """Split `[HOST:]PORT`; an IPv6 address stands in brackets, and without a host it is this machine alone."""
    host, colon, port = text.rpartition(":")
    host = host if colon else USUAL_HOST
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    number = whole_number(port, at_most=2**16 - 1)
    if not host or number is None:
        raise InputError(f"--web {text!r}: give [HOST:]PORT, such as 8080, 0.0.0.0:8080 or [::1]:8080")
    return host, number


def read_token(path: Path, option: str = "--web-token-file") -> str:
    """Read the one line of a token file: 16 to 256 visible ASCII characters."""
    token = read_secret(path, option).strip()
    if len(token) not in _TOKEN_LENGTHS or not all("!" <= letter <= "~" for letter in token):
        raise InputError(
            f"{path}: a token is one line of {_TOKEN_LENGTHS.start} to {_TOKEN_LENGTHS.stop - 1} visible ASCII characters, "
            f"this has {len(token)}; make one with: openssl rand -hex 16"
        )
    return token


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address; of names, only `localhost` is believed."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
