from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.datasets.dataset import SplitInfo, Splits
from edgecnn.datasets.folder import task_from_folder, write_folder
from edgecnn.datasets.load import SYNTHETIC, load_splits
from edgecnn.datasets.mnist import ORIGINAL
from edgecnn.datasets.split import deal_at_random
from edgecnn.datasets.split_table import load_stored_splits, read_splits_table, write_splits_table
from edgecnn.datasets.synthetic.steel import generate_steel
from edgecnn.errors import DatasetError
from edgecnn.progress import listening
from edgecnn.shipped import find_task
from edgecnn.tasks import Task

NAMES = ("train", "validation", "test")


def write_parts(folder: Path, count: int = 8) -> Path:
    random = np.random.default_rng(0)
    for label in ("nut", "bolt"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            encoded = cv2.imencode(".png", random.integers(0, 256, (40, 40), dtype=np.uint8))[1]
            (folder / label / f"{number}.png").write_bytes(encoded.tobytes())
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Task, Path, Splits]:
    folder = write_parts(tmp_path / "parts")
    task = task_from_folder(folder)
    return task, folder, load_splits(task, folder, 3)


def content(splits: Splits) -> list[object]:
    parts = [splits[name] for name in NAMES]
    groups = [None if part.groups is None else part.groups.tolist() for part in parts]
    return [splits.folder, groups, [(part.digest(), part.names, part.digests) for part in parts]]


def same(first: Splits, second: Splits) -> bool:
    return content(first) == content(second)


def test_a_table_gives_the_same_splits_again_without_a_search(
    parts: tuple[Task, Path, Splits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, folder, splits = parts
    write_splits_table(task, splits, tmp_path / "splits.csv")
    monkeypatch.setattr("edgecnn.datasets.overlap_cache.find_overlaps", None)

    rebuilt = load_stored_splits(task, folder, tmp_path / "splits.csv", info=splits.info)

    assert same(rebuilt, splits)
    assert rebuilt.info == splits.info


def test_a_random_split_is_kept_as_it_was_dealt(parts: tuple[Task, Path, Splits], tmp_path: Path) -> None:
    task, folder, splits = parts
    dealt = deal_at_random(splits, 5)
    write_splits_table(task, dealt, tmp_path / "splits.csv")

    assert same(load_stored_splits(task, folder, tmp_path / "splits.csv"), dealt)


def test_new_pictures_are_left_out_and_counted(parts: tuple[Task, Path, Splits], tmp_path: Path) -> None:
    task, folder, splits = parts
    write_splits_table(task, splits, tmp_path / "splits.csv")
    write_parts(tmp_path / "new", count=2)
    for path in (tmp_path / "new").rglob("*.png"):
        shutil.copy(path, folder / path.parent.name / f"new_{path.name}")

    rebuilt = load_stored_splits(task, folder, tmp_path / "splits.csv")

    assert same(rebuilt, splits)
    assert rebuilt.info.ignored == 4


def test_pictures_of_no_class_and_what_cannot_be_read_are_not_new(parts: tuple[Task, Path, Splits], tmp_path: Path) -> None:
    task, folder, splits = parts
    write_splits_table(task, splits, tmp_path / "splits.csv")
    whole = next((folder / "nut").iterdir()).read_bytes()
    (folder / "_other").mkdir()
    for name, data in (("_other/new.png", whole), ("beside.png", whole), ("nut/cut.png", whole[: len(whole) // 2])):
        (folder / name).write_bytes(data)
    notes: list[str] = []

    with listening(note=notes.append):
        rebuilt = load_stored_splits(task, folder, tmp_path / "splits.csv")

    assert (rebuilt.info.ignored, notes) == (0, [])


def gone(path: Path) -> None:
    path.unlink()


def rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def a_folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "what"), [(gone, "is missing"), (rewritten, "has other content"), (a_folder_instead, "cannot be read")]
)
def test_pictures_that_are_not_as_they_were_are_one_line(
    parts: tuple[Task, Path, Splits], tmp_path: Path, spoil: Callable[[Path], None], what: str
) -> None:
    task, folder, splits = parts
    write_splits_table(task, splits, tmp_path / "splits.csv")
    spoil(folder / splits.train.names[2])
    spoil(folder / splits.test.names[0])

    with pytest.raises(DatasetError) as caught:
        load_stored_splits(task, folder, tmp_path / "splits.csv")

    assert "2 of the 16 pictures" in str(caught.value)
    assert f"the first: {splits.train.names[2]} {what}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_gone_is_one_line(parts: tuple[Task, Path, Splits], tmp_path: Path) -> None:
    task, folder, splits = parts
    write_splits_table(task, splits, tmp_path / "splits.csv")
    folder.rename(tmp_path / "elsewhere")

    with pytest.raises(DatasetError, match="which is gone; name their folder"):
        load_stored_splits(task, folder, tmp_path / "splits.csv")


def test_a_folder_that_moved_gives_the_same_pictures(parts: tuple[Task, Path, Splits], tmp_path: Path) -> None:
    task, folder, splits = parts
    write_splits_table(task, splits, tmp_path / "splits.csv")
    folder.rename(tmp_path / "elsewhere")

    rebuilt = load_stored_splits(task, tmp_path / "elsewhere", tmp_path / "splits.csv")

    assert [rebuilt[name].digest() for name in NAMES] == [splits[name].digest() for name in NAMES]


HEAD = "file,sha256,label,split,group\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "file,label\n",
        HEAD + "../../etc/passwd,0,nut,train,0\n",
        HEAD + "/etc/passwd,0,nut,train,0\n",
        HEAD + "a\0.png,0,nut,train,0\n",
        HEAD + "nut/0.png,0,nut,somewhere,0\n",
        HEAD + "nut/0.png,0,nut,train,first\n",
        HEAD + "nut/0.png,0\n",
        HEAD + "nut/0.png,0,nut,train,0,more\n",
        HEAD + "nut/0.png,0,nut,train,0\nnut/0.png,0,nut,test,0\n",
        HEAD + "nut/0.png,0,gear,train,0\n",
    ],
)
def test_a_table_that_is_none_is_one_line(parts: tuple[Task, Path, Splits], tmp_path: Path, text: str) -> None:
    task, folder, _ = parts
    (tmp_path / "splits.csv").write_text(text)

    with pytest.raises(DatasetError, match=r"splits\.csv") as caught:
        load_stored_splits(task, folder, tmp_path / "splits.csv")

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", [b'comma, quote" and\nline.png', b"\xff\xfe.png", "日本 🐈 \u202e.png".encode(), b"=cmd().png"]
)
def test_a_file_of_any_name_is_found_again(tmp_path: Path, name: bytes) -> None:
    folder = write_parts(tmp_path / "parts")
    (folder / "nut" / "0.png").rename(folder / "nut" / os.fsdecode(name))
    task = task_from_folder(folder)
    splits = load_splits(task, folder, 0)

    write_splits_table(task, splits, tmp_path / "splits.csv")

    assert same(load_stored_splits(task, folder, tmp_path / "splits.csv"), splits)


