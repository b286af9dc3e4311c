"""Looking through a data folder for what spoils a measurement: copies, overlaps, conflicting labels, damaged files."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets import neu
from edgecnn.datasets.flattery import Described, Flattery, measure_flattery
from edgecnn.datasets.folder import PARTS, FolderContents, read_layout
from edgecnn.datasets.group_by import parse_group_by
from edgecnn.datasets.group_table import GroupTable
from edgecnn.datasets.layout import Layout, find_layout
from edgecnn.datasets.overlap import Overlap, Overlaps
from edgecnn.datasets.overlap_cache import known_overlaps
from edgecnn.datasets.reading import Picture
from edgecnn.datasets.split import SHARES, random_split, unmeasurable
from edgecnn.datasets.summary import FolderSummary, find_crossing
from edgecnn.errors import DatasetError, InputError
from edgecnn.folders import is_other
from edgecnn.progress import note
from edgecnn.text import counted

LEAK_SEEDS = 20
_DRAWS = 1000  # of a bootstrap


Describe = Callable[[FolderContents, NDArray[np.int64]], Described | None]  # pictures and their classes `(n,)`


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

    `files` are the readable pictures, `counts` their number per class, `pairs` all that share pixels, `conflicts` those of them
    with two labels, `groups` the number of groups of two or more connected pictures, `grouped` the pictures in them,
    `largest_group` the size of the largest. `unreadable` maps files to reasons, `others` those that never were pictures,
    `odd_sizes` files to `height x width` where that is not `usual_size`; `empty_classes` have no picture that can be used.
    `summary` says what a training would make of the folder.

    `leaked` is the share of test pictures of a random split (70 : 15 : 15 by class) that share pixels with a training
    picture, mean over LEAK_SEEDS seeds; with stated groups, that show the same part as one. `group_ids` are the files'
    groups, `flattery` tells what the leak does to an accuracy, None where it was not measured. `recorded` are pairs that the
    recorded split of NEU has on two sides, None for other pictures. `looks` are labels; it,
    `scenery` and `threshold`: see `edgecnn.datasets.overlap.Overlaps`.
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
    others: dict[str, str]
    odd_sizes: dict[str, str]
    empty_classes: tuple[str, ...]
    summary: FolderSummary
    leaked: float
    scenery: bool
    threshold: float
    seed: int
    group_ids: tuple[int, ...]
    looks: tuple[str, ...]
    flattery: Flattery | None
    recorded: tuple[Pair, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def duplicates(self) -> tuple[Pair, ...]:
        """Return the pairs that are copies of each other."""
        return self.of_kind("duplicate")

    def of_kind(self, kind: str) -> tuple[Pair, ...]:
        """Return the pairs of one kind."""
        return tuple(pair for pair in self.pairs if pair.kind == kind)

    def remarks(self) -> list[str]:
        """Return what was not counted, and why, a line each."""
        lines = [
            f"most pictures of {label!r} look like one part (a print, a jig): only copies and overlaps were counted there; "
            "--group-by says which parts are the same"
            for label in self.looks
        ]
        if self.scenery:
            lines.append("pictures of different classes look alike: only copies were counted")
        if self.recorded:
            lines.append(
                f"{counted(len(self.recorded), 'pair')} of NEU's pictures lie on two sides of its recorded split "
                f"(neu_split.csv), mostly turned by 90 degrees: {self.recorded[0].first} and {self.recorded[0].second}"
            )
        return lines


def check_folder(
    folder: Path,
    *,
    seed: int = 0,
    group_by: str | Path | None = None,
    flattery: bool = False,
    describe: Describe | None = None,
) -> FolderCheck:
    """Check `folder/<class>/<pictures>`, or any form of NEU in files. Findings are returned, never raised.

    `group_by` says which pictures show the same part (`parse_group_by`): those count as related, as overlapping ones do.
    `flattery` also measures what a random split does to an accuracy, by features that `describe` gives of pictures, or by
    simple ones where it is None. Raises DatasetError when the folder holds no labelled
    pictures at all, and for groups that do not fit it.
    """
    stated = None if group_by is None else parse_group_by(group_by)
    contents = _read(folder)
    class_ids = np.array([contents.labels.index(picture.file.label) for picture in contents.pictures], np.int64)
    digests = [picture.sha256 for picture in contents.pictures]
    grays = [picture.gray for picture in contents.pictures]
    overlaps = known_overlaps(grays, class_ids, digests)
    if stated is not None:
        groups, remark = stated.join([picture.file for picture in contents.pictures], overlaps.groups)
        note(remark)
        overlaps = replace(overlaps, groups=groups)
    measured = None
    if flattery:
        described = None if describe is None else describe(contents, class_ids)
        measured = measure_flattery(grays, class_ids, overlaps.groups, described=described, seed=seed)
    return _summarised(contents, class_ids, overlaps, seed, by_group=stated is not None, flattery=measured)


@dataclass(frozen=True)
class PairShare:
    """`right` of `count` pairs, with the 95 % interval of a bootstrap over groups."""

    right: int
    count: int
    interval: tuple[float, float]


@dataclass(frozen=True)
class TableComparison:
    """How what was found agrees with groups that a table records; only pictures that it names count.

    `recorded` pictures share a recorded group with another one, `joined` of them were found connected with such a companion.
    Of `groups` recorded groups of two or more, `whole` were found connected completely, and `exact` with nothing added.
    `recall` is of all pairs of one recorded group those in one group that was found, `precision` of all pairs of one group that
    was found those of one recorded group. Of the `pairs` found one by one, `across` lie across recorded groups, `straddling` of
    them even across the recorded splits.
    """

    recorded: int
    joined: int
    groups: int
    whole: int
    exact: int
    recall: PairShare
    precision: PairShare
    pairs: int
    across: tuple[Pair, ...]
    straddling: int


def compare_with_table(found: FolderCheck, table: GroupTable) -> TableComparison:
    """Compare what was found with the groups and, if it states them, the splits of a table.

    Files are matched by their path in the folder or their name. Raises DatasetError when the table names none of the pictures.
    """
    stated = table.groups_of(found.files)
    known = [i for i, group in enumerate(stated) if group is not None]
    at = {found.files[i]: number for number, i in enumerate(known)}
    recorded = np.unique([str(stated[i]) for i in known], return_inverse=True)[1].reshape(-1)
    ours = np.unique([found.group_ids[i] for i in known], return_inverse=True)[1].reshape(-1)
    joint = np.unique(np.stack([recorded, ours]), axis=1, return_inverse=True)[1].reshape(-1)
    size_recorded, size_ours, size_joint = (np.bincount(ids)[ids] for ids in (recorded, ours, joint))
    heads = np.unique(recorded, return_index=True)[1]
    heads = heads[size_recorded[heads] > 1]
    whole = heads[size_joint[heads] == size_recorded[heads]]
    pairs = [pair for pair in found.pairs if pair.first in at and pair.second in at]
    across = tuple(pair for pair in pairs if recorded[at[pair.first]] != recorded[at[pair.second]])
    return TableComparison(
        recorded=int((size_recorded > 1).sum()),
        joined=int((size_joint > 1).sum()),
        groups=len(heads),
        whole=len(whole),
        exact=int((size_ours[whole] == size_recorded[whole]).sum()),
        recall=_pair_share(joint, recorded),
        precision=_pair_share(joint, ours),
        pairs=len(pairs),
        across=across,
        straddling=sum(split_of(table.splits, pair.first) != split_of(table.splits, pair.second) for pair in across),
    )


def split_of(splits: dict[str, str], name: str) -> str | None:
    """Return what a table says of a file, by its path or its name."""
    return splits.get(name, splits.get(Path(name).name))


def _pair_share(joint: NDArray[np.int64], groups: NDArray[np.int64]) -> PairShare:
    """Of all pairs of one of `groups` `(n,)`, count those that are of one of `joint` `(n,)`, a finer division, too."""
    owner = np.zeros(int(joint.max()) + 1, np.int64)
    owner[joint] = groups
    right = np.bincount(owner, _pairs_of(np.bincount(joint)), minlength=int(groups.max()) + 1)
    count = _pairs_of(np.bincount(groups))
    drawn = np.random.default_rng(0).integers(0, len(count), (_DRAWS, len(count)))
    shares = right[drawn].sum(axis=1) / np.maximum(count[drawn].sum(axis=1), 1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return PairShare(int(right.sum()), int(count.sum()), (float(low), float(high)))


def _pairs_of(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return sizes * (sizes - 1) // 2


def leaked_share(
    pairs: Sequence[tuple[int, int]], class_ids: NDArray[np.int64], *, seed: int, repeats: int = LEAK_SEEDS
) -> float:
    """Return the share of the test pictures of random splits that make a pair with a training picture, mean over `repeats`."""
    forth = np.array(pairs, np.int64).reshape(-1, 2)
    ends = np.concatenate([forth, forth[:, ::-1]])
    shares = []
    for repeat in range(repeats):
        train, _, test = random_split(class_ids, seed=seed + repeat, shares=SHARES)
        seen = np.zeros(len(class_ids), bool)
        seen[ends[np.isin(ends[:, 0], train), 1]] = True
        shares.append(float(seen[test].mean()) if len(test) else 0.0)
    return float(np.mean(shares))


def _read(folder: Path) -> FolderContents:
    layout: Layout | None
    try:
        layout = find_layout(folder)
    except DatasetError:
        # Flat NEU names its classes in the file names; anything else is what the first complaint says it is.
        try:
            layout = neu.find_layout(folder)
        except InputError:
            layout = None
        if layout is None or not layout.files:
            raise
    return read_layout(layout)


def _summarised(
    contents: FolderContents,
    class_ids: NDArray[np.int64],
    overlaps: Overlaps,
    seed: int,
    *,
    by_group: bool,
    flattery: Flattery | None,
) -> FolderCheck:
    pictures, summary = contents.pictures, contents.summary()
    names = [picture.file.name for picture in pictures]
    if contents.layout.divided:
        parts = {part: np.flatnonzero([picture.file.part == part for picture in pictures]) for part in PARTS}
        summary = replace(summary, crossing=find_crossing(names, overlaps.groups, parts))
    else:
        alone = unmeasurable(class_ids, overlaps.groups, contents.labels)
        summary = replace(summary, remarks=(*summary.remarks, *alone))
    sizes = {picture.file.name: f"{picture.size_hw[0]} x {picture.size_hw[1]}" for picture in pictures}
    pairs = tuple(_named(pair, pictures) for pair in overlaps.pairs)
    group_sizes = np.bincount(overlaps.groups)
    related = _related(overlaps.groups) if by_group else [(pair.first, pair.second) for pair in overlaps.pairs]
    return FolderCheck(
        folder=str(contents.layout.folder),
        files=tuple(names),
        counts=dict(Counter(picture.file.label for picture in pictures)),
        usual_size=summary.usual_size,
        pairs=pairs,
        conflicts=tuple(pair for pair in pairs if pair.labels[0] != pair.labels[1]),
        groups=int((group_sizes > 1).sum()),
        grouped=int(group_sizes[group_sizes > 1].sum()),
        largest_group=int(group_sizes.max()),
        unreadable={name: why for name, why in contents.left_out.items() if not is_other(why)},
        others={name: why for name, why in contents.left_out.items() if is_other(why)},
        odd_sizes={name: size for name, size in sizes.items() if size != summary.usual_size},
        empty_classes=contents.without_pictures,
        summary=summary,
        leaked=leaked_share(related, class_ids, seed=seed),
        scenery=overlaps.scenery,
        threshold=overlaps.threshold,
        seed=seed,
        group_ids=tuple(overlaps.groups.tolist()),
        looks=tuple(contents.labels[look] for look in overlaps.looks),
        flattery=flattery,
        recorded=_across_recorded(names, pairs),
    )


def _across_recorded(names: Sequence[str], pairs: Sequence[Pair]) -> tuple[Pair, ...] | None:
    """Return the pairs that the recorded split of NEU has on two sides; None for pictures that are not NEU's."""
    parts = neu.recorded_parts(names)
    if parts is None:
        return None
    part_of = dict(zip(names, parts, strict=True))
    return tuple(pair for pair in pairs if part_of[pair.first] != part_of[pair.second])


def _related(groups: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return all pairs of pictures of one group."""
    order = np.argsort(groups, kind="stable")
    ends = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [pair for members in ends for pair in itertools.combinations(members.tolist(), 2)]


def _named(pair: Overlap, pictures: Sequence[Picture]) -> Pair:
    first, second = pictures[pair.first].file, pictures[pair.second].file
    labels = first.label, second.label
    return Pair(first.name, second.name, labels, pair.kind, round(pair.share, 4), round(pair.score, 4))
