"""What people say about samples: a log beside them to which acts are appended, and which nobody ever rewrites.

One line is one act: a label for one or several samples, or an act undone. It is written with one call under a lock and flushed
to the disk, so that two people can label at once, and a kill leaves a whole line or one that is not counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgecnn.datasets.layout import OTHERS, label_of, part_named
from edgecnn.errors import DatasetError, InputError, OutputError
from edgecnn.samples.folder import NAME

FILE = "labels.jsonl"
BAD = "_bad"  # a picture that shows nothing to learn from
HEAD = b'{"edgecnn":"labels of samples","version":1}\n'
_MOST_LINE, _MOST_LABEL, _MOST_NAME = 2**20, 100, 60


@dataclass(frozen=True)
class Act:
    """One line of the log: `by` said at a time that `samples` are of the class `label`, or took back the act `undo`."""

    act: str
    at: str
    by: str
    label: str | None = None
    samples: tuple[str, ...] = ()
    undo: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what stands in the log."""
        head = {"act": self.act, "at": self.at, "by": self.by}
        return head | ({"undo": self.undo} if self.undo else {"label": self.label, "samples": list(self.samples)})


@dataclass(frozen=True)
class Said:
    """What holds of a sample: the latest act that names it; `others` are acts of other people who said something else."""

    act: Act
    others: tuple[Act, ...] = ()

    @property
    def label(self) -> str:
        """The label that holds."""
        return str(self.act.label)

    @property
    def contradiction(self) -> str | None:
        """Say whose other label was overruled; None where nobody disagrees."""
        if not self.others:
            return None
        before = ", ".join(dict.fromkeys(f"{act.label} by {act.by}" for act in self.others))
        return f"{self.label} by {self.act.by} is the latest and holds; before: {before}"


@dataclass(frozen=True)
class Labels:
    """What the log says: `of` each labelled sample by its name, all `acts` in order, and how many lines are `damaged`."""

    of: dict[str, Said] = field(default_factory=dict)
    acts: tuple[Act, ...] = ()
    damaged: int = 0

    def last_act(self, by: str) -> Act | None:
        """Return the last act of a person that was not undone."""
        undone = {act.undo for act in self.acts if act.undo}
        own = [act for act in self.acts if act.by == by and act.label is not None and act.act not in undone]
        return own[-1] if own else None


def check_label(text: str) -> str:
    """Return a label as it is kept; InputError for one that could not be the name of a class folder."""
    if text in (OTHERS, BAD):
        return text
    if not text.strip():
        raise InputError("the label is empty; give the name of a class")
    try:
        label = label_of(text)
    except DatasetError as error:
        why = "it has line breaks or other control characters, or is not UTF-8"
        raise InputError(f"{text[:60]!a} cannot be the name of a class: {why}") from error
    if label.startswith(("_", ".")) or "/" in label or "\\" in label or len(label.encode()) > _MOST_LABEL:
        raise InputError(
            f"{label[:60]!r} cannot be the name of a class: it becomes a folder's, without slashes, and without . or _ in front"
        )
    if part_named(label) is not None:
        raise InputError(f"{label!r} is what a split is called, and cannot be the name of a class")
    return label


def check_person(text: str) -> str:
    """Return who says something, as it is kept; InputError for an empty or unprintable name."""
    name = unicodedata.normalize("NFC", text).strip()
    if not name or not name.isprintable() or len(name) > _MOST_NAME:
        raise InputError(f"{text[:60]!r} is not a name of 1 to {_MOST_NAME} letters")
    return name


