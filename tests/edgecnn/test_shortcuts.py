from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import surface, write_classes, write_picture

from edgecnn.datasets.folder import read_folder
from edgecnn.datasets.shortcuts import measure_shortcut


def found(folder: Path) -> list[str]:
    return [shortcut.attribute for shortcut in read_folder(folder).summary().shortcuts]


def test_a_file_type_of_its_own_class_is_a_shortcut(tmp_path: Path) -> None:
    write_classes(tmp_path, ("good",), suffix=".png")
    write_classes(tmp_path, ("scratched",), suffix=".bmp")

    shortcuts = read_folder(tmp_path).summary().shortcuts

    assert [shortcut.attribute for shortcut in shortcuts] == ["file type"]
    text = "the file type alone gives away the class of 16 of 16 pictures (the largest class has 8): .png: good 8; .bmp: "
    assert shortcuts[0].describe().startswith(f"{text}scratched 8.")


def test_size_color_and_depth_are_shortcuts(tmp_path: Path) -> None:
    write_classes(tmp_path, ("good",))
    for number in range(8):
        write_picture(tmp_path / "scratched" / "line 2" / f"{number}.png", surface(500 + number, (50, 60, 3)))

    assert found(tmp_path) == ["picture size", "color", "depth of the folder"]


def test_like_pictures_have_no_shortcut(tmp_path: Path) -> None:
    assert found(write_classes(tmp_path, ("a", "b", "c"))) == []


def test_sizes_that_each_picture_has_alone_tell_nothing() -> None:
    assert measure_shortcut("size", [str(n) for n in range(100)], ["a", "b"] * 50) is None


def test_half_of_a_class_in_a_type_of_its_own_is_a_shortcut() -> None:
    shortcut = measure_shortcut("file type", [".png"] * 30 + [".jpg"] * 70, ["a"] * 60 + ["b"] * 40)

    assert shortcut is not None
    assert (shortcut.right, shortcut.largest, shortcut.count) == (70, 60, 100)


def test_a_few_odd_files_are_an_accident() -> None:
    assert measure_shortcut("file type", [".png"] * 3 + [".jpg"] * 5, ["a"] * 4 + ["b"] * 4) is None


def test_many_values_and_classes_are_cut_short() -> None:
    labels = [f"class {n // 10}" for n in range(100)]
    shortcut = measure_shortcut("camera", [f"camera {n // 10}" for n in range(100)], labels)

    assert shortcut is not None
    assert "; and 6 more." in shortcut.describe()


@given(seed=st.integers(0, 2**31), classes=st.integers(2, 5), values=st.integers(2, 5))
@settings(max_examples=100, deadline=None)
def test_what_has_nothing_to_do_with_the_class_is_hardly_ever_a_shortcut(seed: int, classes: int, values: int) -> None:
    random = np.random.default_rng(seed)
    labels = [str(label) for label in random.integers(0, classes, 300)]

    assert measure_shortcut("camera", [str(value) for value in random.integers(0, values, 300)], labels) is None


@pytest.mark.parametrize("count", [0, 1])
def test_no_pictures_have_no_shortcut(count: int) -> None:
    assert measure_shortcut("camera", ["x"] * count, ["a"] * count) is None
