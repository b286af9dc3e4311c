"""Classification problems without any framework: what is recognised, in which order, from which pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.preprocessing import Preprocessing

if TYPE_CHECKING:
    from edgecnn.datasets.dataset import Dataset, Splits


SHIPPED = ("mnist", "neu")  # the names of the tasks that come along: a folder's task takes another


@dataclass(frozen=True)
class Task:
    """A classification problem: name, labels in class order, and how a raw picture becomes the model's input.

    A task of one label has only good parts (`only_good`).

    `load(folder, seed)` reads its data set and divides it; `read(folder)` only reads it, where the folder holds arrays instead
    of picture files (None where it does not). `synthesize(count, seed)` makes `count` generated pictures per class where the
    task has a generator, and `ood(count, seed)` makes `count` out-of-distribution pictures `(count, height, width, channels)`
    uint8 of each kind: with these rejection is measured. `outliers(count, seed)` makes `count` such pictures in other ways, to
    train on (outlier exposure, arXiv:1812.04606). `max_drop` is the default parity margin in percentage points. `flips` tells
    that a mirrored picture keeps its class (steel does, digits do not).
    """

    name: str
    title: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    max_drop: float = 1.0
    flips: bool = False
    load: Callable[[Path | None, int], Splits] | None = field(default=None, compare=False, repr=False)
    read: Callable[[Path], Dataset | None] | None = field(default=None, compare=False, repr=False)
    synthesize: Callable[[int, int], Dataset] | None = field(default=None, compare=False, repr=False)
    ood: Callable[[int, int], dict[str, NDArray[np.uint8]]] | None = field(default=None, compare=False, repr=False)
    outliers: Callable[[int, int], NDArray[np.uint8]] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.labels:
            raise InputError("a task needs at least one class")
        if len(set(self.labels)) != len(self.labels):
            raise InputError(f"labels must differ from each other, got {list(self.labels)}")

    @property
    def only_good(self) -> bool:
        """True when good parts alone are known: one class, and what is unlike it is novel."""
        return len(self.labels) == 1

    @property
    def outputs(self) -> int:
        """How many numbers its networks end in: one a label. Of good parts alone nobody reads them, and Keras wants two."""
        return max(2, len(self.labels))

    def to_json(self) -> dict[str, Any]:
        """Return what a file must carry to restore the task: everything but its loaders."""
        fitted = self.preprocessing
        return {
            "name": self.name,
            "title": self.title,
            "labels": list(self.labels),
            "preprocessing": {"height": fitted.height, "width": fitted.width, "color": fitted.color, "fit": fitted.fit},
            "max_drop": self.max_drop,
            "flips": self.flips,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Task:
        """Restore a task from `to_json`, without loaders (see `shipped.with_loaders`)."""
        try:
            fields = data | {"labels": tuple(data["labels"]), "preprocessing": Preprocessing(**data["preprocessing"])}
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise InputError(f"malformed task description: {error}") from error
