"""Putting a finished set of files in its place, as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from types import FrameType

from edgecnn.errors import OutputError
from edgecnn.files import MADE_HERE, exists, make_folder, read_bytes
from edgecnn.signals import handling

REJECTED = ".rejected"
PREVIOUS = ".previous"
Move = tuple[Path, Path | None]


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


def check_out(out: Path, names: Collection[str]) -> None:
    """Raise OutputError when a file in `out` that an export of the files `names` would replace is none that edgecnn made."""
    for name in names:
        for path in (out / name, out / (name + REJECTED), out / (name + PREVIOUS)):
            if exists(path) and not _is_ours(path, Path(name).suffix):
                raise OutputError(
                    f"{path} was not made by edgecnn and is not overwritten; choose another folder with --out, or move it away"
                )


def _is_ours(path: Path, suffix: str) -> bool:
    """Tell whether a file is an artifact with a contract, be it damaged, or a report."""
    if not path.is_file():
        return False
    if path.stat().st_size == 0:
        return True
    data = read_bytes(path)
    if suffix == ".json":
        return b'"candidates"' in data and b'"verdict"' in data
    if suffix == ".html":
        return MADE_HERE.encode() in data or b"edgecnn" in data[:4096]
    return b'"contract_sha256"' in data or b"edgecnn.json" in data


def install(
    staged: Path,
    out: Path,
    names: Collection[str],
    *,
    reports: Collection[str] = (),
    obsolete: Collection[str] = (),
    superseded: Collection[str] = (),
) -> None:
    """Move the files `names`, then the `reports` about them, from `staged` to `out`, and take the `obsolete` ones away.

    What of the `superseded` there is becomes `X.previous`. A file `X.rejected` takes the place of `X`: an older `X` becomes
    `X.previous`, so that nobody takes it for the new result. A new `X` removes both.
    Signals wait until it is done; when a move fails, all files of before come back. After a kill in the middle each file is
    the old or the new one, whole, and no report stands beside files that it does not speak of.
    """
    moves: list[Move] = [(out / name, None) for name in (*reports, *obsolete)]
    moves += [move for name in names for move in _moves(name, staged, out)]
    moves += [(out / name, out / (name + PREVIOUS)) for name in superseded]
    moves += [(staged / name, out / name) for name in reports]
    with _undisturbed():
        before = _keep(staged / "before", moves, out)
        try:
            for source, target in moves:
                if target is None:
                    source.unlink(missing_ok=True)
                elif source.exists():
                    source.replace(target)
        except OSError as error:
            for path, kept in before.items():
                path.unlink(missing_ok=True) if kept is None else kept.replace(path)
            raise OutputError(f"cannot write to {out}: {_reason(error)}; the earlier files were put back") from error
    _flush(out)


def _moves(name: str, staged: Path, out: Path) -> list[Move]:
    """Return what puts one file in its place; a move to None takes a file away."""
    plain = name.removesuffix(REJECTED)
    if name == plain:
        return [(staged / name, out / name), *((out / (plain + old), None) for old in (REJECTED, PREVIOUS))]
    return [(out / plain, out / (plain + PREVIOUS)), (staged / name, out / name)]


def _keep(folder: Path, moves: Collection[Move], out: Path) -> dict[Path, Path | None]:
    """Keep what `moves` would change in `out` a second time in `folder`; None stands for what is not there."""
    folder.mkdir()
    changed = {path for move in moves for path in move if path is not None and path.parent == out}
    kept: dict[Path, Path | None] = {path: folder / path.name if path.exists() else None for path in changed}
    for path, copy in kept.items():
        if copy is not None:
            try:
                copy.hardlink_to(path)
            except OSError:  # FAT knows no links
                shutil.copy2(path, copy)
    return kept


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and a polite kill wait until the block is done."""
    waiting: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        waiting.append(number)

    try:
        with handling(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), remember)):
            yield
    finally:
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
