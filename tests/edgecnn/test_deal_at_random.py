"""A split dealt out at random, as others do it, to show what it flatters."""

from __future__ import annotations

import numpy as np

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits, concatenate
from edgecnn.datasets.split import deal_at_random


def _part(start: int, count: int) -> Dataset:
    images = np.arange(start, start + count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    numbers = np.arange(start, start + count)
    return Dataset(images, numbers % 2, tuple(f"picture {i}" for i in numbers), numbers // 4)


def _splits() -> Splits:
    return Splits(_part(0, 40), _part(40, 20), _part(60, 0), SplitInfo("numbers", "in order"))


def test_parts_keep_their_sizes_and_every_picture_is_dealt_once() -> None:
    dealt = deal_at_random(_splits(), seed=3)

    names = [name for part in (dealt.train, dealt.validation, dealt.test) for name in part.names]

    assert (len(dealt.train), len(dealt.validation), len(dealt.test)) == (40, 20, 0)
    assert sorted(names) == sorted(f"picture {i}" for i in range(60))


def test_classes_are_dealt_evenly() -> None:
    dealt = deal_at_random(_splits(), seed=3)

    assert np.bincount(dealt.validation.class_ids).tolist() == [10, 10]


def test_groups_come_to_stand_on_both_sides_and_the_rule_says_so() -> None:
    dealt = deal_at_random(_splits(), seed=3)

    assert dealt.train.groups is not None
    assert dealt.validation.groups is not None
    assert set(dealt.train.groups) & set(dealt.validation.groups)
    assert "both sides" in dealt.info.rule


def test_joined_data_sets_keep_order_and_lose_groups_that_one_of_them_lacks() -> None:
    without = Dataset(*(getattr(_part(8, 2), name) for name in ("images", "class_ids", "names")))

    joined = concatenate([_part(0, 2), without])

    assert joined.names == ("picture 0", "picture 1", "picture 8", "picture 9")
    assert joined.groups is None
