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
    """The group of each file that a CSV table names, by the file's path in the data folder or by its bare name.

    `splits` are what its column `split` says of the files, empty where it has none.
    """

    path: Path
    groups: dict[str, str]
    splits: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> GroupTable:
        """Read the columns `file`, `group` and, if there is one, `split` of a table; a row without a group states none.

        Raises InputError when it cannot be read, DatasetError when it has no such columns or puts a file into two groups.
        """
        groups, splits = dict[str, str](), dict[str, str]()
        for row in _rows(path):
            name, group, split = (_plain(row["file"] or ""), (row["group"] or "").strip(), row.get("split"))
            if name and split:
                splits[name] = split.strip()
            if name and group and groups.setdefault(name, group) != group:
                raise DatasetError(f"{path} puts {name} into two groups, {groups[name]!r} and {group!r}; keep one of them")
        return cls(path, groups, splits)

    def groups_of(self, names: Sequence[str]) -> list[str | None]:
        """Return the stated group of each picture, by its path in the data folder; bare names count where they name one.

        A table of a folder's pictures serves for one of its class folders as well: `scratch/a.png` there is `a.png` here.
        Raises DatasetError when the table names none of them.
        """
        found = self._above(names) if self._names_none(names) else self._by_name(names)
        if not any(group is not None for group in found):
            raise DatasetError(
                f"{self.path} names none of the {len(names)} pictures, such as {names[0]}; "
                "its column file must hold their paths in the data folder, or their names"
            )
        return found

    def _names_none(self, names: Sequence[str]) -> bool:
        return not any(_plain(name) in self.groups or PurePosixPath(name).name in self.groups for name in names)

    def _by_name(self, names: Sequence[str]) -> list[str | None]:
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


def _rows(path: Path) -> list[dict[str, str | None]]:
    text = read_bytes(path, at_most=MAX_TABLE_BYTES).decode("utf-8-sig", "surrogateescape")
    head = text.split("\n", 1)[0]
    rows = csv.DictReader(text.splitlines(), delimiter=";" if ";" in head and "," not in head else ",", strict=True)
    refusal = f"{path} is not a table with the columns {' and '.join(_COLUMNS)}; its first line is {head[:60]!r}"
    try:
        table = list(rows)
    except csv.Error as error:
        raise DatasetError(refusal) from error
    if table and not set(_COLUMNS) <= set(table[0]):
        raise DatasetError(refusal)
    return table


def _plain(name: str) -> str:
    """Return a path as the folder's listing writes it: with slashes, and without `./` before it."""
    return str(PurePosixPath(name.strip().replace("\\", "/")))
