from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import HEIC, encoded, surface, write_classes, write_picture

from edgecnn.datasets.layout import find_layout
from edgecnn.errors import DatasetError


def refusal(folder: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        find_layout(folder).require_pictures()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pictures_in_deeper_folders_count_for_their_class(tmp_path: Path) -> None:
    write_classes(tmp_path, count=2)
    write_picture(tmp_path / "nut" / "monday" / "line 2" / "0.png", surface(5))

    layout = find_layout(tmp_path)

    assert Counter(file.label for file in layout.files) == {"bolt": 2, "nut": 3}
    assert [(file.name, file.deeper) for file in layout.files if file.deeper] == [("nut/monday/line 2/0.png", 2)]


def test_pictures_beside_the_class_folders_are_named(tmp_path: Path) -> None:
    write_classes(tmp_path)
    write_picture(tmp_path / "stray.png", surface(5))

    assert find_layout(tmp_path).left_out == {"stray.png": "beside the class folders"}


def test_an_empty_class_folder_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "washer").mkdir()
    (tmp_path / "washer" / "IMG_1.heic").write_bytes(HEIC)

    assert "the class folder 'washer' of " in refusal(tmp_path)
    assert "holds no pictures: 1 HEIC, which OpenCV cannot read (washer/IMG_1.heic)" in refusal(tmp_path)


def test_one_class_of_folders_is_refused_with_a_hint(tmp_path: Path) -> None:
    write_classes(tmp_path / "dataset" / "parts")

    assert (
        f"has one class only (parts); a task needs at least two class folders; did you mean {tmp_path}/dataset/parts?"
        in refusal(tmp_path / "dataset")
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [("Täst", unicodedata.normalize("NFD", "Täst")), ("nut", "nut "), ("nut", "\u00a0nut")],
)
def test_class_folders_that_look_the_same_are_refused(tmp_path: Path, first: str, second: str) -> None:
    write_classes(tmp_path, (first, second, "bolt"))

    assert "two class folders that look the same" in refusal(tmp_path)


def test_a_label_is_composed_however_the_folder_is_written(tmp_path: Path) -> None:
    write_classes(tmp_path, (unicodedata.normalize("NFD", "Täst"), "nut"))

    assert find_layout(tmp_path).labels == ("nut", unicodedata.normalize("NFC", "Täst"))


@pytest.mark.parametrize(("first", "second"), [("Cat", "cat"), ("a b", "a  b"), ("small_nut", "small nut"), ("Ｎut", "nut")])
def test_class_folders_that_hardly_differ_get_a_remark(tmp_path: Path, first: str, second: str) -> None:
    write_classes(tmp_path, (first, second, "dog"))

    layout = find_layout(tmp_path)

    assert len(layout.labels) == 3
    assert [remark for remark in layout.remarks if "differ only by case or spaces" in remark]


def test_letters_of_both_cases_may_be_classes(tmp_path: Path) -> None:
    write_classes(tmp_path, ("a", "A"))

    assert set(find_layout(tmp_path).labels) == {"a", "A"}


@pytest.mark.parametrize("raw", [b"nut\nbolt", b"\xff\xfe", b"\x1b[31mnut", b"  ", "nut\u202e".encode()])
def test_a_class_folder_whose_name_is_no_label_is_refused(tmp_path: Path, raw: bytes) -> None:
    write_classes(tmp_path)
    (tmp_path / "nut").rename(tmp_path / os.fsdecode(raw))

    assert "is not a valid label" in refusal(tmp_path)


def test_a_class_folder_that_is_a_link_to_another_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "washer").symlink_to(tmp_path / "nut")

    assert "washer is a link to a folder that is looked through already" in refusal(tmp_path)


def test_a_class_folder_that_leads_back_up_is_left_out(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "nut" / "loop").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path)

    layout = find_layout(tmp_path)

    assert (layout.labels, len(layout.files)) == (("bolt", "nut"), 16)
    assert set(layout.left_out) == {"loop", "nut/loop"}


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "Valid", "TEST")],
)
def test_folders_named_like_splits_are_their_owners_division(tmp_path: Path, train: str, validation: str, test: str) -> None:
    for number, top in enumerate((train, validation, test)):
        write_classes(tmp_path / top, count=2 + number)

    layout = find_layout(tmp_path)

    assert layout.labels == ("bolt", "nut")
    assert Counter(file.part for file in layout.files) == {"train": 4, "validation": 6, "test": 8}