class LabelLog:
    """The log of a folder of samples; any number of processes may read and append at once."""

    def __init__(self, folder: Path) -> None:
        """Name the log of `folder`; the first act creates it."""
        self.path = folder / FILE

    def label(self, samples: Sequence[str], label: str, *, by: str, at: datetime | None = None) -> Act:
        """Say that samples are of a class, of none (`_other`), or bad pictures (`_bad`).

        Raises InputError for a name that cannot be, OutputError when it cannot be written: then nothing was.
        """
        wrong = next((name for name in samples if not NAME.fullmatch(name)), None)
        if not samples or wrong is not None:
            raise InputError(f"{wrong[:60]!r} is not the name of a sample" if wrong else "no samples to label")
        return self._append(Act(secrets.token_hex(6), _time(at), check_person(by), check_label(label), tuple(samples)))

    def undo(self, act: str | None = None, *, by: str, at: datetime | None = None) -> Act:
        """Take back an act, or the last one of this person; the log keeps both. InputError where there is none."""
        labels = self.read()
        found = labels.last_act(check_person(by)) if act is None else next((a for a in labels.acts if a.act == act), None)
        if found is None or found.label is None:
            raise InputError(f"there is nothing to undo for {by}" if act is None else f"there is no act {act[:40]!r} to undo")
        return self._append(Act(secrets.token_hex(6), _time(at), check_person(by), undo=found.act))

    def read(self) -> Labels:
        """Return what holds; a line that a kill left unfinished is not counted. InputError for a file that is no such log."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return Labels()
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {(error.strerror or str(error)).lower()}") from error
        _check_head(data, self.path)
        lines = [line for line in data.split(b"\n")[1:] if line]
        acts = [_parse(line) for line in lines]
        whole = tuple(act for act in acts if act is not None)
        return Labels(_holding(whole), whole, len(acts) - len(whole))

    def _append(self, act: Act) -> Act:
        line = json.dumps(act.to_json(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if len(line) > _MOST_LINE:
            raise InputError(f"{len(act.samples)} samples are too many for one act; label fewer at a time")
        try:
            _append_line(self.path, line)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"cannot write {self.path}: {reason}; the label was not kept") from error
        return act


def _append_line(path: Path, line: bytes) -> None:
    """Append under a lock, behind a line end, and flush; what was written in part is taken back."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        _lock(descriptor)
        size = os.fstat(descriptor).st_size
        if size:
            _check_own(os.pread(descriptor, len(HEAD), 0), path, size)
        # A kill in the middle of the head leaves a part of it, and of a line a part without its end.
        head = HEAD[size:] if size < len(HEAD) else b"" if os.pread(descriptor, 1, size - 1) == b"\n" else b"\n"
        try:
            _write_all(descriptor, head + line)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_own(start: bytes, path: Path, size: int) -> None:
    if start != HEAD[: min(size, len(HEAD))]:
        raise OutputError(f"{path} is not a log of labels; it is left alone: move it away")


def _check_head(data: bytes, path: Path) -> None:
    if not data.startswith(HEAD) and not HEAD.startswith(data):
        raise InputError(f"{path} is not a log of labels; move it away")


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _lock(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a file system of a network may have no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _parse(line: bytes) -> Act | None:
    try:
        body = json.loads(line)
        undo = body.get("undo")
        label = None if undo else check_label(str(body["label"]))
        names = tuple(str(name) for name in body.get("samples", ()) if NAME.fullmatch(str(name)))
        return Act(str(body["act"]), str(body["at"]), check_person(str(body["by"])), label, names, undo and str(undo))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _holding(acts: Sequence[Act]) -> dict[str, Said]:
    undone = {act.undo for act in acts if act.undo}
    named: dict[str, list[Act]] = {}
    for act in acts:
        if act.label is not None and act.act not in undone:
            for name in act.samples:
                named.setdefault(name, []).append(act)
    return {name: Said(own[-1], _disagreeing(own)) for name, own in named.items()}


def _disagreeing(acts: Sequence[Act]) -> tuple[Act, ...]:
    """Return the last word of each other person, where it is another one than the latest: one's own is a correction."""
    latest = acts[-1]
    last_words = {act.by: act for act in acts}
    return tuple(act for by, act in last_words.items() if by != latest.by and act.label != latest.label)


def _time(at: datetime | None) -> str:
    return (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