def test_neu_is_kept_from_its_files(tmp_path: Path) -> None:
    task = find_task("neu")
    write_folder(generate_steel(4, 0), task.labels, tmp_path / "steel")
    splits = load_splits(task, tmp_path / "steel", 0)

    write_splits_table(task, splits, tmp_path / "splits.csv")

    assert same(load_stored_splits(task, tmp_path / "steel", tmp_path / "splits.csv"), splits)


def write_digits(folder: Path) -> Path:
    random = np.random.default_rng(0)
    folder.mkdir()
    for name, count in zip(ORIGINAL, (48, 48, 10, 10), strict=True):
        axes = int(name[-1])
        shape = (count, 28, 28) if axes == 3 else (count,)
        head = bytes((0, 0, 8, axes)) + b"".join(side.to_bytes(4, "big") for side in shape)
        values = random.integers(0, 256 if axes == 3 else 10, shape, dtype=np.uint8)
        (folder / f"{name}-ubyte").write_bytes(head + values.tobytes())
    return folder


def test_mnist_is_kept_from_its_arrays(tmp_path: Path) -> None:
    task, folder = find_task("mnist"), write_digits(tmp_path / "digits")
    splits = load_splits(task, folder, 0)

    write_splits_table(task, splits, tmp_path / "splits.csv")

    assert same(load_stored_splits(task, folder, tmp_path / "splits.csv"), splits)


def test_an_array_that_changed_is_one_line(tmp_path: Path) -> None:
    task, folder = find_task("mnist"), write_digits(tmp_path / "digits")
    write_splits_table(task, load_splits(task, folder, 0), tmp_path / "splits.csv")
    file = folder / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")

    with pytest.raises(DatasetError, match=r"1 of the 58 pictures .* the first: test\[9\] has other content"):
        load_stored_splits(task, folder, tmp_path / "splits.csv")


def test_the_course_arrays_are_kept_without_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, steel = find_task("neu"), generate_steel(4, 0)
    for split in ("train", "test"):
        np.save(tmp_path / f"NEU_{split}_imgs.npy", steel.images)
        np.save(tmp_path / f"NEU_{split}_labels.npy", steel.class_ids)
    splits = load_splits(task, tmp_path, 2)
    write_splits_table(task, splits, tmp_path / "splits.csv")
    monkeypatch.setattr("edgecnn.datasets.overlap_cache.find_overlaps", None)

    assert same(load_stored_splits(task, tmp_path, tmp_path / "splits.csv"), splits)


def test_generated_pictures_have_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_DATA", str(tmp_path))
    monkeypatch.setattr("edgecnn.datasets.load.SYNTHETIC_COUNTS", {"train": 2, "validation": 1, "test": 1})
    splits = load_splits(find_task("neu"), SYNTHETIC, 0)

    with pytest.raises(DatasetError, match="have no files that a table could name"):
        write_splits_table(find_task("neu"), splits, tmp_path / "splits.csv")

    assert not splits.storable


def test_where_a_split_comes_from_survives_as_json() -> None:
    info = SplitInfo("parts", "by hand", 3, {"train": True}, ignored=2)

    assert SplitInfo.from_json(asdict(info) | {"unknown": 1}) == info


@given(seed=st.integers(0, 2**31), order=st.randoms())
@settings(max_examples=20, deadline=None)
def test_each_picture_stands_in_one_split_whatever_the_order_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, seed: int, order: Random
) -> None:
    folder = tmp_path_factory.getbasetemp() / "rows"
    if not folder.exists():
        write_parts(folder)
    task = task_from_folder(folder)
    splits = load_splits(task, folder, seed)
    table = folder.with_suffix(".csv")
    write_splits_table(task, splits, table)
    head, *lines = table.read_text().splitlines()
    order.shuffle(lines)
    table.write_text("\n".join([head, *lines]) + "\n")

    rebuilt = load_stored_splits(task, folder, table)

    assert [set(rebuilt[name].names) for name in NAMES] == [set(splits[name].names) for name in NAMES]
    assert len(read_splits_table(table)) == sum(len(rebuilt[name]) for name in NAMES)
