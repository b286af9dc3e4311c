from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.datasets.neu import ARRAYS, TASK, find_pictures, load_neu, read_split_table
from edgecnn.datasets.split import SHARES
from edgecnn.errors import DatasetError

SHORT = {
    "scratches": "Sc",
    "rolled-in_scale": "RS",
    "pitted_surface": "PS",
    "patches": "Pa",
    "inclusion": "In",
    "crazing": "Cr",
}


def write_picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(seed).integers(0, 256, (200, 200)).astype(np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())


def form_path(form: str, label: str, number: int) -> str:
    return {
        "folders": f"{label}/{label}_{number}.jpg",
        "flat": f"{SHORT[label]}_{number}.bmp",
        "images": f"IMAGES/{label}_{number}.jpg",
        "parts": f"{'train' if number <= 240 else 'validation'}/images/{label}/{label}_{number}.jpg",
    }[form]


def write_arrays(folder: Path, train: np.ndarray, train_ids: np.ndarray, test: np.ndarray, test_ids: np.ndarray) -> Path:
    for name, array in zip(ARRAYS, (train, train_ids, test, test_ids), strict=True):
        np.save(folder / name, array)
    return folder


def course_arrays(folder: Path, scale: float = 1.0, dtype: str = "uint8") -> Path:
    random = np.random.default_rng(0)
    train, test = (random.integers(0, 256, (n, 200, 200, 1)) for n in (24, 6))
    return write_arrays(
        folder, (train * scale).astype(dtype), np.repeat(np.arange(6), 4), (test * scale).astype(dtype), np.arange(6)
    )


def test_the_table_has_three_hundred_pictures_a_class() -> None:
    table = read_split_table()

    assert {label: sum(row.label == label for row in table.values()) for label in TASK.labels} == dict.fromkeys(
        TASK.labels, 300
    )


def test_no_recorded_group_stands_on_two_sides() -> None:
    splits_of_group: dict[int, set[str]] = {}
    for row in read_split_table().values():
        splits_of_group.setdefault(row.group, set()).add(row.split)

    assert max(map(len, splits_of_group.values())) == 1


@pytest.mark.parametrize("form", ["folders", "flat", "images", "parts"])
def test_every_form_of_files_gives_the_same_division(tmp_path: Path, form: str) -> None:
    for label in TASK.labels:
        for number in (1, 3, 299):
            write_picture(tmp_path / form_path(form, label, number), number)

    splits = load_neu(tmp_path)

    expected = [row.split for key, row in read_split_table().items() if key[1] in (1, 3, 299)]
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [
        expected.count(name) for name in ("train", "validation", "test")
    ]


def test_classes_stand_in_the_order_of_the_course(tmp_path: Path) -> None:
    for label in TASK.labels:
        write_picture(tmp_path / form_path("flat", label, 7), 7)
    splits = load_neu(tmp_path)

    seen = {
        (Path(name).stem.split("_")[0], int(class_id))
        for split in ("train", "validation", "test")
        for name, class_id in zip(splits[split].names, splits[split].class_ids, strict=True)
    }

    assert seen == {("Sc", 0), ("RS", 1), ("PS", 2), ("Pa", 3), ("In", 4), ("Cr", 5)}


def test_a_split_that_lacks_pictures_is_called_incomplete(tmp_path: Path) -> None:
    write_picture(tmp_path / "crazing" / "crazing_3.jpg", 0)

    info = load_neu(tmp_path).info

    assert info.complete == {"train": False, "validation": False, "test": False}


def test_the_groups_of_the_table_come_along(tmp_path: Path) -> None:
    write_picture(tmp_path / "crazing" / "crazing_3.jpg", 0)

    groups = load_neu(tmp_path).train.groups

    assert groups is not None
    assert groups.tolist() == [read_split_table()["crazing", 3].group]


def test_a_picture_twice_with_the_same_bytes_counts_once(tmp_path: Path) -> None:
    for folder in ("IMAGES", "train/images/crazing"):
        write_picture(tmp_path / folder / "crazing_3.jpg", 0)

    found = find_pictures(tmp_path)

    assert list(found) == [("crazing", 3)]


def test_two_different_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    for seed, folder in enumerate(("IMAGES", "train/images/crazing")):
        write_picture(tmp_path / folder / "crazing_3.jpg", seed)

    with pytest.raises(DatasetError, match="named alike but differ"):
        load_neu(tmp_path)


