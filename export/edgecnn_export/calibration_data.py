"""The pictures that a model is calibrated on and proven with, and the ranges that are measured on them."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.datasets.layout import LabelledFile
from edgecnn.datasets.overlap_cache import known_overlaps
from edgecnn.datasets.reading import Picture, read_pictures
from edgecnn.datasets.split import split_groups
from edgecnn.errors import DatasetError, InputError, NoDataError
from edgecnn.folders import count_reasons, left_out_line, list_pictures
from edgecnn.progress import note
from edgecnn.quiet import quiet
from edgecnn.tasks import Task
from edgecnn.text import printable
from edgecnn_export.calibration_audit import Audit, audit_calibration
from edgecnn_export.conversion.calibration import Calibration, calibrate, choose_calibration
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.parity.compare import MIN_PICTURES, too_few
from edgecnn_export.parity.good_parts import calibration_pictures
from edgecnn_export.reference import Reference
from edgecnn_export.run_pictures import load_pictures

MAX_PICTURES = 2000
CORRUPTED_TOO = "also under camera corruptions"  # in the record of a calibration on such pictures


def find_calibration(
    reference: Reference, folded: Folded, splits: Splits | None, seed: int
) -> tuple[Calibration, NDArray[np.uint8] | None]:
    """Measure ranges on real training pictures where there are some, else take those recorded in the reference.

    Also returns the pictures, None where there are none. Synthetic pictures serve only a model that has no record.
    Raises InputError when there is neither, ConversionError when the record is not of this model.
    """
    recorded = None if reference.calibration is None else Calibration.from_json(reference.calibration)
    if splits is None or (splits.info.synthetic and recorded is not None) or len(splits.train) == 0:
        if recorded is None:
            raise InputError(
                f"int8 needs ranges and model {reference.name!r} has none recorded; "
                "give training pictures with --data or --calibration"
            )
        recorded.check(folded)
        return recorded, None
    pictures = calibration_pictures(reference.task, splits.train, seed)
    return _calibrate(folded, reference.task, pictures, splits, seed), pictures.images


def audit(folded: Folded, splits: Splits, labels: tuple[str, ...], seed: int) -> Audit:
    """Check the pictures that `find_calibration` measures on; InputError with each reason when they can't be trusted."""
    chosen = choose_calibration(splits.train, seed=seed)
    same = splits.train is splits.validation
    labelled = splits.info.labelled
    found = audit_calibration(folded, chosen, splits.validation, labels, same=same, labelled=labelled, seed=seed)
    if found.failures:
        raise InputError(f"no int8 file was made, the calibration pictures failed their audit: {'; '.join(found.failures)}")
    return found


def record_calibration(reference: Reference, splits: Splits, seed: int) -> Reference:
    """Return the reference with the ranges of its activations on training pictures, so that int8 needs no data later."""
    with quiet():
        folded = fold(reference.model)
    pictures = calibration_pictures(reference.task, splits.train, seed)
    record = _calibrate(folded, reference.task, pictures, splits, seed)
    return dataclasses.replace(reference, calibration=record.to_json() if record.ranges else None)


def _calibrate(folded: Folded, task: Task, chosen: Dataset, splits: Splits, seed: int) -> Calibration:
    data = DataInfo(splits.info.source, "train", len(chosen), chosen.digest(), splits.info.synthetic)
    calibration = calibrate(folded, chosen.images, data, seed)
    if task.only_good:
        calibration = dataclasses.replace(calibration, method=f"{calibration.method}, {CORRUPTED_TOO}")
    # The simulation runs on TensorFlow; a training on another backend records plain ranges, and its export corrects them.
    if not (calibration.ranges and folded.is_deep and keras.backend.backend() == "tensorflow"):
        return calibration
    from edgecnn_export.repair.bias_correction import corrected

    return corrected(folded, calibration, chosen.images)


def find_splits(
    reference: Reference, data: Path | None, calibration: Path | None, seed: int, *, unproven: bool = False
) -> Splits | None:
    """Return the pictures for an export: the data set in `data`, pictures in `calibration`, or those of the training.

    With both, `calibration` gives the pictures to calibrate on and `data` those to measure parity on. Raises InputError
    (DatasetError) when a folder cannot be used, or when there is nothing to prove the files with: `unproven` makes that None.
    """
    splits = _proof(reference, data, calibration, seed, unproven)
    if splits is not None and len(splits.validation) < MIN_PICTURES and not unproven:
        raise DatasetError(f"nothing to prove the files with: {too_few(splits)}; give more, or --unproven")
    return splits


def _proof(reference: Reference, data: Path | None, calibration: Path | None, seed: int, unproven: bool) -> Splits | None:
    if calibration is not None and data is None:
        return read_calibration(calibration, reference, seed, unproven=unproven)
    try:
        splits = _own_pictures(reference, data, seed)
    except DatasetError as error:
        if data is not None:
            raise
        if not unproven:
            advice = "" if "--data" in str(error) else "; name a folder with --data"
            raise DatasetError(f"nothing to prove the files with: {error}{advice}, or give --unproven") from error
        splits = None
    if splits is None or calibration is None:
        return splits
    train = read_calibration(calibration, reference, seed, unproven=True).train
    info = dataclasses.replace(splits.info, source=f"{splits.info.source} (calibrated on {calibration})")
    return dataclasses.replace(splits, train=train, info=info)


