"""A split as a table: which picture of a data folder stands where, kept beside the model that was trained on it.

`splits.csv` has one row per picture in the order of the splits: `file` (relative to the data folder, or `train[17]` in files
of arrays), `sha256` of its content, `label`, `split` and `group` (pictures of one group show the same physical thing; may be
empty). A folder and its table give the same splits again, without a search and without dealing; what the table does not name
is left out, so that a picture never moves. A file that begins with `.run/` lies in the folder of the table itself, where
`train --from` keeps the pictures that it was given: no data folder has such a one, since hidden folders are not read.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.datasets.layout import OTHERS
from edgecnn.errors import DatasetError, InputError
from edgecnn.files import read_bytes, write_bytes
from edgecnn.folders import list_pictures
from edgecnn.mapped import let_go, new_pictures, stack_pictures, take_pictures
from edgecnn.pictures import MAX_FILE_BYTES, decode_picture
from edgecnn.progress import note, on_all_cores
from edgecnn.tasks import Task
from edgecnn.text import counted, printable

FILE_NAME = "splits.csv"
SPLITS = ("train", "validation", "test")
IN_RUN = ".run/"
ADDED = "added"  # the folder of a run with the pictures that were added to it
MAX_TABLE_BYTES = 2**28
_LET_GO = 256  # pictures, behind which mapped memory is let go
_COLUMNS = ("file", "sha256", "label", "split", "group")


@dataclass(frozen=True)
class SplitRow:
    """One picture of a stored split: where it is, the SHA-256 of its content, its label, its split, its group if known."""

    file: str
    sha256: str
    label: str
    split: str
    group: int | None


def split_rows(task: Task, splits: Splits) -> list[SplitRow]:
    """Return the rows of all pictures, split by split; DatasetError for pictures without digests (generated ones)."""
    rows: list[SplitRow] = []
    for split in SPLITS:
        dataset = splits[split]
        if dataset.digests is None:
            raise DatasetError(f"the {split} pictures of {splits.info.source} have no files that a table could name")
        groups = [None] * len(dataset) if dataset.groups is None else dataset.groups.tolist()
        labels = [task.labels[class_id] for class_id in dataset.class_ids]
        of_split = [split] * len(dataset)
        rows += map(SplitRow, dataset.names, dataset.digests, labels, of_split, groups)
    return rows


def write_splits_table(task: Task, splits: Splits, path: Path) -> str:
    """Write the table of `splits` to `path`, whole or not at all, and return its SHA-256.

    Raises DatasetError for pictures without digests, OutputError when `path` cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows(
        (row.file, row.sha256, row.label, row.split, "" if row.group is None else row.group) for row in split_rows(task, splits)
    )
    # Bytes of a file name that are no UTF-8 go into the table as they are.
    data = text.getvalue().encode("utf-8", "surrogateescape")
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def is_table(path: Path) -> bool:
    """Tell whether a file begins as `write_splits_table` begins."""
    try:
        with path.open("rb") as file:
            return file.readline(1000).strip() == ",".join(_COLUMNS).encode()
    except OSError:
        return False


def read_splits_table(path: Path) -> list[SplitRow]:
    """Read a table that `write_splits_table` wrote.

    Raises DatasetError when it is none, or names a file twice or one outside its folder.
    """
    text = read_bytes(path, at_most=MAX_TABLE_BYTES).decode("utf-8", "surrogateescape")
    try:
        table = csv.reader(io.StringIO(text, newline=""), strict=True)
        if tuple(next(table, ())) != _COLUMNS:
            raise ValueError(f"its columns are not {', '.join(_COLUMNS)}")
        rows = [_row(*line) for line in table]
    except (ValueError, TypeError, csv.Error) as error:
        raise DatasetError(f"{path} is not a table of splits: {error}") from error
    if len({row.file for row in rows}) < len(rows):
        raise DatasetError(f"{path} names a picture twice; it was changed after it was written")
    return rows


def load_stored_splits(task: Task, folder: Path, table: Path, *, info: SplitInfo | None = None) -> Splits:
    """Rebuild the splits that `table` records from the pictures in `folder`: the same pictures, order and groups.

    `info` says where they come from (`SplitInfo.from_json` of what `training.json` keeps); its `ignored` becomes the number of
    pictures of classes in the folder that the table does not name: they are left out. Raises DatasetError when a picture is
    missing, its content is another one, or the labels are not the task's.
    """
    rows = read_splits_table(table)
    if odd := {row.label for row in rows} - set(task.labels):
        raise DatasetError(
            f"{table} has labels that {task.name!r} lacks: {printable(', '.join(sorted(odd)))}; it is another task's"
        )
    if not folder.is_dir():
        raise DatasetError(f"the pictures of this split lay in {folder}, which is gone; name their folder with --data")
    whole = None if task.read is None else task.read(folder)
    images = _read_files(task, folder, table, rows) if whole is None else _pick(whole, folder, rows)
    known = {row.file for row in rows}
    ignored = _added(folder, known) if whole is None else set(whole.names) - known
    if ignored:
        left = f"{counted(len(ignored), 'picture')} that the stored split does not name, such as {min(ignored)}"
        note(f"{folder} holds {left}: left out")
    info = info or SplitInfo(folder.resolve().name, f"as stored in {table.name}", complete=dict.fromkeys(SPLITS, True))
    train, validation, test = (_part(task, rows, images, split) for split in SPLITS)
    info = replace(info, ignored=len(ignored))
    return Splits(train, validation, test, info, folder.resolve(), others=others_beside(table))


