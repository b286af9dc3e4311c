"""NEU surface defects: six kinds of damage on hot-rolled steel, 200 x 200.

K. Song and Y. Yan, Applied Surface Science 285 (2013) 858-864. The pictures are overlapping crops of larger ones, therefore the
default division is the table `neu_split.csv` beside this module: class, number, group of overlapping pictures and split of each
of the 1,800 (measured on the pixels; only names, no pictures). The labels stand in the order of the course's arrays.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits, concatenate, picture_digests
from edgecnn.datasets.folder import read_layout
from edgecnn.datasets.layout import LabelledFile, Layout
from edgecnn.datasets.overlap_cache import known_overlaps
from edgecnn.datasets.reading import Picture
from edgecnn.datasets.split import split_groups
from edgecnn.errors import DatasetError, NoDataError
from edgecnn.folders import Listing, is_other, left_out_line, list_pictures
from edgecnn.preprocessing import Preprocessing
from edgecnn.progress import note
from edgecnn.tasks import Task

ARRAYS = "NEU_train_imgs.npy", "NEU_train_labels.npy", "NEU_test_imgs.npy", "NEU_test_labels.npy"
SOURCE = "NEU surface defects"
_LABELS = ("scratches", "rolled-in_scale", "pitted_surface", "patches", "inclusion", "crazing")
# NEU-CLS names its files Sc_1.bmp and so on, NEU-DET scratches_1.jpg.
_SHORT = dict(zip(("sc", "rs", "ps", "pa", "in", "cr"), _LABELS, strict=True))
_LONG = {re.sub("[^a-z]", "", label): label for label in _LABELS}
_NAME = re.compile(r"(.*?)[ _-]*\(?([0-9]{1,4})\)?")
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Row:
    """One picture of the split table: its class, number, group of overlapping pictures and split."""

    label: str
    number: int
    group: int
    split: str


def read_split_table() -> dict[tuple[str, int], Row]:
    """Return the division of all 1,800 pictures, by label and number."""
    with Path(__file__).with_name("neu_split.csv").open(newline="", encoding="utf-8") as file:
        rows = [
            Row(line["class"], int(Path(line["file"]).stem.rsplit("_", 1)[1]), int(line["group"]), _SPLITS[line["split"]])
            for line in csv.DictReader(file)
        ]
    return {(row.label, row.number): row for row in rows}


def recorded_parts(files: Sequence[str]) -> list[str] | None:
    """Return in which part the table has each file; None unless all of them are named as pictures of NEU are."""
    known = read_split_table()
    keys = [_identify(Path(name)) for name in files]
    return [known[key].split for key in keys if key is not None] if all(key in known for key in keys) else None


def load_neu(folder: Path | None, seed: int = 0) -> Splits:
    """Load NEU from any form it is passed around in.

    `<class>/<class>_<n>.jpg`, the flat NEU-CLS form (`Cr_1.bmp`), the NEU-DET form (`IMAGES/`, `train/images/<class>/`,
    `validation/images/<class>/`): divided by the table, whatever the folders are called. The course's four `.npy` arrays keep
    the course's own test pictures. Raises DatasetError for a missing folder or a picture that is not of NEU.
    """
    if folder is None:
        raise NoDataError(
            "the NEU pictures are not on this machine; its authors give it away for research: name its folder with --data"
        )
    if not folder.is_dir():
        raise DatasetError(f"no such folder: {folder}; expected the unpacked NEU database")
    splits = _load_arrays(folder, seed) if _holds_arrays(folder) else _load_pictures(folder)
    return replace(splits, folder=folder.resolve())


def read_arrays(folder: Path) -> Dataset | None:
    """Read all pictures of the course's arrays, train before test, without dividing them; None where there are none."""
    return concatenate(_read_arrays(folder)) if _holds_arrays(folder) else None


def find_pictures(folder: Path) -> dict[tuple[str, int], Path]:
    """Return NEU's pictures below `folder` by label and number, in the order of the split table.

    A picture may be there twice (NEU-DET is also passed around with `IMAGES/` beside its two parts) as long as both hold the
    same bytes.
    """
    return {key: folder / name for key, name in _find(list_pictures(folder)).items()}


def find_layout(folder: Path) -> Layout:
    """Return NEU's pictures below `folder` with their labels, and what else is there."""
    listing = list_pictures(folder)
    return _layout(listing, _find(listing))


def _layout(listing: Listing, found: dict[tuple[str, int], str]) -> Layout:
    files = tuple(LabelledFile(listing.folder / name, name, label) for (label, _), name in found.items())
    twice = dict.fromkeys({str(path) for path in listing.pictures} - set(found.values()), "there twice")
    return Layout(listing.folder, files, _LABELS, (), listing.left_out | twice)


def _find(listing: Listing) -> dict[tuple[str, int], str]:
    """Return the names of NEU's pictures by label and number."""
    known = read_split_table()
    found: dict[tuple[str, int], str] = {}
    for picture in listing.pictures:
        path, key = listing.folder / picture, _identify(listing.folder / picture)
        if key not in known:
            raise DatasetError(
                f"{path} is not named like a picture of NEU (crazing_1.jpg to scratches_300.jpg, or Cr_1.bmp); for pictures "
                "of your own give the folder as the task: edgecnn train FOLDER"
            )
        if key in found and (listing.folder / found[key]).read_bytes() != path.read_bytes():
            first = listing.folder / found[key]
            raise DatasetError(f"{first} and {path} are named alike but differ; remove the one that is not of NEU")
        found.setdefault(key, str(picture))
    return {key: found[key] for key in known if key in found}


