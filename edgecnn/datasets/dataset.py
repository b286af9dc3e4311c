"""What data sets are made of: labelled pictures, and their division into train, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import DatasetError, InputError, ShapeError
from edgecnn.mapped import blocks, join_pictures, take_pictures
from edgecnn.records import read_record

if TYPE_CHECKING:
    from edgecnn.datasets.summary import FolderSummary


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures in a model's input form with their classes.

    `images` is `(n, height, width, channels)` uint8, `class_ids` is `(n,)` int64, `groups` is `(n,)` int64 or None: pictures
    with the same group show the same physical thing and must not stand on both sides of a split. `names` tells where each
    picture comes from (a path relative to the data folder, or `test[17]` in a file of arrays), `digests` its content there: the
    SHA-256 of the file's bytes, or of the array's; None where pictures have no such origin.
    """

    images: NDArray[np.uint8]
    class_ids: NDArray[np.int64]
    names: tuple[str, ...]
    groups: NDArray[np.int64] | None = None
    digests: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ShapeError(f"expected images (n, h, w, c) uint8, got {self.images.shape} {self.images.dtype}")
        lengths = {len(self.images), len(self.class_ids), len(self.names)}
        lengths |= {len(given) for given in (self.groups, self.digests) if given is not None}
        if len(lengths) > 1:
            raise ShapeError(f"images, class_ids, names, groups and digests must have one length, got {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: NDArray[np.int64]) -> Dataset:
        """Return the pictures at `indices` `(k,)`, in that order."""
        return Dataset(
            take_pictures(self.images, indices),
            self.class_ids[indices],
            tuple(self.names[i] for i in indices),
            None if self.groups is None else self.groups[indices],
            None if self.digests is None else tuple(self.digests[i] for i in indices),
        )

    def digest(self) -> str:
        """Return the SHA-256 of pixels and classes, the data's identity in contracts and reports."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        for block in blocks(self.images):
            digest.update(np.ascontiguousarray(block).data)
        digest.update(np.ascontiguousarray(self.class_ids, dtype="<i8").data)
        return digest.hexdigest()


def concatenate(datasets: Sequence[Dataset]) -> Dataset:
    """Join data sets of one shape in order; groups and digests are kept when all have them."""
    groups = [dataset.groups for dataset in datasets]
    digests = [dataset.digests for dataset in datasets]
    return Dataset(
        join_pictures([dataset.images for dataset in datasets]),
        np.concatenate([dataset.class_ids for dataset in datasets]),
        tuple(name for dataset in datasets for name in dataset.names),
        None if any(group is None for group in groups) else np.concatenate([g for g in groups if g is not None]),
        None if any(part is None for part in digests) else tuple(digest for part in digests for digest in part or ()),
    )


def picture_digests(images: NDArray[np.uint8]) -> tuple[str, ...]:
    """Return the SHA-256 of each picture's bytes in arrays `(n, ...)`: the content of pictures that have no files."""
    return tuple(hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in images)


@dataclass(frozen=True)
class SplitInfo:
    """Where splits come from: stated in every report made on them.

    `source` names the data ("MNIST", "NEU surface defects", a folder), `rule` how it was divided, `complete` which splits
    have all the pictures that the rule lists, `synthetic` whether the pictures were generated, `labelled` whether their classes
    are known (else they are a model's answers), `ignored` how many pictures of the folder a stored split does not know.
    """

    source: str
    rule: str
    seed: int | None = None
    complete: dict[str, bool] = field(default_factory=dict)
    synthetic: bool = False
    labelled: bool = True
    ignored: int = 0

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SplitInfo:
        """Restore what `dataclasses.asdict` made of it, as `training.json` keeps it; DatasetError when it is malformed."""
        known = {one.name for one in fields(cls)}
        try:
            return read_record(cls, {name: value for name, value in data.items() if name in known}, "split")
        except (AttributeError, InputError) as error:
            raise DatasetError(f"malformed description of a split: {error}") from error

    def describe(self, split: str) -> str:
        """Return one phrase for reports, such as `NEU surface defects, validation (300 of 300)`."""
        return f"{'synthetic pictures of ' if self.synthetic else ''}{self.source}, {split} split"


@dataclass(frozen=True, eq=False)
class Splits:
    """Train, validation and test, each a Dataset (possibly empty), and where they come from.

    `folder` is the absolute path of the data folder, None for pictures that were generated or have no folder; `summary` says
    what was made of it where that was looked into. `others` is a further folder with pictures of no class, beside `_other` in
    the data folder.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    info: SplitInfo
    folder: Path | None = None
    summary: FolderSummary | None = None
    others: Path | None = None

    @property
    def storable(self) -> bool:
        """True when each picture can be found again by its name in `folder`, so that the division can be kept in a table."""
        parts = (self.train, self.validation, self.test)
        return self.folder is not None and not self.info.synthetic and all(part.digests is not None for part in parts)

    def __getitem__(self, name: str) -> Dataset:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


def rank_in_class(class_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each of `(n,)` how many of its class stand before it."""
    rank = np.zeros(len(class_ids), np.int64)
    for class_id in np.unique(class_ids):
        of_class = class_ids == class_id
        rank[of_class] = np.arange(of_class.sum())
    return rank
