"""Pictures in `--calibration`: labelled where their folders are named after the labels, else only compared for agreement."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.datasets.dataset import Splits
from edgecnn.errors import DatasetError, InputError
from edgecnn.progress import listening
from edgecnn_export.calibration_data import find_splits, read_calibration
from edgecnn_export.reference import Reference


def write(folder: Path, splits: Splits, names: tuple[str, ...], count: int = 20) -> Path:
    """Write `count` pictures of each class into folders of these names."""
    for class_id, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        images = splits.train.images[splits.train.class_ids == class_id][:count]
        for i, image in enumerate(images):
            cv2.imwrite(str(folder / name / f"{i}.png"), image)
    return folder


@pytest.mark.parametrize("names", [("dark", "upright", "lying"), ("Dark", "UPRIGHT", "lying ")])
def test_folders_named_after_the_labels_are_the_truth(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path, names: tuple[str, ...]
) -> None:
    splits = read_calibration(write(tmp_path / "p", bar_splits, names), bar_reference, 0)

    assert splits.info.labelled
    for part in (splits.train, splits.validation):
        for name, class_id in zip(part.names, part.class_ids, strict=True):
            assert Path(name).parts[0] == names[class_id]


def test_one_half_calibrates_and_the_other_compares(bar_reference: Reference, bar_splits: Splits, tmp_path: Path) -> None:
    splits = read_calibration(write(tmp_path / "p", bar_splits, bar_reference.task.labels), bar_reference, 0)

    assert not set(splits.train.names) & set(splits.validation.names)
    assert len(splits.train) + len(splits.validation) == 60
    assert (np.bincount(splits.validation.class_ids) >= 8).all()


def test_copies_of_a_picture_stay_on_one_side(bar_reference: Reference, bar_splits: Splits, tmp_path: Path) -> None:
    folder = write(tmp_path / "p", bar_splits, bar_reference.task.labels)
    for path in sorted(folder.rglob("*.png")):
        path.with_stem(f"{path.stem}-copy").write_bytes(path.read_bytes())

    splits = read_calibration(folder, bar_reference, 0)

    sides = [{name.replace("-copy", "") for name in part.names} for part in (splits.train, splits.validation)]
    assert not sides[0] & sides[1]


def test_the_same_picture_under_two_labels_is_told(bar_reference: Reference, bar_splits: Splits, tmp_path: Path) -> None:
    folder, said = write(tmp_path / "p", bar_splits, bar_reference.task.labels), list[str]()
    (folder / "upright" / "twin.png").write_bytes((folder / "dark" / "0.png").read_bytes())

    with listening(note=said.append):
        read_calibration(folder, bar_reference, 0)

    assert any("dark/0.png and upright/twin.png are the same picture under two labels" in line for line in said)


def test_a_part_of_the_classes_is_enough(bar_reference: Reference, bar_splits: Splits, tmp_path: Path) -> None:
    splits = read_calibration(write(tmp_path / "p", bar_splits, ("dark", "upright")), bar_reference, 0)

    assert set(splits.validation.class_ids.tolist()) == {0, 1}


@pytest.mark.parametrize("odd", ["extra", "stray"])
def test_folders_of_which_only_some_are_labels_are_refused(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path, odd: str
) -> None:
    folder = write(tmp_path / "p", bar_splits, ("dark", "upright", "lying"))
    place = folder if odd == "stray" else folder / "extra"
    place.mkdir(exist_ok=True)
    cv2.imwrite(str(place / "x.png"), bar_splits.train.images[0])

    with pytest.raises(InputError, match="named after labels, but not " + ("extra" if odd == "extra" else "pictures outside")):
        read_calibration(folder, bar_reference, 0)


def test_folders_of_other_names_are_unlabelled(bar_reference: Reference, bar_splits: Splits, tmp_path: Path) -> None:
    splits = read_calibration(write(tmp_path / "p", bar_splits, ("monday", "tuesday")), bar_reference, 0)

    assert not splits.info.labelled
    assert splits.train is splits.validation


def test_a_class_that_cannot_be_divided_is_one_line_unless_nothing_is_to_be_proven(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path
) -> None:
    folder = write(tmp_path / "p", bar_splits, bar_reference.task.labels, count=1)

    with pytest.raises(DatasetError, match="class 'dark' has 1 picture"):
        find_splits(bar_reference, None, folder, 0)

    splits = find_splits(bar_reference, None, folder, 0, unproven=True)
    assert splits is not None
    assert (len(splits.train), len(splits.validation)) == (3, 0)


def test_pictures_too_few_to_halve_serve_for_both(bar_reference: Reference, bar_splits: Splits, tmp_path: Path) -> None:
    folder = write(tmp_path / "p", bar_splits, bar_reference.task.labels, count=5)

    splits = find_splits(bar_reference, None, folder, 0)

    assert splits is not None
    assert splits.train is splits.validation and len(splits.train) == 15
    assert "too few to halve" in splits.info.rule


def test_for_another_tools_model_all_that_does_not_calibrate_compares(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path
) -> None:
    folder = write(tmp_path / "p", bar_splits, bar_reference.task.labels, count=16)
    theirs = dataclasses.replace(bar_reference, raw=bar_reference.model)

    splits = find_splits(theirs, folder, None, 0)

    assert splits is not None
    assert len(splits.test) == 0
    assert len(splits.train) + len(splits.validation) == 48
    assert len(splits.validation) >= 12
