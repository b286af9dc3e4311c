"""From a task to its splits: from a folder, from the data that this machine keeps, or generated where that is asked for."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import SplitInfo, Splits
from edgecnn.datasets.folder import load_folder
from edgecnn.errors import DatasetError, NoDataError
from edgecnn.tasks import Task

SYNTHETIC = Path("synthetic")  # in the place of a folder: generated pictures
SYNTHETIC_COUNTS = {"train": 100, "validation": 50, "test": 50}  # pictures per class


def load_splits(task: Task, folder: Path | None, seed: int) -> Splits:
    """Load the pictures of `task` from `folder`; without one from where `find_data` looks, or where its loader knows.

    SYNTHETIC in the place of a folder generates them. `seed` divides (where no fixed division is known) and generates.
    `info.synthetic` tells generated pictures, and `info.source` names the data. Raises DatasetError when a folder cannot be
    used, NoDataError when none was given and none is known.
    """
    if folder == SYNTHETIC:
        if SYNTHETIC.is_dir():
            raise DatasetError(f"{SYNTHETIC} stands for generated pictures, but is a folder here: give its absolute path")
        return synthesize_splits(task, seed)
    if folder is None:
        folder = find_data(task.name)
    if folder is not None:
        return task.load(folder, seed) if task.load else load_folder(task, folder, seed)
    if task.load is not None:
        # The loader may know a place of its own: a folder task its folder, MNIST the cache of Keras.
        with contextlib.suppress(NoDataError):
            return task.load(None, seed)
    generated = f"take generated ones with --data {SYNTHETIC}, " if task.synthesize is not None else ""
    raise NoDataError(
        f"no pictures of {task.name!r}: set EDGECNN_DATA to the folder that holds {task.name}/, {generated}"
        "or give their folder, or the run that was trained on them, with --data"
    )


def find_data(name: str) -> Path | None:
    """Return the folder of a task's data in the folder that `EDGECNN_DATA` names; None when absent.

    Raises DatasetError when EDGECNN_DATA names no folder.
    """
    stated = os.environ.get("EDGECNN_DATA")
    if stated and not Path(stated).is_dir():
        raise DatasetError(f"EDGECNN_DATA is {stated!r}, which is not a folder; it should hold mnist/ and neu/")
    return Path(stated) / name if stated and (Path(stated) / name).is_dir() else None


def synthesize_splits(task: Task, seed: int) -> Splits:
    """Generate all three splits of `task`, each from its own seed derived from `seed`; DatasetError without a generator."""
    if task.synthesize is None:
        raise DatasetError(
            f"{task.name!r} has no generator of pictures: give their folder with --data (FOLDER/<class>/<pictures>)"
        )
    seeds = np.random.SeedSequence(seed).generate_state(len(SYNTHETIC_COUNTS))
    counts = SYNTHETIC_COUNTS.values()
    train, validation, test = (task.synthesize(count, int(own)) for count, own in zip(counts, seeds, strict=True))
    complete = dict.fromkeys(SYNTHETIC_COUNTS, True)
    info = SplitInfo(task.title, "each split generated from a seed of its own", seed, complete, synthetic=True)
    return Splits(train, validation, test, info)


def data_info(splits: Splits, split: str) -> DataInfo:
    """Describe one split (`train`, `validation` or `test`) for contracts and reports."""
    dataset = splits[split]
    info = splits.info
    return DataInfo(info.source, split, len(dataset), dataset.digest(), info.synthetic, info.labelled)
