"""Any folder of pictures per class as a task of its own, and a data set written as one."""

from __future__ import annotations

import re
import shutil
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.datasets.group_by import GroupBy, parse_group_by
from edgecnn.datasets.layout import GOOD, Layout, find_good, find_layout, label_of
from edgecnn.datasets.overlap_cache import canonical_order, known_overlaps, numbered
from edgecnn.datasets.reading import DECIDED, InputChoice, Picture, read_pictures
from edgecnn.datasets.split import SHARES, TRAIN, VALIDATION, split_groups, unmeasurable
from edgecnn.datasets.summary import FolderSummary, find_crossing, summarize
from edgecnn.errors import DatasetError, OutputError
from edgecnn.files import make_folder
from edgecnn.folders import count_reasons
from edgecnn.mapped import stack_pictures
from edgecnn.preprocessing import Preprocessing
from edgecnn.progress import note
from edgecnn.tasks import SHIPPED, Task

Conflicts = Literal["refuse", "drop", "keep"]
PARTS = ("train", "validation", "test")
# Of good parts alone a bank needs few pictures, and a low rate of false alarms can be promised by many held-out ones only.
GOOD_SHARES = (0.5, 0.35, 0.15)
GOOD_RULE = "50 : 35 : 15, pictures that overlap kept together (edgecnn's overlap check)"
GROUPED_RULE = "70 : 15 : 15 by class, pictures that overlap kept together (edgecnn's overlap check)"
OWN_RULE = "the folder's own "  # how the rule of a folder begins that its owner divided
_FROM_TRAIN = (0.85, 0.15)  # train and validation, where the owner of a folder divided it without validation


