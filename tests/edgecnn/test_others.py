"""A user's own pictures of no class: how they are found, by kind, and what is wrong with a folder of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from picture_files import surface, write_classes, write_picture

from edgecnn.datasets.layout import find_layout
from edgecnn.errors import InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn.progress import listening
from edgecnn.rejection.others import find_others, read_others
from edgecnn.tasks import Task

TASK = Task("parts", "parts", ("bolt", "nut"), Preprocessing(20, 30))


def test_a_folder_called_other_beside_the_classes_is_no_class(tmp_path: Path) -> None:
    write_classes(tmp_path, count=2)
    write_picture(tmp_path / "_other" / "glove.png", surface(5))

    layout = find_layout(tmp_path)

    assert layout.labels == ("bolt", "nut")
    assert layout.left_out == {"_other/glove.png": "in _other: of no class, to be distinguished from them"}
    assert find_others(tmp_path, None) == [tmp_path / "_other"]


def test_it_may_stand_beside_the_owners_splits(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test")
    write_picture(tmp_path / "_other" / "gloves" / "a.png", surface(5))

    layout = find_layout(tmp_path)

    assert layout.divided
    assert not any("_other" in file.name for file in layout.files)


def test_each_folder_in_it_is_a_kind(tmp_path: Path) -> None:
    write_picture(tmp_path / "odd" / "table.png", surface(1))
    write_picture(tmp_path / "odd" / "gloves" / "left" / "a.png", surface(2))
    write_picture(tmp_path / "odd" / "gloves" / "b.png", surface(3))

    found = read_others(TASK, find_others(tmp_path, tmp_path / "odd"))

    assert {kind: images.shape for kind, images in found.items()} == {"odd": (1, 20, 30, 1), "odd/gloves": (2, 20, 30, 1)}


def test_of_too_many_pictures_of_a_kind_evenly_many_are_taken(tmp_path: Path) -> None:
    for i in range(7):
        write_picture(tmp_path / "odd" / f"{i}.png", np.full((9, 9), 30 * i, np.uint8))

    found = read_others(TASK, [tmp_path / "odd"], most=3)

    assert found["odd"][:, 0, 0, 0].tolist() == [0, 90, 180]


def test_a_picture_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "odd" / "a.png", surface(1))
    whole = (tmp_path / "odd" / "a.png").read_bytes()
    (tmp_path / "odd" / "torn.png").write_bytes(whole[: len(whole) // 2])
    said: list[str] = []

    with listening(note=said.append):
        found = read_others(TASK, [tmp_path / "odd"])

    assert len(found["odd"]) == 1
    assert any("torn.png" in line for line in said)


def test_a_folder_without_a_picture_that_can_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_picture(tmp_path / "odd" / "a.png", surface(1))
    whole = (tmp_path / "odd" / "a.png").read_bytes()
    (tmp_path / "odd" / "a.png").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(InputError, match="holds no pictures"):
        read_others(TASK, [tmp_path / "empty"])
    with pytest.raises(InputError, match="nothing to distinguish from the classes"):
        read_others(TASK, [tmp_path / "odd"])
    with pytest.raises(InputError, match="no such picture"):
        read_others(TASK, [tmp_path / "missing"])