@pytest.mark.parametrize("name", ["crazing/photo.jpg", "crazing/crazing_301.jpg", "crazing/patches_1.jpg", "Xx_1.bmp"])
def test_a_picture_that_is_not_of_neu_is_named(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / name, 0)

    with pytest.raises(DatasetError, match="is not named like a picture of NEU"):
        load_neu(tmp_path)


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no pictures of NEU"):
        load_neu(tmp_path)


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1.0, "uint8"), (1.0, "int64"), (1.0, "float32"), (1 / 255, "float32"), (1 / 255, "float64")]
)
def test_arrays_of_either_range_give_the_same_pixels(tmp_path: Path, scale: float, dtype: str) -> None:
    test = load_neu(course_arrays(tmp_path, scale, dtype)).test

    random = np.random.default_rng(0)
    random.integers(0, 256, (24, 200, 200, 1))
    assert np.array_equal(test.images, random.integers(0, 256, (6, 200, 200, 1)))


def test_the_courses_test_pictures_stay_its_test(tmp_path: Path) -> None:
    splits = load_neu(course_arrays(tmp_path))

    assert [len(splits[name]) for name in ("train", "validation", "test")] == [18, 6, 6]


def test_the_rule_of_the_arrays_is_told(tmp_path: Path) -> None:
    info = load_neu(course_arrays(tmp_path)).info

    assert info.rule.startswith("the course's own test pictures")


@pytest.mark.parametrize(
    ("train", "labels", "reason"),
    [
        (np.full((6, 9, 9, 1), -0.5), np.arange(6), "expected 0..1 floats or whole"),
        (np.full((6, 9, 9, 1), 100.5), np.arange(6), "not whole"),
        (np.full((6, 9, 9, 1), 256), np.arange(6), "values 256..256"),
        (np.full((6, 9, 9, 1), np.nan), np.arange(6), "values nan"),
        (np.ones((6, 9, 9, 1)), np.arange(6), "everywhere"),
        (np.zeros((6, 9, 9, 3), np.uint8), np.arange(6), "expected gray pictures"),
        (np.zeros((0, 9, 9, 1), np.uint8), np.arange(0), "expected gray pictures"),
        (np.zeros((6, 9, 9, 1), "U1"), np.arange(6), "holds <U1"),
        (np.zeros((6, 9, 9, 1), np.uint8), np.arange(5), "expected 6 labels"),
        (np.zeros((6, 9, 9, 1), np.uint8), np.arange(6) + 1, r"labels 1\.\.6; expected 0\.\.5"),
        (np.zeros((6, 9, 9, 1), np.uint8), np.arange(6) - 1, r"labels -1\.\.4"),
        (np.zeros((6, 9, 9, 1), np.uint8), np.arange(6) + 0.5, "not whole numbers"),
    ],
)
def test_arrays_that_fit_nothing_are_refused(tmp_path: Path, train: np.ndarray, labels: np.ndarray, reason: str) -> None:
    write_arrays(tmp_path, train, labels, train, labels)

    with pytest.raises(DatasetError, match=reason):
        load_neu(tmp_path)


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x10\x00{'descr': evil()}", b"not an array"])
def test_a_hostile_array_file_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    course_arrays(tmp_path)
    (tmp_path / ARRAYS[0]).write_bytes(data)

    with pytest.raises(DatasetError, match=r"is not a readable \.npy array") as caught:
        load_neu(tmp_path)

    assert "\n" not in str(caught.value)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    course_arrays(tmp_path)
    np.save(tmp_path / ARRAYS[0], np.array([{"an": "object"}], object), allow_pickle=True)

    with pytest.raises(DatasetError, match=r"is not a readable \.npy array"):
        load_neu(tmp_path)


def test_a_header_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    course_arrays(tmp_path)
    path = tmp_path / ARRAYS[0]
    path.write_bytes(path.read_bytes().replace(b"(24, 200, 200, 1), }    ", b"(24000000, 200, 200,1),}")[:4096])

    with pytest.raises(DatasetError, match=r"is not a readable \.npy array"):
        load_neu(tmp_path)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    course_arrays(tmp_path)
    (tmp_path / ARRAYS[3]).unlink()

    with pytest.raises(DatasetError, match=r"NEU_test_labels\.npy is missing"):
        load_neu(tmp_path)


def test_the_shares_of_a_split_are_a_whole() -> None:
    assert sum(SHARES) == pytest.approx(1)
