"""Looking through a data folder for what spoils a measurement: copies, overlaps, conflicting labels, damaged files."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets import neu
from edgecnn.datasets.folder import find_classes, to_gray
from edgecnn.datasets.overlap import Overlap, Overlaps, connected, find_overlaps
from edgecnn.datasets.splitting import SHARES, random_split
from edgecnn.errors import DatasetError, EdgecnnError
from edgecnn.files import read_bytes
from edgecnn.pictures import read_picture

LEAK_SEEDS = 20
MAX_TABLE_BYTES = 2**26


@dataclass(frozen=True)
class Pair:
    """Two pictures that share pixels: their files, labels, the kind, the shared part of the area, the correlation there."""

    first: str
    second: str
    labels: tuple[str, str]
    kind: str
    share: float
    score: float


@dataclass(frozen=True)
class FolderCheck:
    """What `check_folder` found.

    `files` are the readable pictures, `counts` their number a class, `pairs` all that share pixels, `conflicts` those of them
    with two labels, `groups` the number of groups of two or more connected pictures, `grouped` the pictures in them,
    `largest_group` the size of the largest. `unreadable` maps files to reasons, `odd_sizes` files to `height x width` where
    that is not `usual_size`. `leaked` is the share of test pictures of a random split (70 : 15 : 15 by class) that share pixels
    with a training picture, mean over LEAK_SEEDS seeds. `scenery` and `threshold`: see `edgecnn.datasets.overlap.Overlaps`.
    """

    folder: str
    files: tuple[str, ...]
    counts: dict[str, int]
    usual_size: str
    pairs: tuple[Pair, ...]
    conflicts: tuple[Pair, ...]
    groups: int
    grouped: int
    largest_group: int
    unreadable: dict[str, str]
    odd_sizes: dict[str, str]
    leaked: float
    scenery: bool
    threshold: float
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def duplicates(self) -> tuple[Pair, ...]:
        """Return the pairs that are copies of each other."""
        return tuple(pair for pair in self.pairs if pair.kind == "duplicate")


def check_folder(folder: Path, *, seed: int = 0) -> FolderCheck:
    """Check `folder/<class>/<pictures>`, or any form of NEU in files. Findings are returned, never raised.

    Raises DatasetError when the folder holds no labelled pictures at all.
    """
    listed = _labelled_pictures(folder)
    labels = list(dict.fromkeys(label for label, _ in listed))
    grays: list[NDArray[np.uint8]] = []
    readable: list[tuple[str, str]] = []
    unreadable: dict[str, str] = {}
    for label, path in listed:
        name = str(path.relative_to(folder))
        try:
            grays.append(to_gray(read_picture(path)))
            readable.append((label, name))
        except EdgecnnError as error:
            unreadable[name] = str(error)
    if not readable:
        raise DatasetError(
            f"none of the {len(listed)} pictures in {folder} can be read, the first because: {unreadable.popitem()[1]}"
        )
    class_ids = np.array([labels.index(label) for label, _ in readable], np.int64)
    overlaps = find_overlaps(grays, class_ids, seed=seed)
    return _summarised(folder, readable, grays, class_ids, overlaps, unreadable, seed)


@dataclass(frozen=True)
class TableComparison:
    """How overlaps that were found agree with groups that a table records; only pictures that are there count.

    `recorded` pictures share a recorded group with another one, `joined` of them were found connected with such a companion.
    Of `groups` recorded groups of two or more, `whole` were found connected completely, and `exact` with nothing added. Of the
    `pairs` found, `beyond` lie across recorded groups, `straddling` of them even across the recorded splits.
    """

    recorded: int
    joined: int
    groups: int
    whole: int
    exact: int
    pairs: int
    beyond: int
    straddling: int


def compare_with_table(found: FolderCheck, table: Path) -> TableComparison:
    """Compare what was found with a CSV table of `file`, `group` and `split`, such as NEU's; files are matched by name.

    Raises DatasetError when the table has no such columns or names none of the pictures.
    """
    rows = _read_table(table)
    present = {name: rows[name] for name in (Path(file).name for file in found.files) if name in rows}
    if not present:
        raise DatasetError(f"{table} names none of the pictures in {found.folder}")
    order = {name: i for i, name in enumerate(present)}
    ends = [(Path(pair.first).name, Path(pair.second).name) for pair in found.pairs]
    ends = [(first, second) for first, second in ends if first in order and second in order]
    ours = connected(len(order), [(order[first], order[second]) for first, second in ends])
    recorded = np.unique([group for group, _ in present.values()], return_inverse=True)[1].reshape(-1)
    joint = np.unique(np.stack([recorded, ours]), axis=1, return_inverse=True)[1].reshape(-1)
    size_recorded, size_ours, size_joint = (np.bincount(ids)[ids] for ids in (recorded, ours, joint))
    _, heads = np.unique(recorded, return_index=True)
    heads = heads[size_recorded[heads] > 1]
    whole = heads[size_joint[heads] == size_recorded[heads]]
    beyond = [(a, b) for a, b in ends if present[a][0] != present[b][0]]
    return TableComparison(
        recorded=int((size_recorded > 1).sum()),
        joined=int((size_joint > 1).sum()),
        groups=len(heads),
        whole=len(whole),
        exact=int((size_ours[whole] == size_recorded[whole]).sum()),
        pairs=len(ends),
        beyond=len(beyond),
        straddling=sum(present[a][1] != present[b][1] for a, b in beyond),
    )


def _read_table(table: Path) -> dict[str, tuple[str, str]]:
    """Return group and split of each file of a table."""
    try:
        lines = csv.DictReader(read_bytes(table, at_most=MAX_TABLE_BYTES).decode().splitlines())
        return {line["file"]: (line["group"], line["split"]) for line in lines}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table} is no table with the columns file, group and split") from error


def leaked_share(pairs: Sequence[Overlap], class_ids: NDArray[np.int64], *, seed: int, repeats: int = LEAK_SEEDS) -> float:
    """Return the share of the test pictures of random splits that share pixels with a training picture, mean over `repeats`."""
    ends = np.array([(pair.first, pair.second) for pair in pairs], np.int64).reshape(-1, 2)
    ends = np.concatenate([ends, ends[:, ::-1]])
    shares = []
    for repeat in range(repeats):
        train, _, test = random_split(class_ids, seed=seed + repeat, shares=SHARES)
        seen = np.zeros(len(class_ids), bool)
        seen[ends[np.isin(ends[:, 0], train), 1]] = True
        shares.append(float(seen[test].mean()) if len(test) else 0.0)
    return float(np.mean(shares))


def _labelled_pictures(folder: Path) -> list[tuple[str, Path]]:
    try:
        return [(label, path) for label, paths in find_classes(folder).items() for path in paths]
    except DatasetError:
        # Flat NEU names its classes in the file names; anything else is what the first complaint says it is.
        try:
            found = neu.find_pictures(folder) if folder.is_dir() else {}
        except DatasetError:
            found = {}
        if not found:
            raise
        return [(label, path) for (label, _), path in found.items()]


def _summarised(
    folder: Path,
    readable: Sequence[tuple[str, str]],
    grays: Sequence[NDArray[np.uint8]],
    class_ids: NDArray[np.int64],
    overlaps: Overlaps,
    unreadable: dict[str, str],
    seed: int,
) -> FolderCheck:
    sizes = [f"{gray.shape[0]} x {gray.shape[1]}" for gray in grays]
    usual = Counter(sizes).most_common(1)[0][0]
    pairs = tuple(_named(pair, readable) for pair in overlaps.pairs)
    group_sizes = np.bincount(overlaps.groups)
    return FolderCheck(
        folder=str(folder),
        files=tuple(name for _, name in readable),
        counts=dict(Counter(label for label, _ in readable)),
        usual_size=usual,
        pairs=pairs,
        conflicts=tuple(pair for pair in pairs if pair.labels[0] != pair.labels[1]),
        groups=int((group_sizes > 1).sum()),
        grouped=int(group_sizes[group_sizes > 1].sum()),
        largest_group=int(group_sizes.max()),
        unreadable=unreadable,
        odd_sizes={name: size for (_, name), size in zip(readable, sizes, strict=True) if size != usual},
        leaked=leaked_share(overlaps.pairs, class_ids, seed=seed),
        scenery=overlaps.scenery,
        threshold=overlaps.threshold,
        seed=seed,
    )


def _named(pair: Overlap, readable: Sequence[tuple[str, str]]) -> Pair:
    (label_first, first), (label_second, second) = readable[pair.first], readable[pair.second]
    return Pair(first, second, (label_first, label_second), pair.kind, round(pair.share, 4), round(pair.score, 4))