def test_splits_may_stand_in_the_class_folders(tmp_path: Path) -> None:
    for label in ("bolt", "nut"):
        write_classes(tmp_path / label, ("train", "test"), count=3)

    layout = find_layout(tmp_path)

    assert layout.labels == ("bolt", "nut")
    assert Counter((file.label, file.part, file.deeper) for file in layout.files) == {
        (label, part, 0): 3 for label in ("bolt", "nut") for part in ("train", "test")
    }


def test_a_class_that_its_owner_does_not_train_is_refused_in_either_order(tmp_path: Path) -> None:
    write_classes(tmp_path / "bolt", ("train", "test"), count=3)
    write_classes(tmp_path / "nut", ("test",), count=3)

    assert "'nut', that has no pictures in the train folder" in refusal(tmp_path)


def test_splits_beside_other_pictures_in_class_folders_get_a_remark(tmp_path: Path) -> None:
    write_classes(tmp_path / "bolt", ("train", "test"), count=3)
    write_classes(tmp_path, ("nut",))

    layout = find_layout(tmp_path)

    assert not layout.divided
    assert "folders called test and train stand in class folders beside other pictures" in layout.remarks[0]


def test_a_data_set_for_object_detection_is_recognised(tmp_path: Path) -> None:
    for top in ("train", "valid"):
        write_classes(tmp_path / top, ("images",))
        (tmp_path / top / "labels").mkdir()
        (tmp_path / top / "labels" / "0.txt").write_text("0 0.5 0.5 1 1")

    assert "object detection" in refusal(tmp_path)


def test_a_class_called_train_among_others_is_a_class(tmp_path: Path) -> None:
    write_classes(tmp_path, ("train", "bus", "car"))

    layout = find_layout(tmp_path)

    assert (set(layout.labels), layout.divided) == ({"train", "bus", "car"}, False)


def test_splits_without_class_folders_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path, ("train", "test"))

    assert "test and train, the names of splits, but train holds no class folders" in refusal(tmp_path)


def test_splits_without_train_are_refused(tmp_path: Path) -> None:
    for top in ("val", "test"):
        write_classes(tmp_path / top)

    assert "holds test and val but no train folder" in refusal(tmp_path)


def test_splits_beside_other_pictures_are_refused(tmp_path: Path) -> None:
    for top in ("train", "test", "ground_truth"):
        write_classes(tmp_path / top)

    assert "beside them ground_truth with pictures" in refusal(tmp_path)


def test_two_names_of_one_split_are_refused(tmp_path: Path) -> None:
    for top in ("train", "val", "validation"):
        write_classes(tmp_path / top)

    assert "val and validation: both are names of one split" in refusal(tmp_path)


def test_a_class_that_is_tested_but_not_trained_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", ("bolt", "nut", "washer"))

    assert "'washer', that has no pictures in the train folder" in refusal(tmp_path)


def test_tables_beside_splits_are_no_obstacle(tmp_path: Path) -> None:
    for top in ("train", "test"):
        write_classes(tmp_path / top)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "boxes.csv").write_text("file,x\n")

    layout = find_layout(tmp_path)

    assert (layout.divided, layout.left_out) == (True, {"annotations/boxes.csv": "no picture: .csv"})


def test_folders_that_look_like_the_classes_inside_all_classes_get_a_remark(tmp_path: Path) -> None:
    for top in ("batch 1", "batch 2"):
        write_classes(tmp_path / top, ("good", "bad"))

    assert "all class folders hold the same folders (bad, good): if those are the classes" in find_layout(tmp_path).remarks[0]


PART = st.sampled_from(["a", "b", "train", "test", "val", "Valid", "images", "é", "e\u0301", "A ", ".hidden"])
FILE = st.tuples(st.lists(PART, max_size=4), st.sampled_from(["0", "1", "2"]), st.integers(0, 3))


@given(files=st.lists(FILE, min_size=1, max_size=25))
@settings(max_examples=150, deadline=None)
def test_whatever_the_folders_each_file_is_used_or_named_or_the_folder_is_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    contents = [encoded(".png", surface(0)), encoded(".jpg", surface(1)), HEIC, b"text"]
    for between, name, kind in files:
        path = folder.joinpath(*between) / f"{name}{kind}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[kind])

    try:
        layout = find_layout(folder)
    except DatasetError as error:
        assert "\n" not in str(error)
        return

    visible = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and ".hidden" not in path.parts]
    assert sorted([*(file.name for file in layout.files), *layout.left_out]) == sorted(map(str, visible))
    assert {file.label for file in layout.files} == set(layout.labels)
    assert not set(layout.labels) & set(layout.empty)
    assert all((file.part is not None) == layout.divided for file in layout.files)
