"""What data sets are made of: labelled pictures, and their division into train, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ShapeError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures in a model's input form with their classes.

    `images` is `(n, height, width, channels)` uint8, `class_ids` is `(n,)` int64, `groups` is `(n,)` int64 or None: pictures
    with the same group show the same physical thing and must not stand on both sides of a split. `names` tells where each
    picture comes from (a file name, or `test[17]`).
    """

    images: NDArray[np.uint8]
    class_ids: NDArray[np.int64]
    names: tuple[str, ...]
    groups: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise ShapeError(f"expected images (n, h, w, c) uint8, got {self.images.shape} {self.images.dtype}")
        lengths = {len(self.images), len(self.class_ids), len(self.names)}
        lengths |= set() if self.groups is None else {len(self.groups)}
        if len(lengths) > 1:
            raise ShapeError(f"images, class_ids, names and groups must have one length, got {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: NDArray[np.int64]) -> Dataset:
        """Return the pictures at `indices` `(k,)`, in that order."""
        groups = None if self.groups is None else self.groups[indices]
        return Dataset(self.images[indices], self.class_ids[indices], tuple(self.names[i] for i in indices), groups)

    def digest(self) -> str:
        """Return the SHA-256 of pixels and classes, the data's identity in contracts and reports."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.class_ids, dtype="<i8").data)
        return digest.hexdigest()


def concatenate(datasets: Sequence[Dataset]) -> Dataset:
    """Join data sets of one shape in order; groups are kept when all have them."""
    groups = [dataset.groups for dataset in datasets]
    return Dataset(
        np.concatenate([dataset.images for dataset in datasets]),
        np.concatenate([dataset.class_ids for dataset in datasets]),
        tuple(name for dataset in datasets for name in dataset.names),
        None if any(group is None for group in groups) else np.concatenate([g for g in groups if g is not None]),
    )


@dataclass(frozen=True)
class SplitInfo:
    """Where splits come from: said in every report made on them.

    `source` names the data ("MNIST", "NEU surface defects", a folder), `rule` how it was divided, `complete` which splits
    have all the pictures that the rule lists, `synthetic` whether the pictures were generated, `labelled` whether their classes
    are known (else they are a model's answers).
    """

    source: str
    rule: str
    seed: int | None = None
    complete: dict[str, bool] = field(default_factory=dict)
    synthetic: bool = False
    labelled: bool = True

    def describe(self, split: str) -> str:
        """Return one phrase for reports, such as `NEU surface defects, validation (300 of 300)`."""
        return f"{'synthetic pictures of ' if self.synthetic else ''}{self.source}, {split} split"


@dataclass(frozen=True, eq=False)
class Splits:
    """Train, validation and test, each a Dataset (possibly empty), and where they come from."""

    train: Dataset
    validation: Dataset
    test: Dataset
    info: SplitInfo

    def __getitem__(self, name: str) -> Dataset:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]