def _added(folder: Path, known: Set[str]) -> set[str]:
    """Return the pictures of classes in `folder` beside the known ones: what cannot be read was left out of the split, too."""
    is_flat = any("/" not in name for name in known)  # else a picture beside the class folders has no class
    listed = (path for path in list_pictures(folder).pictures if is_flat or len(path.parts) > 1)
    new = [path.as_posix() for path in listed if path.parts[0] != OTHERS and path.as_posix() not in known]
    if not new:
        return set()
    readable = on_all_cores(lambda name: _is_readable(folder / name), new, "looking at new pictures")
    return {name for name, is_readable in zip(new, readable, strict=True) if is_readable}


def _is_readable(path: Path) -> bool:
    try:
        decode_picture(read_bytes(path, at_most=MAX_FILE_BYTES), name=str(path))
    except InputError:
        return False
    return True


def others_beside(table: Path) -> Path | None:
    """Return the folder of the added pictures of no class beside a table, None where there is none."""
    others = table.parent / ADDED / OTHERS
    return others if others.is_dir() else None


def place_of(file: str, folder: Path, table: Path) -> Path:
    """Return where the picture is that a table calls `file`: in the data `folder`, or beside the table."""
    return table.parent / file.removeprefix(IN_RUN) if file.startswith(IN_RUN) else folder / file


def _row(file: str, sha256: str, label: str, split: str, group: str) -> SplitRow:
    row = SplitRow(file, sha256, label, split, int(group) if group else None)
    path = PurePosixPath(row.file)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in row.file:
        raise ValueError(f"{row.file!r} is not a file inside a data folder")
    if row.split not in SPLITS:
        raise ValueError(f"{row.split!r} is not a split")
    return row


def _read_files(task: Task, folder: Path, table: Path, rows: Sequence[SplitRow]) -> NDArray[np.uint8]:
    """Read the pictures `(n, h, w, c)` that the rows name, in their order, as the task's input."""
    images, troubles = new_pictures((len(rows), *task.preprocessing.shape)), list[str]()
    work = [(place_of(row.file, folder, table), row) for row in rows]
    for i, result in enumerate(on_all_cores(lambda each: _read_file(task, *each), work, "reading pictures")):
        if isinstance(result, str):
            troubles.append(result)
        else:
            images[i] = result
        if i % _LET_GO == 0:
            let_go()
    refuse_changed(troubles, folder, len(rows))
    return images


def _read_file(task: Task, path: Path, row: SplitRow) -> NDArray[np.uint8] | str:
    """Read one picture, or return in which way it is not as it was."""
    try:
        data = read_bytes(path, at_most=MAX_FILE_BYTES)
    except InputError:
        return f"{row.file} {'cannot be read' if path.exists() else 'is missing'}"
    if hashlib.sha256(data).hexdigest() != row.sha256:
        return f"{row.file} has other content"
    return task.preprocessing(decode_picture(data, name=str(path)))


def _pick(whole: Dataset, folder: Path, rows: Sequence[SplitRow]) -> NDArray[np.uint8]:
    """Take the pictures that the rows name out of a folder's arrays."""
    at = {name: i for i, name in enumerate(whole.names)}
    digests = whole.digests or ("",) * len(whole)
    troubles = [
        f"{row.file} {'has other content' if row.file in at else 'is missing'}"
        for row in rows
        if row.file not in at or digests[at[row.file]] != row.sha256
    ]
    refuse_changed(troubles, folder, len(rows))
    return take_pictures(whole.images, np.array([at[row.file] for row in rows], np.int64))


def refuse_changed(troubles: Sequence[str], folder: Path, count: int) -> None:
    """Raise DatasetError where any of the `count` pictures of a stored split is missing or changed."""
    if troubles:
        raise DatasetError(
            f"{len(troubles)} of the {count} pictures that this split was made of are not in {folder} as they were; "
            f"the first: {printable(troubles[0])}. Restore them, or train again"
        )


def _part(task: Task, rows: Sequence[SplitRow], images: NDArray[np.uint8], split: str) -> Dataset:
    numbers = [i for i, row in enumerate(rows) if row.split == split]
    inside = [rows[i] for i in numbers]
    groups = [row.group for row in inside if row.group is not None]
    grouped = any(row.group is not None for row in rows) if not inside else len(groups) == len(inside)
    return Dataset(
        stack_pictures([images[i] for i in numbers]) if inside else np.zeros((0, *task.preprocessing.shape), np.uint8),
        np.array([task.labels.index(row.label) for row in inside], np.int64),
        tuple(row.file for row in inside),
        np.array(groups, np.int64) if grouped else None,
        tuple(row.sha256 for row in inside),
    )
