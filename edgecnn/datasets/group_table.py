"""Groups that the user states: a table of which pictures show the same part, joined with the overlaps that are found."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.overlap import connected
from edgecnn.errors import DatasetError
from edgecnn.files import read_bytes
from edgecnn.text import counted

MAX_TABLE_BYTES = 2**26
_COLUMNS = ("file", "group")


@dataclass(frozen=True, eq=False)
class GroupTable:
    """The group of each file that a CSV table names, by the file's path in the data folder or by its bare name."""

    path: Path
    groups: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> GroupTable:
        """Read the columns `file` and `group` of a table; others are ignored, and so are rows without a group.

        Raises InputError when it cannot be read, DatasetError when it has no such columns or puts a file into two groups.
        """
        groups = dict[str, str]()
        for name, group in _rows(path):
            if groups.setdefault(name, group) != group:
                raise DatasetError(f"{path} puts {name} into two groups, {groups[name]!r} and {group!r}; keep one of them")
        return cls(path, groups)

    def join(self, names: Sequence[str], found: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
        """Return groups `(n,)` that keep together what the table or the groups `found` `(n,)` keep together, and one remark.

        `names` are the pictures' paths in the data folder. Raises DatasetError when the table names none of them.
        """
        stated = self._of(names)
        known = [i for i, group in enumerate(stated) if group is not None]
        if not known:
            raise DatasetError(
                f"{self.path} names none of the {len(names)} pictures, such as {names[0]}; "
                "its column file must hold their paths in the data folder, or their names"
            )
        first: dict[tuple[str, str], int] = {}
        links = [(first.setdefault(("stated", str(stated[i])), i), i) for i in known]
        links += [(first.setdefault(("found", str(group)), i), i) for i, group in enumerate(found.tolist())]
        several = len({stated[i] for i in known})
        remark = f"groups: {counted(several, 'group')} of {counted(len(known), 'picture')} by {self.path.name}"
        if missing := len(names) - len(known):
            remark += f"; the other {counted(missing, 'picture')} stay together only where they overlap"
        return connected(len(names), links), remark

    def _of(self, names: Sequence[str]) -> list[str | None]:
        """Return each picture's stated group; bare names count only where they name one picture.

        A table of a folder's pictures serves for one of its class folders as well: `scratch/a.png` there is `a.png` here.
        """
        if not any(_plain(name) in self.groups or PurePosixPath(name).name in self.groups for name in names):
            return self._above(names)
        bare = Counter(PurePosixPath(name).name for name in names)
        found = []
        for name in names:
            group, own = self.groups.get(_plain(name)), PurePosixPath(name).name
            if group is None and own in self.groups:
                if bare[own] > 1:
                    raise DatasetError(f"{self.path} names {own}, and {bare[own]} pictures have that name; give their paths")
                group = self.groups[own]
            found.append(group)
        return found

    def _above(self, names: Sequence[str]) -> list[str | None]:
        """Return the groups of pictures in the one folder of the table's that ends in all of their paths."""
        folders = {str(PurePosixPath(name).parent) for name in self.groups}
        found = [[self.groups.get(f"{folder}/{_plain(name)}") for name in names] for folder in sorted(folders)]
        return max(found, key=lambda groups: sum(group is not None for group in groups), default=[None] * len(names))


def _rows(path: Path) -> list[tuple[str, str]]:
    text = read_bytes(path, at_most=MAX_TABLE_BYTES).decode("utf-8-sig", "surrogateescape")
    head = text.split("\n", 1)[0]
    try:
        table = csv.DictReader(text.splitlines(), delimiter=";" if ";" in head and "," not in head else ",", strict=True)
        rows = [(_plain(row["file"] or ""), (row["group"] or "").strip()) for row in table]
    except (KeyError, csv.Error) as error:
        columns = " and ".join(_COLUMNS)
        raise DatasetError(f"{path} is not a table with the columns {columns}; its first line is {head[:60]!r}") from error
    return [(name, group) for name, group in rows if name and group]


def _plain(name: str) -> str:
    """Return a path as the folder's listing writes it: with slashes, and without `./` before it."""
    return str(PurePosixPath(name.strip().replace("\\", "/")))
