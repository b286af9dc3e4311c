"""A split is kept while its folder grows: no picture moves, and test stays test."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.datasets.dataset import Splits
from edgecnn.datasets.folder import GROUPED_RULE, task_from_folder
from edgecnn.datasets.kept_split import find_table, keep_split, kept_by_run
from edgecnn.datasets.load import load_splits
from edgecnn.datasets.split import FREE, SHARES, extend_split
from edgecnn.datasets.split_table import SPLITS, write_splits_table
from edgecnn.errors import DatasetError, InputError
from edgecnn.progress import listening


def add(folder: Path, label: str, numbers: range) -> None:
    (folder / label).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture = np.random.default_rng((len(label), number)).integers(0, 255, (32, 32), dtype=np.uint8)
        cv2.imwrite(str(folder / label / f"{number}.png"), picture)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    for label in ("nut", "screw"):
        add(tmp_path / "parts", label, range(20))
    return tmp_path / "parts"


def stored(parts: Path) -> tuple[Path, dict[str, str]]:
    """Divide the folder, keep the table, and return it with the split of each content."""
    task = task_from_folder(parts)
    splits = load_splits(task, parts, 0)
    write_splits_table(task, splits, parts.parent / "splits.csv")
    return parts.parent / "splits.csv", by_content(splits)


def by_content(splits: Splits) -> dict[str, str]:
    return {digest: split for split in SPLITS for digest in splits[split].digests or ()}


def kept(parts: Path, table: Path, seed: int = 1) -> Splits:
    task = task_from_folder(parts)
    return keep_split(load_splits(task, parts, seed), len(task.labels), table, seed=seed)


def test_no_picture_moves_when_the_folder_grows_and_files_are_renamed(parts: Path) -> None:
    table, before = stored(parts)
    add(parts, "nut", range(100, 140))
    add(parts, "washer", range(20))
    (parts / "screw" / "3.png").rename(parts / "screw" / "another name.png")

    after = by_content(kept(parts, table))

    assert {digest: after[digest] for digest in before} == before
    assert [list(after.values()).count(split) for split in SPLITS] == [70, 15, 15]


def test_a_split_that_was_extended_is_kept_again(parts: Path) -> None:
    table, _ = stored(parts)
    add(parts, "nut", range(100, 110))
    task = task_from_folder(parts)
    first = kept(parts, table)
    write_splits_table(task, first, table)
    add(parts, "nut", range(200, 210))

    second = by_content(kept(parts, table, seed=9))

    assert by_content(first).items() <= second.items()


def test_what_was_kept_is_new_and_is_gone_is_told(parts: Path) -> None:
    table, _ = stored(parts)
    add(parts, "nut", range(100, 103))
    (parts / "nut" / "0.png").unlink()
    said = list[str]()

    with listening(note=said.append):
        kept(parts, table)

    line = next(line for line in said if "split kept from" in line)
    assert "39 pictures as before, 3 new" in line
    assert line.endswith("1 gone")


def test_a_split_of_other_pictures_is_refused(parts: Path, tmp_path: Path) -> None:
    table, _ = stored(parts)
    for label in ("nut", "screw"):
        add(tmp_path / "other", label, range(500, 510))

    with pytest.raises(DatasetError, match="holds none of the pictures"):
        kept(tmp_path / "other", table)


def test_the_run_of_another_folder_that_is_replaced_keeps_nothing(parts: Path, tmp_path: Path) -> None:
    table, _ = stored(parts)
    for label in ("nut", "screw"):
        add(tmp_path / "other", label, range(500, 510))
    task = task_from_folder(tmp_path / "other")
    splits = load_splits(task, tmp_path / "other", 0)

    assert keep_split(splits, len(task.labels), table, seed=0, stated=False) is splits


def test_a_folder_that_its_owner_divided_is_refused(parts: Path, tmp_path: Path) -> None:
    table, _ = stored(parts)
    for part in ("train", "test"):
        for label in ("nut", "screw"):
            add(tmp_path / "own" / part, label, range(10))

    with pytest.raises(InputError, match="divided by its own folders"):
        kept(tmp_path / "own", table)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither splits\.csv nor the folder of a run"):
        find_table(tmp_path)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_kept_pictures_stay_and_new_ones_join_their_group(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    class_ids, groups = (np.array(data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))) for _ in range(2))
    before = np.array(data.draw(st.lists(st.integers(FREE, 2), min_size=count, max_size=count)))

    after = extend_split(class_ids % 3, groups, before, 3, seed=0)

    assert np.array_equal(after[before != FREE], before[before != FREE])
    assert set(after.tolist()) <= set(range(len(SHARES)))
    for group in np.unique(groups):
        members = groups == group
        old = set(before[members].tolist()) - {FREE}
        new = set(after[members & (before == FREE)].tolist())
        assert len(new) <= 1
        assert new <= old or not old


@given(st.tuples(*[st.integers(0, 60)] * 3), st.integers(1, 40), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_of_new_pictures_most_are_trained_on_whatever_shares_the_old_ones_have(
    old: tuple[int, int, int], new: int, seed: int
) -> None:
    before = np.concatenate([np.repeat(range(3), old), np.full(new, FREE)])

    after = extend_split(np.zeros(len(before), np.int64), np.arange(len(before)), before, 1, seed=seed)[sum(old) :]

    assert np.abs(np.bincount(after, minlength=3) - np.array(SHARES) * new).max() < 3


def test_pictures_that_are_added_one_by_one_come_to_the_usual_shares() -> None:
    parts = np.zeros(0, np.int64)
    for number in range(100):
        parts = extend_split(np.zeros(number + 1, np.int64), np.arange(number + 1), np.append(parts, FREE), 1, seed=number)

    assert np.bincount(parts, minlength=3).tolist() == [70, 15, 15]


@pytest.mark.parametrize(("rule", "is_kept"), [(GROUPED_RULE, True), ("as x divided it", True), ("dealt at random", False)])
def test_a_run_keeps_its_split_unless_it_was_dealt_at_random(parts: Path, rule: str, is_kept: bool) -> None:
    table, _ = stored(parts)
    (parts.parent / "training.json").write_text(json.dumps({"split": {"rule": rule}}))

    assert kept_by_run(parts.parent) == (table if is_kept else None)
