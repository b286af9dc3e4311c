"""Files of one line that nobody else should read: a token, a password, the address of a camera."""

from __future__ import annotations

import stat
from pathlib import Path

from edgecnn.errors import InputError
from edgecnn.files import read_bytes

# The camera's options that name such a file.
OPTIONS = ("source-file", "web-token-file", "web-editor-token-file", "mqtt-password-file", "on-secret-file")
_MAX_BYTES = 4096


def read_secret(path: Path, option: str) -> str:
    """Return the one line of a file; InputError names the file and the option and never the content."""
    try:
        line = read_bytes(path, at_most=_MAX_BYTES).decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InputError(f"{option} {path} is not UTF-8 text") from None
    if not line.strip() or "\n" in line:
        raise InputError(f"{option} {path} must hold one line")
    return line


def exposure(path: Path) -> str | None:
    """Say that everybody on this machine can read or write the file, and what to do; None where nobody else can."""
    try:
        mode = path.stat().st_mode
        # A folder that others may not enter keeps them from whatever is in it.
        reachable = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)
    except OSError:
        return None  # whoever opens it will say so
    if not (mode & (stat.S_IROTH | stat.S_IWOTH) and reachable):
        return None
    verb = "read" if mode & stat.S_IROTH else "write"
    return f"{path} holds a secret, and everybody on this machine can {verb} it: chmod o= {path}"