def _identify(path: Path) -> tuple[str, int] | None:
    """Read label and number off a file name; None when it is not a name of NEU or stands in another class's folder."""
    match = _NAME.fullmatch(path.stem)
    label = match and _label(match[1])
    if not match or not label or _LONG.get(_letters(path.parent.name), label) != label:
        return None
    return label, int(match[2])


def _label(name: str) -> str | None:
    return _LONG.get(_letters(name)) or _SHORT.get(_letters(name))


def _letters(name: str) -> str:
    return re.sub("[^a-z]", "", name.lower())


def _load_pictures(folder: Path) -> Splits:
    listing = list_pictures(folder)
    found = _find(listing)
    if not found:
        raise DatasetError(
            f"{folder} holds no pictures of NEU; expected crazing/crazing_1.jpg, Cr_1.bmp, IMAGES/crazing_1.jpg or "
            + ", ".join(ARRAYS)
        )
    contents = read_layout(_layout(listing, found), TASK.preprocessing)
    if lost := {name: why for name, why in contents.left_out.items() if not is_other(why)}:
        note(f"{SOURCE}: {left_out_line(lost)}")
    read = {picture.file.name: picture for picture in contents.pictures}
    parts, complete = {}, {}
    for split in _SPLITS.values():
        rows = [row for row in read_split_table().values() if row.split == split]
        present = [row for row in rows if found.get((row.label, row.number)) in read]
        complete[split] = len(present) == len(rows)
        parts[split] = _dataset(present, [read[found[row.label, row.number]] for row in present])
    info = SplitInfo(SOURCE, rule="neu_split.csv: pictures recorded as overlapping stay together", complete=complete)
    return Splits(parts["train"], parts["validation"], parts["test"], info, summary=contents.summary())


def _dataset(rows: list[Row], pictures: list[Picture]) -> Dataset:
    return Dataset(
        np.stack([picture.image for picture in pictures]) if rows else np.zeros((0, *TASK.preprocessing.shape), np.uint8),
        np.array([_LABELS.index(row.label) for row in rows], np.int64),
        tuple(picture.file.name for picture in pictures),
        np.array([row.group for row in rows], np.int64),
        tuple(picture.sha256 for picture in pictures),
    )


def _holds_arrays(folder: Path) -> bool:
    return any((folder / name).exists() for name in ARRAYS)


def _load_arrays(folder: Path, seed: int) -> Splits:
    """Load the course's arrays: its test stays, validation is taken from its train by our overlap check."""
    train, test = _read_arrays(folder)
    groups = known_overlaps(list(train.images[..., 0]), train.class_ids, train.digests or ()).groups
    kept, held_out = split_groups(train.class_ids, groups, _LABELS, seed=seed, shares=(0.85, 0.15))
    train = replace(train, groups=groups)
    rule = (
        "the course's own test pictures, which overlap its training pictures; validation: 15 % of train, overlaps kept together"
    )
    complete = {"train": len(train) == 1500, "validation": len(train) == 1500, "test": len(test) == 300}
    info = SplitInfo(f"{SOURCE} (the course's arrays)", rule, seed, complete)
    return Splits(train.take(kept), train.take(held_out), test, info)


def _read_arrays(folder: Path) -> tuple[Dataset, Dataset]:
    """Return the course's training and its test pictures."""
    return _read_pair(folder, "train", *ARRAYS[:2]), _read_pair(folder, "test", *ARRAYS[2:])


def _read_pair(folder: Path, split: str, images_name: str, labels_name: str) -> Dataset:
    from edgecnn.datasets.arrays import read_images, read_labels

    images = read_images(folder / images_name)
    labels = read_labels(folder / labels_name, count=len(images), classes=len(_LABELS))
    names = tuple(f"{split}[{i}]" for i in range(len(labels)))
    return Dataset(np.stack([TASK.preprocessing(image) for image in images]), labels, names, digests=picture_digests(images))


def _synthesize(count: int, seed: int) -> Dataset:
    from edgecnn.datasets.synthetic.steel import generate_steel

    return generate_steel(count, seed)


def _ood(count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    from edgecnn.datasets.synthetic.ood_surfaces import generate_other_surfaces

    return generate_other_surfaces(count, seed)


def _outliers(count: int, seed: int) -> NDArray[np.uint8]:
    from edgecnn.datasets.synthetic.outliers import generate_counter_surfaces

    return generate_counter_surfaces(count, seed)


TASK: Task = Task(
    name="neu",
    title="steel surface defects",
    labels=_LABELS,
    preprocessing=Preprocessing(200, 200, "gray", "squash"),
    max_drop=1.0,
    flips=True,
    load=load_neu,
    read=read_arrays,
    synthesize=_synthesize,
    ood=_ood,
    outliers=_outliers,
)
