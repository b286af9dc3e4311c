"""Putting a finished set of files in its place, as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from types import FrameType

from edgecnn.errors import OutputError
from edgecnn.files import make_folder

REJECTED = ".rejected"
PREVIOUS = ".previous"


@contextlib.contextmanager
def staging(out: Path) -> Iterator[Path]:
    """Give a hidden folder inside `out` to prepare files in, and remove it afterwards whatever happens.

    Raises OutputError when `out` cannot be made or written to, or when the disk is full.
    """
    make_folder(out)
    try:
        folder = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {_reason(error)}; choose another folder with --out") from error
    try:
        yield folder
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write to {out}: {_reason(error)}; an earlier export there is untouched") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(
    staged: Path, out: Path, names: Collection[str], *, obsolete: Collection[str] = (), superseded: Collection[str] = ()
) -> None:
    """Move the files `names`, in order, from `staged` to `out`, and take the `obsolete` ones away.

    What of the `superseded` there is becomes `X.previous`.
    Signals wait until it is done; when a move fails, all files of before come back. A file `X.rejected` takes the place of
    `X`: an older `X` becomes `X.previous`, so that nobody takes it for the new result. A new `X` removes both.
    """
    backup = staged / "before"
    backup.mkdir()
    moves = [move for name in names for move in _clearing(name, out, backup)]
    moves += [(out / name, backup / name) for name in obsolete]
    moves += [(out / name, out / (name + PREVIOUS)) for name in superseded]
    moves += [(staged / name, out / name) for name in names]
    done: list[tuple[Path, Path]] = []
    with _undisturbed():
        try:
            for source, target in moves:
                if source.exists():
                    source.replace(target)
                    done.append((source, target))
        except OSError as error:
            for source, target in reversed(done):
                target.replace(source)
            raise OutputError(f"cannot write to {out}: {_reason(error)}; the earlier files were put back") from error
    _flush(out)


def _clearing(name: str, out: Path, backup: Path) -> list[tuple[Path, Path]]:
    """Return the moves that make room for a file."""
    plain = name.removesuffix(REJECTED)
    if name == plain:
        return [(out / old, backup / old) for old in (plain, plain + REJECTED, plain + PREVIOUS)]
    return [(out / name, backup / name), (out / plain, out / (plain + PREVIOUS))]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and a polite kill wait until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        waiting.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for waited in waiting:
            signal.raise_signal(waited)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
