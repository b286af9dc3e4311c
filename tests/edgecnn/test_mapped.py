"""Arrays of pictures above a size lie on the disk, and hold what arrays in memory would."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from picture_files import write_classes

from edgecnn import mapped
from edgecnn.datasets.dataset import Splits
from edgecnn.datasets.folder import task_from_folder
from edgecnn.datasets.load import load_splits
from edgecnn.datasets.split_table import load_stored_splits, write_splits_table
from edgecnn.errors import OutputError
from edgecnn.mapped import Lent, Shelf, blocks, join_pictures, lend, let_go, new_pictures, stack_pictures, take_pictures
from edgecnn.progress import listening


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Map every array of more than 2 kB, in a cache folder of its own."""
    monkeypatch.setattr(mapped, "IN_MEMORY_BYTES", 2000)
    monkeypatch.setattr(mapped, "_BLOCK_BYTES", 3000)
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def is_mapped(array: NDArray[np.uint8]) -> bool:
    base: object = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return not isinstance(base, np.ndarray)


def drawn(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 10, 10, 3)).astype(np.uint8)


def refuse(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.usefixtures("little_memory")
@given(indices=st.lists(st.integers(0, 19), min_size=1, max_size=60))
@settings(max_examples=30, deadline=None)
def test_what_is_taken_of_a_mapped_array_is_what_is_taken_of_one_in_memory(indices: list[int]) -> None:
    images = drawn(20)
    on_disk = join_pictures([images])

    taken = take_pictures(on_disk, np.array(indices, np.int64))

    assert is_mapped(on_disk)
    np.testing.assert_array_equal(taken, images[indices])


@pytest.mark.usefixtures("little_memory")
def test_joined_arrays_follow_each_other() -> None:
    parts = [drawn(7, 1), drawn(0), drawn(12, 2)]

    np.testing.assert_array_equal(join_pictures(parts), np.concatenate(parts))


@pytest.mark.usefixtures("little_memory")
def test_what_was_let_go_is_still_there() -> None:
    images = new_pictures((30, 10, 10, 3))
    images[...] = drawn(30)

    let_go()

    np.testing.assert_array_equal(np.concatenate(list(blocks(images))), drawn(30))


def test_rows_of_one_array_are_stacked_without_a_copy() -> None:
    images = drawn(9)

    stacked = stack_pictures([images[i] for i in range(2, 7)])

    assert np.shares_memory(stacked, images)
    np.testing.assert_array_equal(stacked, images[2:7])


@pytest.mark.parametrize("rows", [(0, 2, 3), (3, 2, 1), (1, 1)])
def test_rows_with_gaps_or_in_another_order_are_copied(rows: tuple[int, ...]) -> None:
    images = drawn(9)

    stacked = stack_pictures([images[i] for i in rows])

    np.testing.assert_array_equal(stacked, images[list(rows)])


@pytest.mark.usefixtures("little_memory")
def test_a_shelf_keeps_arrays_of_any_shape() -> None:
    shelf, arrays = Shelf(), [np.full((side, side + 1), side, np.uint8) for side in range(1, 60)]

    kept = [shelf.keep(array) for array in arrays]

    assert is_mapped(kept[-1])
    for array, one in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(one, array)


def total_of(lent: Lent) -> int:
    return int(lent.pictures().sum(dtype=np.int64))


def test_a_child_process_reads_large_pictures_from_the_file_of_its_parent(little_memory: Path) -> None:
    images = drawn(40)

    with lend(images) as lent, get_context("spawn").Pool(1) as children:
        total = children.apply(total_of, (lent,))

    assert total == images.sum(dtype=np.int64)
    assert len(pickle.dumps(lent)) < 500
    assert list(little_memory.iterdir()) == []


def test_pictures_that_no_disk_takes_are_lent_themselves(little_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
    images = drawn(40)

    with lend(images) as lent:
        assert lent.pictures() is images


def test_nothing_with_a_name_lies_in_the_cache_folder(little_memory: Path) -> None:
    images = new_pictures((30, 10, 10, 3))

    assert is_mapped(images)
    assert list(little_memory.iterdir()) == []


def test_a_full_disk_leaves_the_pictures_in_memory_and_says_so(little_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
    notes: list[str] = []

    with listening(note=notes.append):
        images = new_pictures((30, 10, 10, 3))

    assert not is_mapped(images)
    assert notes == [
        f"  0.0 GB of resized pictures are held in memory, not on the disk ({little_memory}: no space left on device)"
    ]


def test_pictures_that_neither_disk_nor_memory_holds_are_one_line(little_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
    monkeypatch.setattr(mapped, "limit_bytes", lambda: 10_000)

    with pytest.raises(
        OutputError, match=r"no room on the disk for 0\.0 GB of resized pictures .* EDGECNN_CACHE, or take a smaller"
    ):
        new_pictures((30, 10, 10, 3))


def test_without_a_cache_large_arrays_are_held_in_memory(little_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", "off")

    assert not is_mapped(new_pictures((30, 10, 10, 3)))


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    write_classes(folder, count=12)
    whole = next((folder / "bolt").glob("*.png")).read_bytes()
    (folder / "bolt" / "broken.png").write_bytes(whole[:200])
    return folder


def loaded(folder: Path) -> Splits:
    return load_splits(task_from_folder(folder), None, 0)


def test_a_folder_is_divided_alike_on_the_disk_and_in_memory(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = loaded(parts)
    monkeypatch.setattr(mapped, "IN_MEMORY_BYTES", 2000)

    on_disk = loaded(parts)

    assert is_mapped(on_disk.train.images) and not is_mapped(in_memory.train.images)
    for name in ("train", "validation", "test"):
        assert on_disk[name].digest() == in_memory[name].digest()
        assert on_disk[name].names == in_memory[name].names


def test_a_broken_file_costs_that_file_alone(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "IN_MEMORY_BYTES", 2000)

    splits = loaded(parts)

    assert sum(len(splits[name]) for name in ("train", "validation", "test")) == 24


def test_a_stored_split_is_read_back_from_the_disk(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_from_folder(parts)
    before = load_splits(task, None, 0)
    write_splits_table(task, before, tmp_path / "splits.csv")
    monkeypatch.setattr(mapped, "IN_MEMORY_BYTES", 2000)

    after = load_stored_splits(task, parts, tmp_path / "splits.csv")

    assert is_mapped(after.train.images)
    assert after.train.digest() == before.train.digest()
