"""Parity of models that know good parts only: is a good part still good, and a damaged one still novel?

Two answers, and pictures of both, make of it what parity is for classes: held-out good parts, and copies of them with damage
drawn in. Whether all damage is found does not matter here, only whether a file finds what its reference finds. Nothing is
promised of good parts in another light, but a file must not call more of them novel than its reference does: an int8 file
whose ranges know one light only does so under single corruptions, which a mean over all of them hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, Splits, concatenate
from edgecnn.datasets.synthetic.damage import damage_all
from edgecnn.robustness.corruptions import Corruption, corruptions_for
from edgecnn.runtimes import Runtime
from edgecnn.tasks import Task
from edgecnn_export.conversion.calibration import COUNT, choose_calibration
from edgecnn_export.parity.corrupted import deal, variants

NOVEL = "novel"
VARIANTS = 600  # unlabelled pictures for the bound by margins


@dataclass(frozen=True, eq=False)
class Shown:
    """What models are compared on: pictures, the answers' labels, and pictures to corrupt where they are others."""

    dataset: Dataset
    labels: tuple[str, ...]
    corrupted_of: Dataset | None = None


def shown(task: Task, dataset: Dataset, seed: int) -> Shown:
    """Return held-out pictures as models of the task are compared on them: good parts with damaged copies."""
    if not task.only_good:
        return Shown(dataset, task.labels)
    return Shown(with_damaged(dataset, seed), (*task.labels, NOVEL), dataset)


def answering(task: Task, runtime: Runtime) -> Runtime:
    """Return a runtime whose answers are compared: `good` or `novel` of a model that knows good parts only."""
    return GoodOrNovel(runtime) if task.only_good else runtime


def unlabelled(task: Task, splits: Splits, corruptions: Sequence[Corruption], seed: int) -> NDArray[np.uint8]:
    """Make pictures `(n, h, w, c)` of the training split for the bound by margins (see `parity.margins`)."""
    return damaged_variants(splits.train, seed) if task.only_good else variants(splits.train, corruptions, seed)


class GoodOrNovel:
    """A runtime that answers with the likeness of a good part, and what is missing to 1: above a half it is novel."""

    def __init__(self, runtime: Runtime) -> None:
        """Take a runtime of one class."""
        self.name = runtime.name
        self._runtime = runtime

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to `(n, 2)`: good and novel."""
        likeness = self._runtime.run(images)
        return np.concatenate([likeness, 1 - likeness], axis=1)


def with_damaged(good: Dataset, seed: int) -> Dataset:
    """Return good parts, class 0, and behind them a damaged copy of each, class 1, in the same group."""
    good = replace(good, groups=np.arange(len(good)) if good.groups is None else good.groups)
    names = tuple(f"{name}, damaged" for name in good.names)
    class_ids = np.ones(len(good), np.int64)
    return concatenate([good, replace(good, images=damage_all(good.images, seed), class_ids=class_ids, names=names)])


def damaged_variants(good: Dataset, seed: int) -> NDArray[np.uint8]:
    """Return copies of good parts with damage, about VARIANTS `(n, h, w, c)`: near ties are frequent among them."""
    rounds = max(1, VARIANTS // max(1, len(good)))
    return np.concatenate([damage_all(good.images, seed + 1 + i) for i in range(rounds)])


def calibration_pictures(task: Task, train: Dataset, seed: int, count: int = COUNT) -> Dataset:
    """Draw about `count` training pictures; for a model of good parts also copies of them under camera corruptions.

    Good parts are photographed in one light, and ranges of that alone clip what another light makes of them: then an int8 file
    sees damage where its reference sees a dim part. The copies are behind the others (see `parity.corrupted.deal`).
    """
    chosen = choose_calibration(train, count, seed)
    if not task.only_good:
        return chosen
    chosen = replace(chosen, groups=np.arange(len(chosen)) if chosen.groups is None else chosen.groups)
    return concatenate([chosen, deal(chosen, corruptions_for(task), seed).dataset])
