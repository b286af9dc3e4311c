"""A split that is kept while its folder grows: no picture ever moves, and new ones are dealt to what is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits, concatenate
from edgecnn.datasets.folder import GROUPED_RULE, OWN_RULE
from edgecnn.datasets.layout import LabelledFile
from edgecnn.datasets.overlap import connected
from edgecnn.datasets.overlap_cache import canonical_order, known_overlaps, numbered
from edgecnn.datasets.reading import Picture, read_pictures
from edgecnn.datasets.split import FREE, extend_split
from edgecnn.datasets.split_table import (
    FILE_NAME,
    IN_RUN,
    MAX_TABLE_BYTES,
    SPLITS,
    SplitRow,
    is_table,
    place_of,
    read_splits_table,
    refuse_changed,
)
from edgecnn.datasets.summary import find_crossing
from edgecnn.errors import DatasetError, InputError
from edgecnn.files import read_bytes
from edgecnn.progress import note
from edgecnn.tasks import Task
from edgecnn.text import counted

KEPT_RULE = "as "  # how the rule of a split begins that was kept
_AGAIN = "--splits new divides again"


def find_table(stated: Path) -> Path:
    """Return the table of a split that `stated` is, or that the run in this folder keeps; InputError where there is none."""
    path = stated / FILE_NAME if stated.is_dir() else stated
    if not is_table(path):
        raise InputError(f"{stated} is neither {FILE_NAME} nor the folder of a run that has one")
    return path


def kept_by_run(run: Path) -> Path | None:
    """Return the table of a run's split; None where there is none, or the run was divided otherwise than by groups."""
    table = run / FILE_NAME
    try:
        rule = json.loads(read_bytes(run / "training.json", at_most=MAX_TABLE_BYTES))["split"]["rule"]
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
        return None
    known = isinstance(rule, str) and rule.startswith((GROUPED_RULE, KEPT_RULE))
    return table if known and is_table(table) else None


def table_to_keep(stated: str | Path | None, *, own: bool, random: bool, out: Path) -> Path | None:
    """Return the table of the split to keep: the stated one, else that of the run in `out` unless it was dealt at random.

    `stated` is a run, a table, or `new`, which keeps none. InputError for pictures that are not the user's `own`, and for a
    stated one where pictures are to be dealt at `random`.
    """
    if stated is None:
        return kept_by_run(out) if own and not random else None
    if not own:
        raise InputError("--splits belongs to a folder of your own; the split of a named task is known")
    if random and str(stated) != "new":
        raise InputError("--splits keeps a split, and --split random deals at random: leave one of them out")
    return None if str(stated) == "new" else find_table(Path(stated))


def keep_split(splits: Splits, classes: int, table: Path, *, seed: int, stated: bool = True) -> Splits:
    """Return the pictures of `splits` divided as `table` says, those that it does not know dealt to it by their groups.

    Pictures are known by their content: a renamed or relabelled one stays where it was. How many were kept, are new, or are
    gone is reported as a note. Raises InputError for a folder that its owner divided, DatasetError when the folder holds none
    of the pictures, or a class has none to train on or to validate with. Where nobody has `stated` the
    table, the first two are no errors, and the splits stay as they are.
    """
    if splits.info.rule.startswith(OWN_RULE):
        if not stated:
            return splits
        raise InputError(f"{splits.info.source} is divided by its own folders; a stored split would move its pictures")
    whole = concatenate([splits[split] for split in SPLITS])
    if whole.digests is None or whole.groups is None:
        raise InputError(f"the pictures of {splits.info.source} lie in no folder of their own; their split is known")
    part_of = {row.sha256: SPLITS.index(row.split) for row in read_splits_table(table)}
    kept = np.array([part_of.get(digest, FREE) for digest in whole.digests], np.int64)
    if not (kept != FREE).any():
        if not stated:
            return splits
        raise DatasetError(f"{splits.info.source} holds none of the pictures that {table} divided")
    train, validation, test = _divide(whole, kept, classes, table, len(part_of), seed=seed, advice=_AGAIN)
    return replace(splits, train=train, validation=validation, test=test, info=replace(splits.info, rule=_rule(table)))


