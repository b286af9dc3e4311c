"""Finding the pictures that an export calibrates on and is proven with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.datasets.loading import find_data, load_splits
from edgecnn.errors import InputError
from edgecnn.pictures import SUFFIXES, natural_key, read_picture
from edgecnn_export.reference import Reference

MAX_PICTURES = 2000


def find_splits(reference: Reference, data: Path | None, calibration: Path | None, seed: int) -> Splits | None:
    """Return the pictures for an export: the data set in `data`, loose pictures in `calibration`, or what the task has.

    With both, `calibration` gives the pictures to calibrate on and `data` those to measure parity on. None when nothing is
    given and the task has no data of its own: int8 then needs recorded ranges, and parity is not measured. A model that was
    trained here gets the division that it was trained with, whatever `seed` says.
    Raises InputError (DatasetError) when a folder cannot be used.
    """
    task = reference.task
    own = task.synthesize is not None or (task.load is not None and find_data(task.name) is not None)
    splits = load_splits(task, data, reference.split_seed(seed)) if data is not None or (own and calibration is None) else None
    if calibration is None:
        return splits
    loose = read_loose_pictures(calibration, reference)
    if splits is None:
        return loose
    info = dataclasses.replace(splits.info, source=f"{splits.info.source} (calibrated on {calibration})")
    return Splits(loose.train, splits.validation, splits.test, info)


def read_loose_pictures(folder: Path, reference: Reference) -> Splits:
    """Read all pictures below `folder`, labelled or not: to calibrate on, and to compare answers on.

    A picture's class is what the reference model says: parity then measures agreement with it, and reports say so. At most
    MAX_PICTURES, evenly chosen, are read. Raises InputError when there are none, PictureError for one that cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of pictures")
    paths = sorted((path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES), key=natural_key)
    if not paths:
        raise InputError(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    paths = paths[:: -(-len(paths) // MAX_PICTURES)]
    images = np.stack([reference.task.preprocessing(read_picture(path)) for path in paths])
    class_ids = reference.runtime().run(images).argmax(axis=1).astype(np.int64)
    every = Dataset(images, class_ids, tuple(str(path.relative_to(folder)) for path in paths))
    info = SplitInfo(f"{folder}, the reference's answers taken as true", "all pictures for both")
    return Splits(every, every, every.take(np.empty(0, np.int64)), info)