def _own_pictures(reference: Reference, data: Path | None, seed: int) -> Splits:
    try:
        return load_pictures(reference.task, data, seed, reference)
    except NoDataError as error:
        name = reference.name if reference.path is None else reference.path
        raise NoDataError(f"{name} does not record where the pictures are that it was trained on; {error}") from error


def read_calibration(folder: Path, reference: Reference, seed: int, *, unproven: bool = False) -> Splits:
    """Read the pictures below `folder` to calibrate on, and to compare with.

    In folders named after the labels they are labelled: one half calibrates, the other compares, and pictures that overlap
    stay together; all of them serve for both where half of them would be too few to compare on. `unproven` lets all of them
    calibrate where they cannot be divided. Other pictures have no labels: all serve for both, and what the reference answers
    stands in for the truth. At most MAX_PICTURES, evenly chosen, are read. Raises InputError when there are none, or when some
    folders are named after labels and some are not; DatasetError when a class cannot be divided. What is not a picture is left
    out, and reported.
    """
    pictures = _read_below(folder, reference.task)
    found = _labels_of([Path(picture.file.name) for picture in pictures], folder, reference.task.labels)
    images = np.stack([picture.image for picture in pictures])
    names = tuple(picture.file.name for picture in pictures)
    nothing = np.empty(0, np.int64)
    if found is None:
        class_ids = reference.runtime().run(images).argmax(axis=1).astype(np.int64)
        every = Dataset(images, class_ids, names)
        info = SplitInfo(str(folder), "all pictures for both, unlabelled", labelled=False)
        return Splits(every, every, every.take(nothing), info)
    _warn_of_twins(pictures, found, folder)
    groups = known_overlaps([picture.gray for picture in pictures], found, [picture.sha256 for picture in pictures]).groups
    every = Dataset(images, found, names, groups)
    info = SplitInfo(str(folder), "halved by class, overlapping pictures kept together", seed)
    try:
        present, dense = np.unique(found, return_inverse=True)
        labels = [reference.task.labels[i] for i in present]
        train, validation = split_groups(dense.reshape(-1), groups, labels, seed=seed, shares=(0.5, 0.5))
    except DatasetError:
        if not unproven:
            raise
        train, validation = np.arange(len(every)), nothing
    if len(validation) < MIN_PICTURES <= len(every):
        return Splits(
            every, every, every.take(nothing), dataclasses.replace(info, rule="all pictures for both: too few to halve")
        )
    return Splits(every.take(train), every.take(validation), every.take(nothing), info)


def _warn_of_twins(pictures: Sequence[Picture], class_ids: NDArray[np.int64], folder: Path) -> None:
    """Say which picture stands under two labels, byte for byte: no answer to it can be right."""
    first: dict[str, int] = {}
    for i, picture in enumerate(pictures):
        twin = first.setdefault(picture.sha256, i)
        if class_ids[twin] != class_ids[i]:
            names = f"{pictures[twin].file.name} and {picture.file.name}"
            note(f"warning: {folder}: {names} are the same picture under two labels; remove the one that is labelled wrongly")
            return


def _read_below(folder: Path, task: Task) -> Sequence[Picture]:
    """Read at most MAX_PICTURES of the pictures below a folder, evenly chosen; their names are relative to it."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of pictures")
    listing = list_pictures(folder)
    chosen = listing.pictures[:: max(1, -(-len(listing.pictures) // MAX_PICTURES))]
    pictures = read_pictures([LabelledFile(folder / path, str(path), label="") for path in chosen], task.preprocessing)
    left_out = listing.left_out | pictures.unreadable
    if not pictures.read:
        raise InputError(f"{folder} holds no pictures{f': {count_reasons(left_out)}' if left_out else ''}")
    if left_out:
        note(f"{folder}: {left_out_line(left_out)}")
    return pictures.read


def _labels_of(paths: Sequence[Path], folder: Path, labels: tuple[str, ...]) -> NDArray[np.int64] | None:
    """Return the class ids `(n,)` of pictures in `folder` whose folders are named after labels, None when none is."""
    known = {_plain(label): i for i, label in enumerate(labels)}
    tops = [path.parts[0] if len(path.parts) > 1 else None for path in paths]
    named = {top: known.get(_plain(top)) for top in tops if top is not None}
    if not any(class_id is not None for class_id in named.values()):
        return None
    odd = sorted(top for top, class_id in named.items() if class_id is None)
    if None in tops:
        odd.append("pictures outside of all folders")
    if odd:
        raise InputError(
            printable(f"in {folder} some folders are named after labels, but not {', '.join(odd)}; labels: {', '.join(labels)}")
        )
    return np.array([named[top] for top in tops if top is not None], np.int64)


def _plain(name: str) -> str:
    """Return a label or folder name without what file systems and people change: case, hyphens, how letters are composed."""
    return unicodedata.normalize("NFC", name).casefold().replace("_", " ").replace("-", " ").strip()
