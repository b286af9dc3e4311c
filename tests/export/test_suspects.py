"""Wrong labels are found by others of their group, or by a head that never saw the group; weak heads accuse nobody."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from frozen_clusters import clusters
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.errors import InputError
from edgecnn_export.studies.confusing import confusing_pairs
from edgecnn_export.studies.frozen import Frozen
from edgecnn_export.studies.out_of_fold import answers, grouped_folds, held_out
from edgecnn_export.studies.suspects import find_suspects, lowest_threshold, measure_planted, plant


def relabelled(frozen: Frozen, changed: dict[int, int]) -> Frozen:
    class_ids = frozen.class_ids.copy()
    class_ids[list(changed)] = list(changed.values())
    return dataclasses.replace(frozen, pool=dataclasses.replace(frozen.pool, class_ids=class_ids))


@pytest.mark.parametrize("by", ["picture", "group"])
def test_planted_errors_are_found_with_few_false_alarms(by: str) -> None:
    found = [measure_planted(clusters(seed=seed), 0.05, by=by, seed=seed) for seed in range(3)]  # type: ignore[arg-type]

    listed, hits, planted = (sum(getattr(each, name) for each in found) for name in ("listed", "hits", "planted"))
    assert hits / listed >= 0.7
    assert hits / planted >= 0.5


def test_pictures_of_one_wrong_group_do_not_vouch_for_each_other() -> None:
    found = find_suspects(relabelled(clusters(), {0: 1, 1: 1, 2: 1}))

    assert {0, 1, 2} in [set(each.indices) for each in found.found if each.likely == "class0"]


def test_a_wrong_group_is_listed_once_by_the_mean_log_odds_of_its_pictures() -> None:
    frozen = relabelled(clusters(), {0: 1, 1: 1, 2: 1})

    found = find_suspects(frozen)

    (suspect,) = (each for each in found.found if 0 in each.indices)
    odds = np.log(found.answers[:3, 0] / found.answers[:3, 1]).mean()
    assert np.log(suspect.confidence / suspect.given_confidence) == pytest.approx(odds, abs=0.01)
    assert suspect.title == f"{suspect.names[0]} and 2 more of its group"


def test_one_wrong_picture_of_a_group_is_named_by_the_others_without_a_head() -> None:
    found = find_suspects(relabelled(clusters(apart=0.0), {4: 1}))

    assert [(each.indices, each.given, each.likely, each.reason) for each in found.found] == [
        ((4,), "class1", "class0", "same group")
    ]


def test_a_head_that_reads_nothing_accuses_nobody() -> None:
    found = find_suspects(clusters(apart=0.0))

    assert (found.threshold, found.found) == (None, ())
    assert "only those within a group are listed" in found.about()


def test_what_a_suspect_looks_like_is_of_other_groups() -> None:
    frozen = relabelled(clusters(), {0: 1})

    (suspect,) = (each for each in find_suspects(frozen).found if 0 in each.indices)

    assert suspect.nearest and all(frozen.groups[near.index] != frozen.groups[0] for near in suspect.nearest)


def test_a_class_of_one_group_is_never_accused_by_the_head() -> None:
    frozen = clusters()
    groups = np.where(frozen.class_ids == 2, 999, frozen.groups)
    whole = dataclasses.replace(frozen, groups=groups)

    given_to_it = answers(whole.features, whole.class_ids, groups, 3, repeats=1)

    assert np.isnan(given_to_it[frozen.class_ids == 2]).all()
    assert not np.isnan(given_to_it[frozen.class_ids != 2]).any()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=4, max_size=60), st.integers(2, 6))
def test_folds_keep_groups_whole_and_leave_each_class_something_to_learn_from(
    pictures: list[tuple[int, int]], folds: int
) -> None:
    class_ids, groups = (np.array(column, np.int64) for column in zip(*pictures, strict=True))

    fold_of = grouped_folds(class_ids, groups, folds, 0)

    assert all(len(set(fold_of[groups == group])) == 1 for group in groups)
    for out in held_out(class_ids, groups, folds, 0):
        assert set(class_ids[out]) <= set(class_ids[~out])


def test_a_threshold_is_the_lowest_above_which_enough_were_wrong() -> None:
    scores, wrong = np.arange(100.0), np.arange(100) >= 60

    assert lowest_threshold(scores, wrong, 0.5) == 29  # 40 of 71: half of 71 and half its square root
    assert lowest_threshold(scores, np.zeros(100, bool), 0.5) is None


@pytest.mark.parametrize("by", ["picture", "group"])
def test_about_the_stated_share_is_planted(by: str) -> None:
    frozen = clusters()

    changed = plant(frozen.class_ids, frozen.groups, 3, 0.05, 1, by) != frozen.class_ids  # type: ignore[arg-type]

    assert 0.03 <= changed.mean() <= 0.06


def test_a_share_that_cannot_be_planted_is_refused() -> None:
    with pytest.raises(InputError, match="not 70"):
        measure_planted(clusters(), 0.7)


def test_confusing_pairs_are_those_that_the_head_takes_for_one_another() -> None:
    frozen = clusters(apart=4.0)
    far = frozen.features.copy()
    far[frozen.class_ids == 1] += far[frozen.class_ids == 0].mean(axis=0) - far[frozen.class_ids == 1].mean(axis=0)
    near = dataclasses.replace(frozen, features=far)

    first = confusing_pairs(near, answers(far, near.class_ids, near.groups, 3, repeats=1))[0]

    assert (first.first, first.second) == ("class0", "class1")
    assert len(first.pictures) == 3
    assert all(near.class_ids[i] == 0 and near.class_ids[j] == 1 for i, j, _ in first.pictures)