def extend_stored(
    task: Task, folder: Path, table: Path, added: Sequence[LabelledFile], events: Sequence[str], *, info: SplitInfo, seed: int
) -> Splits:
    """Return the pictures of a stored split as it divides them, and `added` ones dealt to it by their groups.

    Groups are those of the table, what overlaps, and the `events` of added pictures, `""` where nothing is known. A picture
    that the table names stays where it stands, an added one included. Raises DatasetError where one of the data folder is gone
    or changed.
    """
    rows = read_splits_table(table)
    own = [row for row in rows if not row.file.startswith(IN_RUN)]
    files = [*(LabelledFile(place_of(row.file, folder, table), row.file, row.label) for row in own), *added]
    pictures = read_pictures(files, task.preprocessing)
    by_name = {picture.file.name: picture for picture in pictures.read}
    refuse_changed([trouble for row in own if (trouble := _trouble(row, by_name.get(row.file)))], folder, len(own))
    for name, why in pictures.unreadable.items():
        note(f"  left out: {name}: {why}")
    class_ids = np.array([task.labels.index(picture.file.label) for picture in pictures.read], np.int64)
    event_of = dict(zip((file.name for file in added), events, strict=True))
    whole = Dataset(
        np.stack([picture.image for picture in pictures.read]),
        class_ids,
        tuple(picture.file.name for picture in pictures.read),
        _joined(pictures.read, class_ids, {row.file: row.group for row in own}, event_of),
        tuple(picture.sha256 for picture in pictures.read),
    )
    part_of = {row.sha256: SPLITS.index(row.split) for row in rows}
    kept = np.array([part_of.get(picture.sha256, FREE) for picture in pictures.read], np.int64)
    parts = _divide(whole, kept, len(task.labels), table, len(rows), seed=seed, advice="add more pictures of it")
    return Splits(*parts, replace(info, rule=_rule(table)), folder.resolve())


def _trouble(row: SplitRow, picture: Picture | None) -> str | None:
    if picture is None:
        return f"{row.file} is missing or cannot be read"
    return None if picture.sha256 == row.sha256 else f"{row.file} has other content"


def _joined(
    pictures: Sequence[Picture], class_ids: NDArray[np.int64], group_of: Mapping[str, int | None], event_of: Mapping[str, str]
) -> NDArray[np.int64]:
    """Number the groups `(n,)` of pictures that are linked by an overlap, a group of the table, or an event."""
    digests = [picture.sha256 for picture in pictures]
    overlaps = known_overlaps([picture.gray for picture in pictures], class_ids, digests)
    links = [(pair.first, pair.second) for pair in overlaps.pairs]
    first: dict[int | str, int] = {}
    for at, picture in enumerate(pictures):
        known: int | str | None = group_of.get(picture.file.name, event_of.get(picture.file.name) or None)
        if known is not None:
            links.append((first.setdefault(known, at), at))
    return connected(len(pictures), links)


def _rule(table: Path) -> str:
    return f"{KEPT_RULE}{table} divided it; new pictures with their groups, else 70 : 15 : 15 by class"


def _divide(
    whole: Dataset, kept: NDArray[np.int64], classes: int, table: Path, known: int, *, seed: int, advice: str
) -> tuple[Dataset, Dataset, Dataset]:
    """Leave what is `kept` `(n,)` in its part, deal the rest, and say so; `advice` is for a class without pictures."""
    parts = _dealt(whole, kept, classes, seed)
    _report(whole, kept, parts, known, table)
    train, validation, test = (whole.take(np.flatnonzero(parts == part)) for part in range(len(SPLITS)))
    _refuse_gaps(train, validation, classes, table, advice)
    return train, validation, test


def _dealt(whole: Dataset, kept: NDArray[np.int64], classes: int, seed: int) -> NDArray[np.int64]:
    """Deal in the order of the pictures' contents: no name decides where one goes."""
    assert whole.digests is not None and whole.groups is not None
    order = canonical_order(whole.class_ids, whole.digests)
    parts = np.empty(len(whole), np.int64)
    parts[order] = extend_split(whole.class_ids[order], numbered(whole.groups[order]), kept[order], classes, seed=seed)
    return parts


def _report(whole: Dataset, kept: NDArray[np.int64], parts: NDArray[np.int64], known: int, table: Path) -> None:
    assert whole.digests is not None and whole.groups is not None
    old = kept != FREE
    new = ", ".join(f"{int((parts[~old] == part).sum())} {split}" for part, split in enumerate(SPLITS))
    there = len({digest for digest, is_old in zip(whole.digests, old, strict=True) if is_old})
    gone = f", {known - there} gone" if known > there else ""
    note(f"  split kept from {table}: {counted(int(old.sum()), 'picture')} as before, {int((~old).sum())} new ({new}){gone}")
    for split, crossing in find_crossing(whole.names, whole.groups, _by_split(parts)).items():
        note(
            f"  warning: {crossing.pictures} of {crossing.of} {split} pictures show what training pictures show, such as "
            f"{crossing.example[0]} and {crossing.example[1]}, by the pairs found with today's pictures; none was moved, "
            "and a training from the beginning with --splits new divides again"
        )


def _by_split(parts: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    return {split: np.flatnonzero(parts == part) for part, split in enumerate(SPLITS)}


def _refuse_gaps(train: Dataset, validation: Dataset, classes: int, table: Path, advice: str) -> None:
    there: Sequence[set[int]] = [set(part.class_ids.tolist()) for part in (train, validation)]
    if missing := sorted(set(range(classes)) - there[0]):
        raise DatasetError(f"class {missing[0]} of the folder has no training picture in the split of {table}; {advice}")
    if not there[1]:
        raise DatasetError(f"the split of {table} has no validation pictures in this folder; {advice}")
