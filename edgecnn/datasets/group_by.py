"""Which pictures show the same part, as the user states it: by a table, a regular expression, folders, or the time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.group_table import GroupTable
from edgecnn.datasets.layout import LabelledFile
from edgecnn.datasets.overlap import connected
from edgecnn.errors import DatasetError, InputError
from edgecnn.files import read_bytes
from edgecnn.pictures import MAX_FILE_BYTES, taken_at
from edgecnn.text import counted

_MINUTES = re.compile(r"(minutes:)?(?P<number>\d+(\.\d+)?) ?(?(1)(min)?|min)")


@dataclass(frozen=True)
class GroupBy:
    """What the user stated: `title` for people, and `groups_of`, which names each file's group, None where it has none.

    `rows` is how many files a table names, 0 where there is none.
    """

    title: str
    groups_of: Callable[[Sequence[LabelledFile]], list[str | None]]
    rows: int = 0

    def join(self, files: Sequence[LabelledFile], found: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
        """Return groups `(n,)` that keep together what is stated or the groups `found` `(n,)` keep together, and one remark.

        Raises DatasetError when what is stated does not fit the files.
        """
        stated = self.groups_of(files)
        known = [i for i, group in enumerate(stated) if group is not None]
        first: dict[tuple[str, str], int] = {}
        links = [(first.setdefault(("stated", str(stated[i])), i), i) for i in known]
        links += [(first.setdefault(("found", str(group)), i), i) for i, group in enumerate(found.tolist())]
        several = len({stated[i] for i in known})
        remark = f"groups: {counted(several, 'group')} of {counted(len(known), 'picture')} by {self.title}"
        if missing := len(files) - len(known):
            remark += f"; the other {counted(missing, 'picture')} stay together only where they overlap"
        if (idle := self.rows - len(known)) > 0:
            remark += f"; of its rows {idle} {'names' if idle == 1 else 'name'} no picture of the folder"
        return connected(len(files), links), remark


def parse_group_by(stated: str | Path) -> GroupBy:
    """Make of `FILE.csv`, `folder`, `minutes:N` (or `10min`) or a regular expression with one group what it states.

    Raises InputError for an expression that is none or has not one group, and for a table that cannot be read; DatasetError for
    a table without its columns.
    """
    text = str(stated)
    if isinstance(stated, Path) or text.lower().endswith(".csv") or Path(text).is_file():
        table = GroupTable.read(Path(stated))
        return GroupBy(table.path.name, lambda files: table.groups_of([file.name for file in files]), len(table.groups))
    if text == "folder":
        return GroupBy("folder", _by_folder)
    number = _MINUTES.fullmatch(text)
    if number is not None or text.startswith("minutes:"):
        if number is None or not 0 < float(number["number"]) < 1e6:
            raise InputError(f"--group-by {text}: after minutes: stands a number of minutes, such as minutes:10")
        return GroupBy(text, lambda files: _by_time(files, float(number["number"])))
    return _by_expression(text)


def _by_expression(text: str) -> GroupBy:
    shown = repr(text).replace("\\\\", "\\")  # on one line, and as it was typed
    try:
        expression = re.compile(text)
    except re.error as error:
        raise InputError(f"--group-by {shown} is no regular expression: {error}") from error
    if expression.groups != 1:
        raise InputError(
            f"--group-by {shown} must be FILE.csv, folder, minutes:N, or a regular expression with one group in parentheses, "
            r"which names the part, such as 'part(\d+)'"
        )

    def groups_of(files: Sequence[LabelledFile]) -> list[str | None]:
        found = [expression.search(file.name) for file in files]
        if odd := next(
            (file.name for file, match in zip(files, found, strict=True) if match is None or match[1] is None), None
        ):
            raise DatasetError(f"--group-by {shown} does not match {odd}")
        return [match[1] for match in found if match is not None]

    return GroupBy(shown, groups_of)


def _by_folder(files: Sequence[LabelledFile]) -> list[str | None]:
    """Name the folder of each file that lies deeper than its class folder."""
    if not any(file.deeper for file in files):
        raise DatasetError(
            f"--group-by folder: {files[0].name} and all others lie in their class folder, in no folder per part"
        )
    return [str(PurePosixPath(file.name).parent) if file.deeper else None for file in files]


def _by_time(files: Sequence[LabelledFile], minutes: float) -> list[str | None]:
    """Put pictures of one class together that were taken within so many minutes of the one before."""
    times = [_time(file) for file in files]
    groups: list[str | None] = [None] * len(files)
    before: tuple[str, float] | None = None
    number = 0
    for label, time, i in sorted((file.label, time, i) for i, (file, time) in enumerate(zip(files, times, strict=True))):
        if before is None or label != before[0] or time - before[1] > 60 * minutes:
            number += 1
        groups[i], before = str(number), (label, time)
    return groups


def _time(file: LabelledFile) -> float:
    """Return when a picture was taken, as its EXIF says, else when its file was changed; seconds."""
    stated = taken_at(read_bytes(file.path, at_most=MAX_FILE_BYTES))
    try:
        return datetime.strptime(stated or "", "%Y:%m:%d %H:%M:%S").timestamp()
    except (ValueError, OverflowError, OSError):
        return file.path.stat().st_mtime
