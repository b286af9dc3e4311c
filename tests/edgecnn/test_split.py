from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.datasets.split import random_split, split_groups, undivided
from edgecnn.errors import DatasetError

LABELS = ("a", "b", "c")


@st.composite
def grouped_pictures(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pictures of three classes in groups of one class each, at least two groups a class."""
    class_ids: list[int] = []
    groups: list[int] = []
    for class_id in range(len(LABELS)):
        for size in draw(st.lists(st.integers(1, 9), min_size=2, max_size=12)):
            groups += [len(set(groups))] * size
            class_ids += [class_id] * size
    order = np.array(draw(st.permutations(range(len(class_ids)))), np.int64)
    return np.array(class_ids, np.int64)[order], np.array(groups, np.int64)[order]


@given(grouped_pictures(), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_every_picture_stands_in_exactly_one_part(pictures: tuple[NDArray[np.int64], NDArray[np.int64]], seed: int) -> None:
    class_ids, groups = pictures

    parts = split_groups(class_ids, groups, LABELS, seed=seed)

    assert sorted(np.concatenate(parts).tolist()) == list(range(len(class_ids)))


@given(grouped_pictures(), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_no_group_stands_on_two_sides(pictures: tuple[NDArray[np.int64], NDArray[np.int64]], seed: int) -> None:
    class_ids, groups = pictures

    train, validation, test = (set(groups[part].tolist()) for part in split_groups(class_ids, groups, LABELS, seed=seed))

    assert not (train & validation or train & test or validation & test)


@given(grouped_pictures(), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_every_class_is_trained_and_validated(pictures: tuple[NDArray[np.int64], NDArray[np.int64]], seed: int) -> None:
    class_ids, groups = pictures

    train, validation, _ = split_groups(class_ids, groups, LABELS, seed=seed)

    assert set(class_ids[train].tolist()) == set(class_ids[validation].tolist()) == {0, 1, 2}


@given(grouped_pictures(), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_one_seed_gives_one_split(pictures: tuple[NDArray[np.int64], NDArray[np.int64]], seed: int) -> None:
    class_ids, groups = pictures

    first, second = (split_groups(class_ids, groups, LABELS, seed=seed) for _ in range(2))

    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_single_pictures_are_divided_as_wanted() -> None:
    class_ids = np.repeat(np.arange(3), 100)

    parts = split_groups(class_ids, np.arange(300), LABELS, seed=1)

    assert [np.bincount(class_ids[part]).tolist() for part in parts] == [[70] * 3, [15] * 3, [15] * 3]


def test_another_seed_gives_another_split() -> None:
    class_ids = np.repeat(np.arange(3), 100)

    one, other = (split_groups(class_ids, np.arange(300), LABELS, seed=seed)[0] for seed in (1, 2))

    assert not np.array_equal(one, other)


def test_two_groups_of_a_class_become_train_and_validation() -> None:
    class_ids = np.array([0, 0, 1, 1, 2, 2])

    parts = split_groups(class_ids, np.arange(6), LABELS, seed=0)

    assert [len(part) for part in parts] == [3, 3, 0]


def test_three_groups_of_a_class_fill_all_parts() -> None:
    class_ids = np.repeat(np.arange(3), 3)

    parts = split_groups(class_ids, np.arange(9), LABELS, seed=0)

    assert [len(part) for part in parts] == [3, 3, 3]


def test_two_parts_can_be_asked_for() -> None:
    class_ids = np.repeat(np.arange(3), 20)

    parts = split_groups(class_ids, np.arange(60), LABELS, seed=0, shares=(0.85, 0.15))

    assert [len(part) for part in parts] == [51, 9]


@pytest.mark.parametrize(
    ("class_ids", "groups", "reason"),
    [
        ([0, 0, 1, 1, 2], [0, 1, 2, 3, 4], r"'c' has 1 picture\(s\)"),
        ([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], "each class .* is one group of pictures that show the same thing"),
        ([0, 0, 1, 1], [0, 1, 2, 3], r"'c' has 0 picture\(s\)"),
    ],
)
def test_a_class_that_cannot_be_parted_is_refused_by_name(class_ids: list[int], groups: list[int], reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        split_groups(np.array(class_ids), np.array(groups), LABELS, seed=0)


def test_a_class_of_one_group_is_trained_on_and_not_measured() -> None:
    class_ids = np.repeat([0, 1, 2], 6)
    groups = np.concatenate([np.arange(12), np.full(6, 12)])

    train, validation, test = split_groups(class_ids, groups, LABELS, seed=0)

    assert undivided(class_ids, groups, 3) == [2]
    assert np.bincount(class_ids[train], minlength=3)[2] == 6
    assert set(class_ids[validation].tolist()) == set(class_ids[test].tolist()) == {0, 1}


def test_classes_that_only_hang_together_crosswise_are_refused() -> None:
    # Groups {a, b}, {b, c}, {c, a}: whichever is validated, one class stays untested.
    class_ids, groups = np.array([0, 1, 1, 2, 2, 0]), np.array([0, 0, 1, 1, 2, 2])

    with pytest.raises(DatasetError, match="is linked to other classes"):
        split_groups(class_ids, groups, LABELS, seed=0)


def test_a_random_split_keeps_the_shares_of_each_class() -> None:
    class_ids = np.repeat(np.arange(3), 20)

    parts = random_split(class_ids, seed=0)

    assert [np.bincount(class_ids[part]).tolist() for part in parts] == [[14] * 3, [3] * 3, [3] * 3]
