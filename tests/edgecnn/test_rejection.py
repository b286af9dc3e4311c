"""How well sureness tells the classes from all else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import DatasetError
from edgecnn.preprocessing import Color, Preprocessing
from edgecnn.rejection.measure import Rejection, Seen, coverage_accuracy, measure_rejection, measure_scores
from edgecnn.rejection.threshold import LOST, SCORES, choose_threshold, threshold_for
from edgecnn.tasks import Task

DATA = DataInfo("made up", "validation", 4, "0" * 64)
levels = st.lists(st.integers(0, 256), min_size=1, max_size=40)


def sure(*percents: float) -> NDArray[np.float32]:
    """Return probabilities `(n, 2)` whose first class has so many percent."""
    return np.array([[p / 100, 1 - p / 100] for p in percents], np.float32)


def measured(true: NDArray[np.float32], *, threshold: float | None = None, **ood: NDArray[np.float32]) -> Rejection:
    seen = {kind: Seen(probabilities) for kind, probabilities in ood.items()}
    return measure_scores(Seen(true), np.zeros(len(true), np.int64), seen, DATA, threshold=threshold)


def scores(*values: float) -> NDArray[np.float64]:
    return np.array(values, np.float64)


@settings(deadline=None)
@given(values=levels, share=st.floats(0, 1))
def test_no_more_than_the_wanted_share_is_accepted_and_a_lower_threshold_would_accept_more(
    values: list[int], share: float
) -> None:
    others = np.array(values, np.float64) / 256

    threshold = threshold_for({"some": others}, share)

    assert (others >= threshold).mean() <= share
    below = others[others < threshold]
    assert len(below) == 0 or (others >= below.max()).mean() > share


@settings(deadline=None)
@given(true=levels, others=levels)
def test_a_chosen_threshold_never_costs_more_true_pictures_than_is_bearable(true: list[int], others: list[int]) -> None:
    held_out = np.array(true, np.float64) / 256

    threshold = choose_threshold(held_out, {"some": np.array(others, np.float64) / 256})

    assert (held_out < threshold).mean() <= LOST


def test_easy_kinds_leave_no_room_for_hard_ones() -> None:
    true, hard = np.full(100, 0.95), np.linspace(0.5, 0.9, 100)
    easy = {f"black {i}": np.full(100, 0.2) for i in range(1)}

    threshold = choose_threshold(true, {"hard": hard, **easy})

    assert (hard >= threshold).mean() <= 0.05


def test_a_threshold_of_three_digits_lets_no_level_of_int8_slip_through() -> None:
    others = np.repeat([250 / 256, 100 / 256], [10, 90])  # 250 / 256 is .9766: rounded down, the threshold would let it in

    threshold = choose_threshold(np.full(100, 255 / 256), {"some": others})

    assert 250 / 256 < threshold <= 251 / 256


def test_the_curve_tells_how_often_the_surest_answers_are_right() -> None:
    coverage, accuracy = coverage_accuracy(scores(0.9, 0.8, 0.8, 0.5), np.array([True, True, False, False]))

    assert coverage == pytest.approx([0.25, 0.75, 1.0])
    assert accuracy == pytest.approx([1.0, 2 / 3, 0.5])


def test_the_stated_threshold_is_judged_by_what_it_keeps_and_what_it_lets_in() -> None:
    rejection = measured(sure(95, 90, 60, 55), threshold=0.8, wood=sure(85, 60), letters=sure(60, 55))

    assert rejection.stated is not None
    assert (rejection.stated.kept.hits, rejection.stated.accepted.hits) == (2, 1)
    assert {kind: share.hits for kind, share in rejection.stated.by_kind.items()} == {"wood": 1, "letters": 0}
    assert rejection.stated.hardest == "wood"


def test_a_model_without_threshold_is_measured_at_the_wanted_rate_only() -> None:
    rejection = measured(sure(95, 90), wood=sure(85, 60))

    assert rejection.stated is None
    assert rejection.wanted.accepted.hits == 0
    assert rejection.wanted.kept.hits == 2


def test_an_unseen_kind_is_judged_at_the_threshold_of_the_other_kinds() -> None:
    rejection = measured(sure(99, 99), easy=sure(*[60] * 40), hard=sure(*[90] * 40))

    assert rejection.wanted.accepted.hits == 0
    assert rejection.wanted.unseen == pytest.approx(0.5)  # all of the hard kind, none of the easy one


def test_areas_are_told_for_each_score_and_each_kind() -> None:
    rejection = measured(sure(95, 90), wood=sure(85, 60), letters=sure(99, 97))

    assert rejection.aurocs.keys() == SCORES.keys()
    assert rejection.aurocs["highest probability"].value == 0.5
    assert {kind: auroc.value for kind, auroc in rejection.aurocs_by_kind.items()} == {"wood": 1.0, "letters": 0.0}


def test_all_scores_agree_where_there_are_two_classes() -> None:
    probabilities = sure(95, 60, 51, 80)

    orders = [np.argsort(score(probabilities)).tolist() for score in SCORES.values()]

    assert orders[0] == orders[1] == orders[2] == [2, 1, 3, 0]


class FirstPixel:
    name = "as the first pixel"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return sure(*(images[:, 0, 0, 0] / 2.55))


def _task(**options: object) -> Task:
    return Task("two", "two", ("a", "b"), Preprocessing(2, 2), **options)  # type: ignore[arg-type]


def _dataset(count: int) -> Dataset:
    return Dataset(np.full((count, 2, 2, 1), 240, np.uint8), np.zeros(count, np.int64), tuple(map(str, range(count))))


def test_a_measurement_takes_other_pictures_than_the_choice_with_the_same_seed() -> None:
    seeds = []

    def ood(count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
        seeds.append(seed)
        return {"dark": np.full((count, 2, 2, 1), 150, np.uint8)}

    rejection = measure_rejection(FirstPixel(), _task(ood=ood), _dataset(3), DATA, threshold=0.9, per_kind=4, seed=7)

    assert seeds != [7]
    assert rejection.per_kind == 4
    assert rejection.stated is not None and rejection.stated.kept.hits == 3
    assert rejection.to_json()["stated"]["false_accepts"]["count"] == 4


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_a_task_of_which_nothing_is_known_that_is_no_class_meets_surfaces_that_are_not_metal(color: Color) -> None:
    task = dataclasses.replace(_task(), preprocessing=Preprocessing(2, 2, color))
    dataset = _dataset(3)
    dataset = dataclasses.replace(dataset, images=np.repeat(dataset.images, task.preprocessing.channels, axis=3))

    rejection = measure_rejection(FirstPixel(), task, dataset, DATA, threshold=None, per_kind=4)

    assert {"hand", "letters", "flat exposure"} <= set(rejection.aurocs_by_kind)
    assert not {"plain steel", "brushed metal"} & set(rejection.aurocs_by_kind)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DatasetError, match="this split is empty"):
        measure_rejection(FirstPixel(), _task(), _dataset(0), DATA, threshold=None)
