"""Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecnn.errors import InputError, OutputError
from edgecnn.text import json_text

# Stands in every picture and page that is drawn here, so that a later one may take its place.
MADE_HERE = "made by edgecnn"
_LOOKED_AT_BYTES = 2**16
CACHE_VARIABLE = "EDGECNN_CACHE"
_OFF = ("", "0", "off", "no", "none")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step; an interruption leaves the old file or none, never a part.

    Raises OutputError when the folder is missing, not writable or full.
    """
    with replacing(path) as beside:
        beside.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all."""
    write_bytes(path, (json_text(value) + "\n").encode())


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; on a clean exit it is flushed and renamed to `path`, else removed.

    The path given keeps the suffix of `path`, since Keras and Matplotlib choose their format by it.
    Raises OutputError when the folder is missing, not writable or full, or when `path` is a folder or a device.
    """
    import tempfile  # who only reads does without

    if path.exists() and not path.is_file():
        # Renaming over /dev/null would replace the device for everybody.
        raise OutputError(f"cannot write {path}: it exists and is not a regular file; choose another name")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=f".part{path.suffix}", dir=path.parent)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {_reason(error)}; choose another folder") from error
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        flush(beside)
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
        flush(path.parent)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write {path}: {_reason(error)}; nothing was replaced") from error
    finally:
        beside.unlink(missing_ok=True)


def check_replaceable(path: Path) -> None:
    """Raise OutputError unless nothing of anybody's is lost when `path` is written: it is not there, empty, or drawn here.

    For files that somebody names on a command line; whoever mistypes one is not to lose a thesis.
    """
    if not exists(path) or (path.is_file() and (path.stat().st_size == 0 or is_made_here(path))):
        return
    kind = "was not made by edgecnn" if path.is_file() else "is not a regular file"
    raise OutputError(f"{path} exists and {kind}; it is not overwritten: choose another name, or move it away")


def is_made_here(path: Path) -> bool:
    """Tell whether a picture or page was drawn by edgecnn."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT_BYTES)
        file.seek(max(0, path.stat().st_size - _LOOKED_AT_BYTES))
        return MADE_HERE.encode() in head or MADE_HERE.encode() in file.read()


def make_folder(path: Path) -> Path:
    """Create `path` with its parents and return it; OutputError when that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create the folder {path}: {_reason(error)}; choose another with --out") from error
    return path


def cache_folder() -> Path | None:
    """Return where edgecnn keeps what it can find again: `EDGECNN_CACHE`, else `edgecnn` in `XDG_CACHE_HOME` or `~/.cache`.

    None where EDGECNN_CACHE is empty, `off` or `0`, or this user has no home.
    """
    stated = os.environ.get(CACHE_VARIABLE)
    if stated is not None:
        return None if stated.strip().lower() in _OFF else Path(stated).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():  # the specification wants relative ones ignored
        return base / "edgecnn"
    with contextlib.suppress(RuntimeError):
        return Path.home() / ".cache" / "edgecnn"
    return None


def exists(path: Path) -> bool:
    """Tell whether there is a file or folder of this name; False for a name that no file can have, or that may not be seen."""
    try:
        return path.exists()
    except OSError:
        return False


def read_bytes(path: Path, *, at_most: int | None = None) -> bytes:
    """Read a whole file; InputError names the file when it is missing, unreadable or above `at_most` bytes.

    Folders, devices and pipes are refused: /dev/zero has no end, and a pipe may never begin.
    """
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever; regular files ignore it.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise InputError(f"cannot read {path}: is a directory")
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"cannot read {path}: it is a device or a pipe, not a file")
            if at_most is not None and status.st_size > at_most:
                raise InputError(f"{path} has {status.st_size} bytes; at most {at_most} are read")
            return file.read()
    except OSError as error:
        raise InputError(f"cannot read {path}: {_reason(error)}") from error


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
