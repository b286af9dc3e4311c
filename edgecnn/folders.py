"""Listing the pictures below a folder, for every command alike: each file is a picture, or is named with the reason why not."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from edgecnn.errors import InputError
from edgecnn.formats import HEAD_BYTES, PICTURE_SUFFIXES, RAW_SUFFIXES, looks_like_text, readable_formats, sniff
from edgecnn.progress import report
from edgecnn.quick_dataclass import dataclass
from edgecnn.text import counted, printable

# What file managers, archivers and network drives leave behind, in lower case; hidden names are passed over anyway.
_LITTER = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r", "__macosx", "__pycache__",
        "$recycle.bin", "#recycle", "@eadir", "@tmp", "system volume information", "lost+found",
    }
)  # fmt: skip
_OTHER = "no picture: "
SEEN = "a link to a folder that is looked through already"
UNREADABLE_FOLDER = "a folder that cannot be looked into"
_BACKUPS = frozenset({".bak", ".backup", ".old", ".orig", ".tmp", ".temp", ".part", ".partial", ".crdownload", ".download"})


@dataclass(frozen=True)
class Listing:
    """What lies below `folder`: paths relative to it.

    `pictures` are files that OpenCV can probably decode, by their first bytes, in natural order; `left_out` maps every other
    file (and folder that cannot be looked into) to the reason; `folders` are all that were looked into. Hidden files and the
    litter of file managers are in none of them.
    """

    folder: Path
    pictures: list[Path]
    left_out: dict[str, str]
    folders: list[Path]

    def paths(self) -> list[Path]:
        """Return the pictures as they can be opened."""
        return [self.folder / picture for picture in self.pictures]

    def excuse(self) -> str:
        """Return what to say behind "no pictures": what is there instead, or nothing."""
        return f": {count_reasons(self.left_out)}" if self.left_out else ""


def list_pictures(folder: Path) -> Listing:
    """Look through `folder` and all folders below it, links followed, each folder once.

    Raises InputError when `folder` itself cannot be looked into.
    """
    names = _names(folder)
    if isinstance(names, str):
        raise InputError(f"cannot look into the folder {folder}: {names}")
    found = Listing(folder, [], {}, [])
    root = Path(os.path.realpath(folder))
    above = {_identity(path.stat()) for path in (root, *root.parents)}
    seen: set[tuple[int, int]] = set()
    waiting = [Path(name) for name in reversed(names)]
    while waiting:
        path = waiting.pop()
        status = _status(folder / path)
        if isinstance(status, str):
            found.left_out[str(path)] = status
        elif not stat.S_ISDIR(status.st_mode):
            _sort_in(found, path, status)
        elif _identity(status) in above:
            found.left_out[str(path)] = "a link to a folder above it"
        elif _identity(status) in seen:
            found.left_out[str(path)] = SEEN
        else:
            seen.add(_identity(status))
            waiting += _enter(found, path)
    report("looking for pictures", len(found.pictures), len(found.pictures))
    return found


def list_all(paths: Iterable[Path]) -> Listing:
    """List the pictures named by files and folders, in the order given; a file named by itself is not judged.

    Paths are as they can be opened from here. Raises InputError when a path does not exist or a folder holds no picture.
    """
    whole = Listing(Path(), [], {}, [])
    for path in paths:
        if path.is_dir():
            inside = list_pictures(path)
            if not inside.pictures:
                raise InputError(f"the folder {path} holds no pictures{inside.excuse()}")
            whole.pictures.extend(inside.paths())
            whole.left_out.update({str(path / name): reason for name, reason in inside.left_out.items()})
        elif path.exists():
            whole.pictures.append(path)
        else:
            raise InputError(f"no such picture: {path}")
    return whole


def find_pictures(paths: Iterable[Path]) -> list[Path]:
    """Return the pictures that `list_all` lists."""
    return list_all(paths).pictures


def natural_key(path: Path) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts `a_2` before `a_10`."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)


def path_key(path: Path) -> tuple[tuple[tuple[int, int | str], ...], ...]:
    """Sort key of whole paths: the order in which they are listed."""
    return tuple(natural_key(Path(part)) for part in path.parts)


def count_reasons(left_out: dict[str, str], *, shown: int = 6) -> str:
    """Return one phrase such as `20 HEIC, which this OpenCV cannot read; 1 empty (nut/9.png)`, the most frequent first."""
    reasons = sorted(Counter(left_out.values()).items(), key=lambda item: (is_other(item[0]), -item[1]))
    phrases = []
    for reason, count in reasons:
        names = [name for name, other in left_out.items() if other == reason]
        where = f"{names[0]}" if count == 1 else f"{names[0]} and others"
        phrases.append(f"{count} {reason} ({where})")
    rest = len(phrases) - shown
    return printable("; ".join(phrases[:shown]) + (f"; and {rest} more reasons" if rest > 0 else ""))


def left_out_line(left_out: dict[str, str]) -> str:
    """Return one line on files that were left out."""
    return f"left out {counted(len(left_out), 'file')}: {count_reasons(left_out)}"


def is_other(reason: str) -> bool:
    """Tell whether a file was left out because it never was a picture: a table, a text."""
    return reason.startswith(_OTHER)


def _names(folder: Path) -> list[str] | str:
    """Return what is in a folder in natural order, without the hidden and the litter, or why it cannot be listed."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        return _reason(error)
    # The first sort settles a_1 against a_01.
    return sorted(sorted(name for name in names if not is_litter(name)), key=lambda name: natural_key(Path(name)))


def is_litter(name: str) -> bool:
    """Tell whether a file or folder is hidden, or what file managers leave behind."""
    return name.startswith(".") or name.lower() in _LITTER


def _status(path: Path) -> os.stat_result | str:
    try:
        return path.stat()
    except OSError as error:
        return "a link to nothing" if path.is_symlink() else _reason(error)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _enter(found: Listing, path: Path) -> list[Path]:
    """Take a folder up into `found` and return what is in it, the last first."""
    names = _names(found.folder / path)
    if isinstance(names, str):
        found.left_out[str(path)] = f"{UNREADABLE_FOLDER}: {names}"
        return []
    found.folders.append(path)
    report("looking for pictures", len(found.pictures), None)
    return [path / name for name in reversed(names)]


def _sort_in(found: Listing, path: Path, status: os.stat_result) -> None:
    reason = _why_not(found.folder / path, status)
    if reason is None:
        found.pictures.append(path)
    else:
        found.left_out[str(path)] = reason


def _why_not(path: Path, status: os.stat_result) -> str | None:
    """Say why a file is not taken for a picture; None when it is."""
    suffix = path.suffix.lower()
    if not stat.S_ISREG(status.st_mode):
        return "a device or pipe"
    if suffix in _BACKUPS or path.name.endswith(("~", "_original")):
        return "backup or unfinished copy"
    if suffix in RAW_SUFFIXES:
        return "camera raw, which OpenCV cannot read"
    if status.st_size == 0:
        return "empty" if suffix in PICTURE_SUFFIXES else f"{_OTHER}{suffix or 'no suffix'}"
    try:
        head = _head(path)
    except OSError as error:
        return _reason(error)
    kind = sniff(head)
    if kind in readable_formats():
        return None
    if kind is not None:
        return f"{kind}, which OpenCV cannot read" if kind != "video" else "video"
    if suffix in PICTURE_SUFFIXES:
        return f"named {suffix} but {'text' if looks_like_text(head) else 'no picture'}"
    return f"{_OTHER}{suffix or 'no suffix'}"


def _head(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        return file.read(HEAD_BYTES)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
