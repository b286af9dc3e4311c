"""A table of which pictures show the same part."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgecnn.errors import DatasetError
from edgecnn.files import read_bytes

MAX_TABLE_BYTES = 2**26
_COLUMNS = ("file", "group")


@dataclass(frozen=True)
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

    def groups_of(self, names: Sequence[str]) -> list[str | None]:
        """Return the stated group of each picture, by its path in the data folder; bare names count where they name one picture.

        Raises DatasetError when the table names none of them.
        """
        bare = Counter(PurePosixPath(name).name for name in names)
        found = []
        for name in names:
            group, own = self.groups.get(_plain(name)), PurePosixPath(name).name
            if group is None and own in self.groups:
                if bare[own] > 1:
                    raise DatasetError(f"{self.path} names {own}, and {bare[own]} pictures have that name; give their paths")
                group = self.groups[own]
            found.append(group)
        if not any(group is not None for group in found):
            raise DatasetError(
                f"{self.path} names none of the {len(names)} pictures, such as {names[0]}; "
                "its column file must hold their paths in the data folder, or their names"
            )
        return found


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
