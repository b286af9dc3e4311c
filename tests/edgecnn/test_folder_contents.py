"""What is made of a folder: which pictures, which input, which labels and splits, and what is said of it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from picture_files import HEIC, surface, write_classes, write_picture

from edgecnn.datasets.folder import Conflicts, read_folder, task_from_folder
from edgecnn.datasets.load import load_splits
from edgecnn.datasets.reading import FolderFit, InputChoice, read_pictures
from edgecnn.errors import DatasetError, PictureError
from edgecnn.pictures import camera_of, read_picture
from edgecnn.preprocessing import Color, Preprocessing
from edgecnn.progress import listening

PARTS = ("train", "validation", "test")


def in_color(seed: int, shape: tuple[int, int] = (40, 40)) -> NDArray[np.uint8]:
    return surface(seed, (*shape, 3))


def notes_of(folder: Path, **options: object) -> list[str]:
    notes: list[str] = []
    with listening(note=notes.append):
        load_splits(task_from_folder(folder, **options), folder, 0)  # type: ignore[arg-type]
    return notes


@pytest.mark.parametrize(("grays", "colors", "expected"), [(15, 1, "gray"), (1, 15, "rgb"), (8, 8, "gray"), (7, 9, "rgb")])
def test_the_color_is_that_of_most_pictures(tmp_path: Path, grays: int, colors: int, expected: str) -> None:
    for number in range(grays + colors):
        image = surface(number) if number < grays else in_color(number)
        write_picture(tmp_path / "ab"[number % 2] / f"{number}.png", image)

    assert task_from_folder(tmp_path).preprocessing.color == expected


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_the_color_can_be_decided(tmp_path: Path, color: Color) -> None:
    write_classes(tmp_path)

    splits = load_splits(task_from_folder(tmp_path, choice=InputChoice(color)), tmp_path, 0)

    assert splits.train.images.shape[3] == (1 if color == "gray" else 3)


def test_one_odd_picture_changes_neither_size_nor_color_and_is_told(tmp_path: Path) -> None:
    write_classes(tmp_path)
    write_picture(tmp_path / "nut" / "odd.png", in_color(99, (40, 160)))

    notes = notes_of(tmp_path)

    assert task_from_folder(tmp_path).preprocessing.shape == (40, 40, 1)
    assert notes[0] == f"{tmp_path.name}: 17 pictures in 2 classes: bolt 8, nut 9"
    assert notes[1] == (
        "  input: gray, 40 x 40; 16 of 17 pictures 40 x 40; 1 of 17 in color (train --color rgb decides otherwise)"
    )
    assert notes[2] == (
        "  the crop to the middle cuts off 75 % of the area of 1 of 17 pictures (mean; at most 75 %: nut/odd.png)"
    )


def test_pictures_of_no_usual_size_are_said_to_be_of_different_sizes(tmp_path: Path) -> None:
    for number in range(8):
        write_picture(tmp_path / "ab"[number % 2] / f"{number}.png", surface(number, (40 + number, 40)))

    assert notes_of(tmp_path)[1] == "  input: gray, 128 x 128; pictures of different sizes"


@pytest.mark.parametrize(
    ("sizes", "fit"),
    [
        ([(300, 300)] * 6, "crop"),
        ([(300, 312)] * 6, "crop"),  # cuts off 4 %
        ([(480, 640), (300, 300)] * 3, "squash"),
        ([(100, 250), (600, 260), (300, 300)] * 2, "squash"),
        ([(100, 400), (300, 300)] * 3, "pad"),
    ],
)
def test_how_pictures_are_fitted_is_what_costs_least(tmp_path: Path, sizes: list[tuple[int, int]], fit: str) -> None:
    for number, size_hw in enumerate(sizes):
        write_picture(tmp_path / "ab"[number % 2] / f"{number}.png", surface(number, size_hw))

    found = task_from_folder(tmp_path).preprocessing

    assert (found.shape, found.fit) == ((128, 128, 1), fit)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_fit_and_size_can_be_stated(tmp_path: Path, fit: FolderFit) -> None:
    write_classes(tmp_path)

    found = task_from_folder(tmp_path, choice=InputChoice(fit=fit, size_hw=(32, 48))).preprocessing

    assert (found.shape, found.fit) == ((32, 48, 1), fit)


def test_a_folder_says_what_is_squashed_and_what_a_crop_would_cost(tmp_path: Path) -> None:
    for number in range(16):
        write_picture(tmp_path / "ab"[number % 2] / f"{number:02}.png", surface(number, (200, 320) if number else (200, 200)))

    notes = notes_of(tmp_path)

    assert notes[2] == (
        "  pictures of another aspect are squashed; a crop (train --fit crop) would cut off 38 % of the area of 15 of 16 "
        "pictures (mean; at most 38 %: a/02.png)"
    )


def test_a_wrong_guess_of_the_input_is_mended(tmp_path: Path) -> None:
    # The first picture of each eighth is another one: those are what is guessed from.
    for number in range(64):
        image = in_color(number, (60, 60)) if number % 8 == 0 else surface(number)
        write_picture(tmp_path / ("a" if number < 32 else "b") / f"{number:02}.png", image)

    contents = read_folder(tmp_path)

    assert contents.preprocessing.shape == (40, 40, 1)
    assert {picture.image.shape for picture in contents.pictures} == {(40, 40, 1)}


def test_pictures_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, count=20)
    decoded: list[str] = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: decoded.append("") or decode(data, flags))

    load_splits(task_from_folder(tmp_path), tmp_path, 0)

    assert len(decoded) <= 40 + 8


def test_what_a_file_becomes_is_what_the_runtime_would_make_of_it(tmp_path: Path) -> None:
    write_classes(tmp_path)
    write_picture(tmp_path / "nut" / "large.png", in_color(7, (333, 517)))
    splits = load_splits(task_from_folder(tmp_path), tmp_path, 0)

    for part in PARTS:
        for name, image in zip(splits[part].names, splits[part].images, strict=True):
            assert (Preprocessing(40, 40, "gray", "crop")(read_picture(tmp_path / name)) == image).all()


def test_files_that_cannot_be_used_cost_those_files_and_are_counted(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "nut" / "text.png").write_text("not a picture")
    (tmp_path / "nut" / "photo.heic").write_bytes(HEIC)
    whole = write_picture(tmp_path / "nut" / "cut.jpg", surface(9)).read_bytes()
    (tmp_path / "nut" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    write_picture(tmp_path / "nut" / "more" / "deep.png", surface(10))

    notes = notes_of(tmp_path)

    assert notes[0] == f"{tmp_path.name}: 17 pictures in 2 classes: bolt 8, nut 9"
    assert "  in deeper folders, and counted for the class folder above: 1 picture" in notes
    assert notes[3] == (
        "  left out 3 files: 1 HEIC, which OpenCV cannot read (nut/photo.heic); 1 named .png but text (nut/text.png); "
        "1 cut short or damaged (nut/cut.jpg)"
    )


def test_a_class_of_damaged_pictures_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path)
    for number in range(3):
        path = write_picture(tmp_path / "washer" / f"{number}.jpg", surface(number))
        path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(DatasetError, match=r"no picture of the class 'washer' can be used: 3 cut short or damaged"):
        task_from_folder(tmp_path)


def test_floats_are_refused_instead_of_becoming_black(tmp_path: Path) -> None:
    (tmp_path / "float.tif").write_bytes(cv2.imencode(".tif", np.full((8, 8), 0.5, np.float32))[1].tobytes())

    with pytest.raises(PictureError, match="holds floating-point pixels"):
        read_picture(tmp_path / "float.tif")


def conflicting(folder: Path) -> Path:
    write_classes(folder)
    write_picture(folder / "nut" / "twin.png", surface(77))
    write_picture(folder / "bolt" / "twin.bmp", surface(77))
    return folder


def test_the_same_picture_under_two_labels_is_refused_by_both_names(tmp_path: Path) -> None:
    conflicting(tmp_path)

    with pytest.raises(DatasetError, match=r"bolt/twin\.bmp and nut/twin\.png are the same picture under two labels") as caught:
        task_from_folder(tmp_path, conflicts="refuse")

    assert "--conflicts drop or keep" in str(caught.value)


@pytest.mark.parametrize(("conflicts", "used"), [("drop", 16), ("keep", 18)])
def test_the_owner_decides_about_the_same_picture_under_two_labels(tmp_path: Path, conflicts: Conflicts, used: int) -> None:
    task = task_from_folder(conflicting(tmp_path), conflicts=conflicts)

    splits = load_splits(task, tmp_path, 0)

    assert splits.summary is not None
    assert sum(len(splits[part]) for part in PARTS) == used
    assert ("the same picture under two labels" in splits.summary.left_out.values()) == (conflicts == "drop")
    assert any("stands under two labels" in line for line in splits.summary.warnings()) == (conflicts == "keep")


def divided(folder: Path, *parts: str) -> Path:
    for number, part in enumerate(parts):
        for class_id, label in enumerate(("bolt", "nut")):
            for index in range(10):
                write_picture(folder / part / label / f"{index}.png", surface(10_000 * number + 100 * class_id + index))
    return folder


def test_an_owners_division_stays_as_it_is(tmp_path: Path) -> None:
    folder = divided(tmp_path, "train", "val", "test")

    splits = load_splits(task_from_folder(folder), folder, 0)

    tops = [{name.split("/")[0] for name in splits[part].names} for part in PARTS]
    assert tops == [{"train"}, {"val"}, {"test"}]
    assert splits.info.rule == "the folder's own train, validation, test"


def test_a_missing_validation_is_dealt_from_train(tmp_path: Path) -> None:
    folder = divided(tmp_path, "train", "test")

    splits = load_splits(task_from_folder(folder), folder, 0)

    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 2, 20)
    assert {name.split("/")[0] for name in splits.validation.names} == {"train"}
    assert "validation: 15 % of its train" in splits.info.rule


def test_pictures_that_an_owner_put_on_both_sides_are_told(tmp_path: Path) -> None:
    folder = divided(tmp_path, "train", "val", "test")
    for number in range(4):
        shutil.copy(folder / "train" / "nut" / f"{number}.png", folder / "test" / "nut" / f"copy_{number}.png")

    notes = notes_of(folder)

    assert notes[-1] == (
        "  warning: 4 of 24 test pictures overlap training pictures, such as test/nut/copy_0.png and train/nut/0.png: "
        "what is measured on them flatters the model"
    )


def test_a_summary_goes_into_a_record(tmp_path: Path) -> None:
    splits = load_splits(task_from_folder(conflicting(tmp_path)), tmp_path, 0)

    assert splits.summary is not None
    record = json.loads(json.dumps(splits.summary.to_json()))
    assert (record["counts"], record["conflicts"]) == ({"bolt": 9, "nut": 9}, [["bolt/twin.bmp", "nut/twin.png"]])


def test_uneven_classes_are_told(tmp_path: Path) -> None:
    write_classes(tmp_path, count=4)
    for number in range(12):
        write_picture(tmp_path / "nut" / f"more_{number}.png", surface(5000 + number))

    assert "  warning: uneven classes: 'nut' has 16 pictures, 'bolt' 4" in notes_of(tmp_path)


def exif(make: bytes, model: bytes) -> bytes:
    """An APP1 segment with make and model, big-endian (EXIF 2.3, 4.5.4)."""
    entries, texts = b"", b""
    for tag, text in ((0x010F, make + b"\0"), (0x0110, model + b"\0")):
        entries += tag.to_bytes(2, "big") + b"\0\2" + len(text).to_bytes(4, "big")
        entries += (38 + len(texts)).to_bytes(4, "big") if len(text) > 4 else text.ljust(4, b"\0")
        texts += text if len(text) > 4 else b""
    tiff = b"MM\0*\0\0\0\x08" + b"\0\2" + entries + b"\0\0\0\0" + texts
    body = b"Exif\0\0" + tiff
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [(b"Acme", b"Acme X1", "Acme X1"), (b"Acme Corp", b"Z2", "Acme Corp Z2"), (b"", b"Z2", "Z2"), (b"", b"", None)],
)
def test_the_camera_is_read_from_a_jpeg(make: bytes, model: bytes, camera: str | None) -> None:
    jpeg = cv2.imencode(".jpg", surface(0))[1].tobytes()

    assert camera_of(jpeg[:2] + exif(make, model) + jpeg[2:]) == camera


@given(cut=st.integers(0, 120), flips=st.lists(st.tuples(st.integers(0, 119), st.integers(0, 255)), max_size=8))
@settings(max_examples=200, deadline=None)
def test_damaged_exif_is_no_trouble(cut: int, flips: list[tuple[int, int]]) -> None:
    data = bytearray(b"\xff\xd8" + exif(b"Acme Corporation", b"X1 very long") + b"\xff\xd9")
    for at, value in flips:
        data[at % len(data)] = value

    camera = camera_of(bytes(data[:cut]))

    assert camera is None or isinstance(camera, str)


@given(seed=st.integers(0, 2**31), names=st.permutations(range(8)), own=st.sampled_from(["a", "z"]))
@settings(max_examples=15, deadline=None)
def test_where_a_picture_goes_depends_on_its_content_not_on_names(
    tmp_path_factory: pytest.TempPathFactory, seed: int, names: list[int], own: str
) -> None:
    plain = tmp_path_factory.getbasetemp() / "plainly_named"
    if not plain.exists():
        write_classes(plain)
    renamed = tmp_path_factory.mktemp("renamed")
    for label in ("bolt", "nut"):
        for number, name in enumerate(names):
            (renamed / label).mkdir(exist_ok=True)
            shutil.copy(plain / label / f"{number}.png", renamed / label / f"{own}{name}.png")

    dealt = [
        [set(splits[part].digests or ()) for part in PARTS]
        for folder in (plain, renamed)
        for splits in [load_splits(task_from_folder(folder), folder, seed)]
    ]

    assert dealt[0] == dealt[1]


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_each_picture_stands_in_one_split(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "divided_once"
    if not folder.exists():
        write_classes(folder, ("a", "b", "c"), count=7)
        (folder / "a" / os.fsdecode(b"odd\xff\n.png")).write_bytes((folder / "a" / "0.png").read_bytes())
        (folder / "b" / "text.png").write_text("text")

    splits = load_splits(task_from_folder(folder), folder, seed)

    assert splits.summary is not None
    used = [name for part in PARTS for name in splits[part].names]
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert Counter([*used, *splits.summary.left_out]) == Counter(files)


def test_a_system_without_descriptors_is_not_the_files_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = read_folder(write_classes(tmp_path)).layout

    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(ValueError, match="too many open files"):
        read_pictures(layout.files, Preprocessing(40, 40))


def test_a_file_that_vanished_is_left_out(tmp_path: Path) -> None:
    layout = read_folder(write_classes(tmp_path)).layout
    gone = dataclasses.replace(layout.files[0], path=tmp_path / "gone.png")

    pictures = read_pictures([gone, *layout.files[1:]], Preprocessing(40, 40))

    assert pictures.unreadable == {gone.name: "no such file or directory"}