@dataclass(frozen=True, eq=False)
class FolderContents:
    """A folder that was read: its layout, the pictures that are used, the input that they were made for, and what is not used.

    `conflicts` are pairs of files with the same pixels under two labels, `chosen` tells that the input was chosen to fit the
    pictures.
    """

    layout: Layout
    pictures: tuple[Picture, ...]
    preprocessing: Preprocessing
    left_out: dict[str, str]
    conflicts: tuple[tuple[str, str], ...]
    chosen: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that have a picture that can be used."""
        present = {picture.file.label for picture in self.pictures}
        return tuple(label for label in self.layout.labels if label in present)

    @property
    def without_pictures(self) -> tuple[str, ...]:
        """The class folders without a picture that can be used."""
        return (*self.layout.empty, *(label for label in self.layout.labels if label not in self.labels))

    def require_classes(self) -> None:
        """Raise DatasetError for a class folder without a picture that can be used: what cannot be learned is a mistake."""
        self.layout.require_pictures()
        if lost := [label for label in self.layout.labels if label not in self.labels]:
            names = {file.name for file in self.layout.files if file.label == lost[0]}
            reasons = {name: why for name, why in self.left_out.items() if name in names}
            raise DatasetError(f"no picture of the class {lost[0]!r} can be used: {count_reasons(reasons)}")

    def summary(self) -> FolderSummary:
        """Sum up what was read."""
        return summarize(
            self.layout,
            self.pictures,
            self.preprocessing,
            left_out=self.left_out,
            conflicts=self.conflicts,
            chosen=self.chosen,
        )


def read_folder(folder: Path, fitting: Preprocessing | InputChoice = DECIDED, conflicts: Conflicts = "keep") -> FolderContents:
    """Read all pictures of a folder for the input `fitting`, or one that fits them and what is stated.

    `conflicts` says what to do about the same picture under two labels: refuse the folder, drop such pictures, or keep them.
    Raises DatasetError for a folder without classes or without any readable picture.
    """
    return read_layout(find_layout(folder), fitting, conflicts)


def read_layout(
    layout: Layout, fitting: Preprocessing | InputChoice = DECIDED, conflicts: Conflicts = "keep"
) -> FolderContents:
    """Read the pictures of a folder that was listed; see `read_folder`."""
    pictures = read_pictures(layout.files, fitting)
    left_out = layout.left_out | pictures.unreadable
    if not pictures.read:
        why = count_reasons(left_out) or "all folders are empty"
        raise DatasetError(f"{layout.folder} holds no picture that can be read: {why}")
    under = _under_two_labels(pictures.read)
    pairs = [_pair(members) for members in under]
    kept = pictures.read
    if under and conflicts == "refuse":
        raise DatasetError(_contradiction(pairs))
    if conflicts == "drop":
        dropped = {picture.file.name for members in under for picture in members}
        kept = tuple(picture for picture in kept if picture.file.name not in dropped)
        left_out |= dict.fromkeys(dropped, "the same picture under two labels")
        pairs = []
    chosen = not isinstance(fitting, Preprocessing)
    return FolderContents(layout, kept, pictures.preprocessing, left_out, tuple(pairs), chosen)


def task_from_folder(
    folder: Path,
    *,
    choice: InputChoice = DECIDED,
    conflicts: Conflicts = "keep",
    group_by: str | Path | None = None,
    only_good: bool = False,
) -> Task:
    """Make a task of a folder: its name, its class folders as labels, and an input that fits most of its pictures.

    `choice` states what is not to be decided by the pictures: see `fitting_input`. `conflicts`: see `read_folder`; `group_by`
    says which pictures show the same part (`parse_group_by`). `only_good`: the folder holds good parts only, and the task has
    one label. `flips` stays off: whether a mirrored part is the same part is not for us to guess.
    """
    stated = None if group_by is None else parse_group_by(group_by)
    contents = read_layout(find_good(folder), choice) if only_good else read_folder(folder, choice, conflicts)
    contents.require_classes()
    task = _named(folder, contents.labels, contents.preprocessing)
    unused = [contents]  # read once: the first loading takes it, and its pictures are not held twice

    def load(chosen: Path | None, seed: int) -> Splits:
        own = chosen is None or chosen.resolve() == folder.resolve()
        if own and unused:
            return divide(task, unused.pop(), seed, stated)
        return load_folder(task, chosen or folder, seed, conflicts=conflicts, group_by=stated)

    return replace(task, load=load)


def good_task(folder: Path, preprocessing: Preprocessing) -> Task:
    """Return the task of a folder that holds good parts only."""
    return _named(folder, (GOOD,), preprocessing)


def _named(folder: Path, labels: tuple[str, ...], preprocessing: Preprocessing) -> Task:
    title = f"pictures of {folder.resolve().name}"
    return Task(name=task_name(folder), title=title, labels=labels, preprocessing=preprocessing)


def task_name(folder: Path) -> str:
    """Return what the task of a folder is called."""
    plain = unicodedata.normalize("NFKD", folder.resolve().name.casefold()).encode("ascii", "ignore").decode()  # ö: o, ß: ss
    name = re.sub("[^a-z0-9]+", "-", plain).strip("-") or "folder"
    return f"{name}-folder" if name in SHIPPED else name


def load_folder(
    task: Task, folder: Path, seed: int, *, conflicts: Conflicts = "keep", group_by: GroupBy | None = None
) -> Splits:
    """Load the pictures of `folder` for `task` and divide them as `divide` does; `conflicts`: see `read_folder`.

    Raises DatasetError when the class folders are not the task's labels, or a class is too small.
    """
    layout = find_good(folder) if task.only_good else find_layout(folder)
    contents = read_layout(layout, task.preprocessing, conflicts)
    return divide(task, contents, seed, group_by)


def divide(task: Task, contents: FolderContents, seed: int, group_by: GroupBy | None = None) -> Splits:
    """Divide a folder's pictures 70 : 15 : 15, groups kept together, or as its owner did.

    Groups are pictures that show the same thing, and what `group_by` states.
    Dealing depends on the contents of the pictures, not on their names or order. What was made of the folder is
    reported as notes. Raises DatasetError when the classes are not the task's labels, or a class is too small.
    """
    contents.require_classes()
    class_id_of = {label_of(label): class_id for class_id, label in enumerate(task.labels)}
    if set(contents.labels) != set(class_id_of):
        odd = sorted(set(contents.labels) ^ set(class_id_of))
        raise DatasetError(
            f"the class folders of {contents.layout.folder} are not the labels of {task.name!r}: "
            f"{', '.join(odd)} in one of the two"
        )
    folder, summary = contents.layout.folder.resolve(), contents.summary()
    _tell(folder.name, summary)
    pictures = contents.pictures
    class_ids = np.array([class_id_of[picture.file.label] for picture in pictures], np.int64)
    digests = tuple(picture.sha256 for picture in pictures)
    groups = known_overlaps([picture.gray for picture in pictures], class_ids, digests).groups
    if group_by is not None:
        groups, remark = group_by.join([picture.file for picture in pictures], groups)
        note(f"  {remark}")
    whole = Dataset(
        stack_pictures([picture.image for picture in pictures]),
        class_ids,
        tuple(picture.file.name for picture in pictures),
        groups,
        digests,
    )
    parts, rule = _parts(task, whole, contents, seed)
    rule += "" if group_by is None else f"; groups by {group_by.title}"
    if contents.layout.divided:
        summary = replace(summary, crossing=find_crossing(whole.names, groups, dict(zip(PARTS, parts, strict=True))))
        _warn(summary.crossing_lines())
    else:
        _warn(unmeasurable(whole.class_ids, groups, task.labels))
    complete = dict.fromkeys(PARTS, True)
    train, validation, test = (whole.take(part) for part in parts)
    return Splits(train, validation, test, SplitInfo(folder.name, rule, seed, complete), folder, summary)


def _parts(task: Task, whole: Dataset, contents: FolderContents, seed: int) -> tuple[list[NDArray[np.int64]], str]:
    """Return the indices of train, validation and test, and by which rule."""
    everything = np.arange(len(whole))
    if not contents.layout.divided:
        parts = _deal(task, whole, everything, seed, GOOD_SHARES if task.only_good else SHARES)
        return parts, GOOD_RULE if task.only_good else GROUPED_RULE
    owned = [everything[[picture.file.part == part for picture in contents.pictures]] for part in PARTS]
    rule = OWN_RULE + f"{', '.join(part for part, own in zip(PARTS, owned, strict=True) if len(own))}"
    if len(owned[VALIDATION]) == 0:
        owned[TRAIN], owned[VALIDATION] = _deal(task, whole, owned[TRAIN], seed, _FROM_TRAIN)
        rule += "; validation: 15 % of its train, pictures that overlap kept together"
    return owned, rule


def _deal(
    task: Task, whole: Dataset, among: NDArray[np.int64], seed: int, shares: tuple[float, ...]
) -> list[NDArray[np.int64]]:
    """Deal the pictures `among` by group, in the order of their contents: no name decides where a picture goes."""
    assert whole.digests is not None and whole.groups is not None
    digests = [whole.digests[i] for i in among]
    order = among[canonical_order(whole.class_ids[among], digests)]
    parts = split_groups(whole.class_ids[order], numbered(whole.groups[order]), task.labels, seed=seed, shares=shares)
    return [np.sort(order[part]) for part in parts]


def _tell(name: str, summary: FolderSummary) -> None:
    first, *facts = summary.facts()
    note(f"{name}: {first}")
    for line in (*facts, *summary.omissions()):
        note(f"  {line}")
    _warn(summary.warnings())


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        note(f"  warning: {line}")


def _under_two_labels(pictures: Sequence[Picture]) -> list[list[Picture]]:
    """Return the pictures that have the same pixels but more than one label, those with the same pixels together."""
    same: dict[str, list[Picture]] = {}
    for picture in pictures:
        same.setdefault(picture.pixels, []).append(picture)
    return [members for members in same.values() if len({picture.file.label for picture in members}) > 1]


def _pair(members: Sequence[Picture]) -> tuple[str, str]:
    """Name two of them with different labels."""
    other = next(picture for picture in members if picture.file.label != members[0].file.label)
    return members[0].file.name, other.file.name


def _contradiction(pairs: Sequence[tuple[str, str]]) -> str:
    more = f", and {len(pairs) - 1} more such pairs" if len(pairs) > 1 else ""
    return (
        f"{pairs[0][0]} and {pairs[0][1]} are the same picture under two labels{more}: remove those that are labelled wrongly "
        "(`edgecnn data check` lists all), or train with --conflicts drop or keep"
    )


def write_folder(dataset: Dataset, labels: Sequence[str], folder: Path) -> int:
    """Write each picture to `folder/<label>/<label>_<n>.png`, n from 1, and return how many; whole or not at all.

    Raises OutputError when the folder already holds something or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} already exists and is not empty; choose another folder")
    make_folder(folder.parent)
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}") from error
    try:
        _write_all(dataset, labels, beside)
        beside.chmod(0o755)
        beside.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}; nothing was written") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return len(dataset)


def _write_all(dataset: Dataset, labels: Sequence[str], folder: Path) -> None:
    numbers = [0] * len(labels)
    for image, class_id in zip(dataset.images, dataset.class_ids, strict=True):
        label = labels[class_id]
        numbers[class_id] += 1
        (folder / label).mkdir(exist_ok=True)
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[2] == 3 else image
        encoded = cv2.imencode(".png", picture)[1]
        (folder / label / f"{label}_{numbers[class_id]}.png").write_bytes(encoded.tobytes())
