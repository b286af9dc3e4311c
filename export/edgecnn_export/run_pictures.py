"""The pictures that a model was trained on, found again by what its run recorded."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.datasets.dataset import SplitInfo, Splits, concatenate
from edgecnn.datasets.load import load_splits, synthesize_splits
from edgecnn.datasets.split_table import FILE_NAME, load_stored_splits, read_splits_table
from edgecnn.errors import DatasetError, InputError
from edgecnn.files import read_bytes
from edgecnn.tasks import Task
from edgecnn_export.reference import MODEL_FILE, Reference
from edgecnn_export.run_folder import RUN_FILE

_MAX_RECORD_BYTES = 2**26


def load_pictures(
    task: Task, data: Path | None, seed: int, reference: Reference | None = None, *, foreign: bool = False
) -> Splits:
    """Load a model's pictures: those in `data`, else those that `reference` was trained on, else what the task has.

    A model that was trained here gets the division that it was trained with, and any model that of a run which `data` names.
    For another tool's model, which `foreign` tells where there is no reference, nothing is set aside as a test: all that does
    not calibrate compares. Raises DatasetError when a folder cannot be used, when the pictures of the training are gone or
    changed, or when there are none.
    """
    if data is not None and (found := RunPictures.in_run(task, data)) is not None:
        return found.load(seed)
    run = None
    if reference is not None:
        seed, run = reference.split_seed(seed), RunPictures.of(reference)
        foreign = reference.raw is not None
    if run is not None and (data is None or run.table is not None):
        return run.load(seed) if data is None else run.moved_to(data, seed)
    splits = load_splits(task, data, seed)
    if not foreign:
        return splits
    rest = concatenate([splits.validation, splits.test])
    return dataclasses.replace(splits, validation=rest, test=splits.test.take(np.empty(0, np.int64)))


@dataclass(frozen=True)
class RunPictures:
    """Where the pictures of a training run are: in a `folder`, divided as `table` says, or generated where both are None."""

    task: Task
    folder: Path | None
    table: Path | None
    info: SplitInfo

    @classmethod
    def of(cls, reference: Reference) -> RunPictures | None:
        """Read what the run folder beside a model records; None for a model that is in none, or whose run records nothing."""
        if reference.raw is not None or reference.path is None or reference.path.name != MODEL_FILE:
            return None
        return cls.in_run(reference.task, reference.path.parent)

    @classmethod
    def in_run(cls, task: Task, folder: Path) -> RunPictures | None:
        """Read what a run records; None for a folder that is none, or whose run records nothing."""
        path = folder / RUN_FILE
        if not path.is_file():
            return None
        record = _read_record(path)
        try:
            info, pictures = SplitInfo.from_json(record["split"]), record.get("data_folder")
        except KeyError:
            return None
        if pictures is not None:
            return cls(task, Path(pictures), path.with_name(FILE_NAME), info)
        return cls(task, None, None, info) if info.synthetic else None

    def load(self, seed: int) -> Splits:
        """Load them as they were; DatasetError when they are gone or changed."""
        if self.folder is None or self.table is None:
            return synthesize_splits(self.task, seed)
        return load_stored_splits(self.task, self.folder, self.table, info=self.info)

    def moved_to(self, folder: Path, seed: int) -> Splits:
        """Load them from another place; where that holds other pictures, load those as any other data set.

        DatasetError where it holds only some of them: a new division would judge by pictures that were trained on.
        """
        assert self.table is not None
        try:
            return load_stored_splits(self.task, folder, self.table, info=self.info)
        except DatasetError as error:
            other = load_splits(self.task, folder, seed)
            trained_on = {row.sha256 for row in read_splits_table(self.table) if row.split == "train"}
            judged_by = {digest for part in (other.validation, other.test) for digest in part.digests or ()}
            if trained_on & judged_by:
                raise error
            return other


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(read_bytes(path, at_most=_MAX_RECORD_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not the record of a training: {error}; train again") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} is not the record of a training; train again")
    return record
