import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import DatasetError, InputError
from edgecnn.runtimes.runtime import Answers
from edgecnn_export.parity.compare import MAX_FLIPS, compare
from edgecnn_export.parity.figures import ParityReport
from edgecnn_export.parity.text import format_report

LABELS = ("crack", "dent", "good")


class Table:
    """A runtime that looks its answers up: pixel (0, 0) of a picture is its row (two channels hold the number)."""

    name = "table"

    def __init__(self, probabilities: NDArray[np.float32]) -> None:
        self.probabilities = probabilities

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.probabilities[images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 0, 1]]


def make_dataset(class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None = None) -> Dataset:
    rows = np.arange(len(class_ids))
    images = np.zeros((len(class_ids), 1, 1, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = rows // 256, rows % 256
    return Dataset(images, class_ids, tuple(f"{i}.png" for i in rows), groups)


def answers(class_ids: NDArray[np.int64], certainty: float = 0.8, classes: int = 3) -> NDArray[np.float32]:
    probabilities = np.full((len(class_ids), classes), (1 - certainty) / (classes - 1), np.float32)
    probabilities[np.arange(len(class_ids)), class_ids] = certainty
    return probabilities


def balanced(count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) % 3


def flipped(class_ids: NDArray[np.int64], *rows: int) -> NDArray[np.int64]:
    changed = class_ids.copy()
    changed[list(rows)] = (changed[list(rows)] + 1) % 3
    return changed


def compare_answers(
    reference_ids: NDArray[np.int64], candidate_ids: NDArray[np.int64], class_ids: NDArray[np.int64], max_drop: float = 1.0
) -> ParityReport:
    candidates = {"int8": Table(answers(candidate_ids))}
    return compare(Table(answers(reference_ids)), candidates, make_dataset(class_ids), labels=LABELS, max_drop=max_drop)


def test_three_arguments_are_enough() -> None:
    truth = balanced(300)

    report = compare(Table(answers(truth)), {"int8": Table(answers(truth))}, make_dataset(truth))

    assert report["int8"].verdict == "pass"
    assert report.labels == ("0", "1", "2")


def test_300_pictures_without_a_flip_exclude_a_drop_of_one_point() -> None:
    truth = balanced(300)

    candidate = compare_answers(truth, truth, truth)["int8"]

    assert candidate.drop_bound == pytest.approx(0.894, abs=1e-3)
    assert candidate.sentence == "PASS int8: the drop is at most 0.89 points at 95 %, 1 are allowed"


def test_300_pictures_cannot_exclude_a_drop_of_half_a_point() -> None:
    truth = balanced(300)

    candidate = compare_answers(truth, truth, truth, max_drop=0.5)["int8"]

    assert candidate.verdict == "undecided"
    assert candidate.reasons == (
        "300 pictures cannot exclude a drop above 0.5 points; the drop is at most 0.89 points at 95 %; about 540 would decide",
    )


def test_a_measured_drop_above_the_margin_fails() -> None:
    truth = balanced(300)

    candidate = compare_answers(truth, flipped(truth, 1, 2, 3, 4), truth)["int8"]

    assert candidate.verdict == "fail"
    assert "lost 1.33 points" in candidate.sentence


def test_one_flip_among_twenty_pictures_is_no_fail() -> None:
    truth = balanced(20)

    candidate = compare_answers(truth, flipped(truth, 5), truth)["int8"]

    assert candidate.verdict == "undecided"
    assert "on 20 pictures no more than chance explains; the drop is at most" in candidate.sentence
    assert candidate.sentence.endswith("about 55 would decide")


def test_a_loss_that_chance_does_not_explain_fails_on_twenty_pictures_too() -> None:
    truth = balanced(20)

    candidate = compare_answers(truth, flipped(truth, 5, 6, 7), truth)["int8"]

    assert candidate.verdict == "fail"
    assert "lost 15.00 points of accuracy (3 of 20 pictures lost, 0 gained)" in candidate.sentence


def test_a_float_file_that_changes_nothing_passes_on_few_pictures() -> None:
    truth = balanced(20)

    report = compare(
        Table(answers(truth)), {"float32": Table(answers(truth))}, make_dataset(truth), float_candidates=["float32"]
    )

    assert report["float32"].verdict == "pass"
    assert report["float32"].reasons == ("no answer differs, and no probability by more than 0.0001",)


def unlabelled(count: int) -> DataInfo:
    return DataInfo("loose pictures", "whole", count, "0" * 64, labelled=False)


def test_without_labels_the_verdict_is_agrees_and_never_pass() -> None:
    truth = balanced(300)
    candidates = {"float32": Table(answers(truth)), "int8": Table(answers(flipped(truth, 5)))}

    report = compare(Table(answers(truth)), candidates, make_dataset(truth), data=unlabelled(300), float_candidates=["float32"])

    assert [candidate.verdict for candidate in report.candidates] == ["agrees", "agrees"]
    assert report["int8"].sentence.startswith("AGREES int8: 299 of 300 unlabelled pictures are answered as by the reference")
    assert (report.info("int8").agreement, report.info("int8").accuracy) == (pytest.approx(299 / 300), None)


def test_without_labels_a_file_that_answers_otherwise_still_fails() -> None:
    truth = balanced(300)
    candidates = {"int8": Table(answers(flipped(truth, *range(30))))}

    report = compare(Table(answers(truth)), candidates, make_dataset(truth), data=unlabelled(300))

    assert report.verdict == "fail"
    assert "answers 10.00 % of 300 unlabelled pictures differently" in report["int8"].sentence


def test_a_doubt_about_the_reference_lets_nothing_pass() -> None:
    truth = balanced(600)

    report = compare(Table(answers(truth)), {"int8": Table(answers(truth))}, make_dataset(truth), doubt="it is another model")

    assert report["int8"].sentence == "UNDECIDED int8: it is another model"


def test_pictures_of_one_class_alone_are_called_so() -> None:
    truth = np.zeros(600, np.int64)

    candidate = compare_answers(truth, truth, truth)["int8"]

    assert candidate.sentence == "UNDECIDED int8: all 600 pictures show crack: give pictures of the other classes too"


def test_a_good_reference_on_too_few_pictures_is_not_called_a_guesser() -> None:
    truth = np.array([0] * 11 + [1], np.int64)

    candidate = compare_answers(truth, truth, truth)["int8"]

    assert candidate.verdict == "undecided"
    assert "too few to tell the reference, which reads 12 correctly, from one that always says crack" in candidate.sentence


class Margins(Table):
    """A table whose answers to pictures of three rows and more are uncertain by their brightness, with an error added."""

    def __init__(self, probabilities: NDArray[np.float32], error: float = 0.0) -> None:
        super().__init__(probabilities)
        self.error = error

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if images[0].shape == (1, 1, 3):
            return super().run(images)
        margin = images[:, 0, 0, 0] / 256 - self.error
        return np.stack([0.5 + margin / 2, 0.5 - margin / 2, 0 * margin], axis=1).astype(np.float32)


def variants() -> NDArray[np.uint8]:
    """Two thousand pictures with margins of 0 to 1, near ties rare."""
    levels = 255 * np.random.default_rng(0).uniform(0, 1, 2000) ** 0.25
    return np.broadcast_to(np.rint(levels)[:, None, None, None], (2000, 1, 2, 3)).astype(np.uint8)


def with_variants(count: int, error: float, **options: Any) -> ParityReport:
    truth, certain = balanced(count), answers(balanced(count), 0.99)
    candidates = {"int8": Margins(certain, error)}
    return compare(Margins(certain), candidates, make_dataset(truth), labels=LABELS, variants=variants, **options)


def test_margins_of_unlabelled_pictures_decide_where_few_labelled_ones_cannot() -> None:
    report = with_variants(135, error=0.01)

    candidate = report["int8"]
    assert candidate.verdict == "pass"
    assert candidate.margins is not None
    assert candidate.margins.bound < 1 < candidate.drop_bound
    assert "1.96 by the 135 labelled ones alone" in candidate.sentence
    assert report.info("int8").margin_bound == candidate.margins.bound


def test_a_large_quantization_error_stays_undecided_and_shows_both_bounds() -> None:
    candidate = with_variants(135, error=0.9)["int8"]

    assert candidate.verdict == "undecided"
    assert "the drop is at most 1.96 points at 95 % (22.71 by" in candidate.sentence
    assert "flipped); about 270 would decide" in candidate.sentence


def test_unlabelled_pictures_are_not_made_where_labelled_ones_decide() -> None:
    def refuse() -> NDArray[np.uint8]:
        raise AssertionError("not needed")

    truth = balanced(600)

    report = compare(Table(answers(truth)), {"int8": Table(answers(truth))}, make_dataset(truth), variants=refuse)

    assert report["int8"].margins is None


def test_flips_are_counted_both_ways_and_named() -> None:
    truth = balanced(300)

    candidate = compare_answers(flipped(truth, 7, 8), flipped(truth, 5, 8), truth)["int8"]

    assert (candidate.lost, candidate.gained, candidate.other) == (1, 1, 0)
    assert [(flip.kind, flip.name) for flip in candidate.flips] == [("lost", "5.png"), ("gained", "7.png")]


def test_two_different_wrong_answers_are_another_disagreement() -> None:
    truth = balanced(300)
    other_wrong = truth.copy()
    other_wrong[9] = (truth[9] + 2) % 3

    candidate = compare_answers(flipped(truth, 9), other_wrong, truth)["int8"]

    assert (candidate.lost, candidate.gained, candidate.other) == (0, 0, 1)
    assert candidate.agreement == pytest.approx(1 - 1 / 300)


def test_a_flip_keeps_both_probability_vectors() -> None:
    truth = balanced(300)

    flip = compare_answers(truth, flipped(truth, 5), truth)["int8"].flips[0]

    assert flip.reference_probabilities == pytest.approx((0.1, 0.1, 0.8))
    assert flip.candidate_probabilities == pytest.approx((0.8, 0.1, 0.1))


def test_the_class_table_says_which_class_lost() -> None:
    truth = balanced(300)

    table = compare_answers(truth, flipped(truth, 1, 4), truth)["int8"].classes

    assert [(row.label, row.count, row.drop) for row in table] == [("crack", 100, 0), ("dent", 100, 2.0), ("good", 100, 0)]


def test_all_flips_are_counted_but_not_all_are_kept() -> None:
    truth = balanced(1000)

    candidate = compare_answers(truth, flipped(truth, *range(900)), truth)["int8"]

    assert candidate.lost == 900
    assert len(candidate.flips) == MAX_FLIPS


def test_flips_of_one_group_make_the_bootstrap_the_larger_bound() -> None:
    truth = balanced(300)
    dataset = make_dataset(truth, groups=np.arange(300, dtype=np.int64) // 30)
    candidates = {"int8": Table(answers(flipped(truth, *range(30, 60))))}

    candidate = compare(Table(answers(truth)), candidates, dataset)["int8"]

    assert candidate.bound_method == "bootstrap over groups"
    assert candidate.drop_bound > 20


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_answers_that_are_not_finite_fail(value: float) -> None:
    truth = balanced(300)
    broken = answers(truth)
    broken[17, 1] = value

    candidate = compare(Table(answers(truth)), {"int8": Table(broken)}, make_dataset(truth))["int8"]

    assert candidate.verdict == "fail"
    assert "1 of 300 answers hold NaN or infinity" in candidate.sentence


def test_a_report_with_broken_answers_still_is_json() -> None:
    truth = balanced(300)
    broken = np.full((300, 3), np.nan, np.float32)

    report = compare(Table(answers(truth)), {"int8": Table(broken)}, make_dataset(truth))

    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize(("factor", "offset", "words"), [(2.0, 0.0, "do not sum to 1"), (1.0, -0.2, "negative values")])
def test_answers_that_are_no_probabilities_fail(factor: float, offset: float, words: str) -> None:
    truth = balanced(300)
    candidates = {"int8": Table(np.float32(factor) * answers(truth) + np.float32(offset))}

    candidate = compare(Table(answers(truth)), candidates, make_dataset(truth))["int8"]

    assert candidate.verdict == "fail"
    assert words in candidate.sentence


def test_the_steps_of_an_int8_softmax_are_probabilities() -> None:
    truth = balanced(300)
    rounded = (np.clip(np.rint(answers(truth, 0.999) * 256), 0, 255) / 256).astype(np.float32)

    candidate = compare(Table(answers(truth)), {"int8": Table(rounded)}, make_dataset(truth))["int8"]

    assert candidate.verdict == "pass"


def test_a_float_file_is_held_to_the_tolerance() -> None:
    truth = balanced(300)
    candidates = {name: Table(answers(truth, 0.8002)) for name in ("float32", "int8")}

    report = compare(Table(answers(truth)), candidates, make_dataset(truth), float_candidates=["float32"])

    assert [candidate.verdict for candidate in report.candidates] == ["fail", "pass"]
    assert "a float file may differ by 0.0001" in report["float32"].sentence


def test_the_report_has_the_worst_verdict() -> None:
    truth = balanced(300)
    candidates = {"good": Table(answers(truth)), "bad": Table(answers(flipped(truth, *range(50))))}

    report = compare(Table(answers(truth)), candidates, make_dataset(truth))

    assert report.verdict == "fail"


def test_a_reference_that_guesses_lets_nothing_pass() -> None:
    truth = balanced(600)
    constant = np.zeros(600, np.int64)

    candidate = compare_answers(constant, constant, truth)["int8"]

    assert candidate.verdict == "undecided"
    assert "no better than guessing" in candidate.sentence


def test_a_reference_that_gives_no_probabilities_is_an_error() -> None:
    truth = balanced(300)
    logits = 9 * answers(truth)

    with pytest.raises(InputError, match="does it end in softmax"):
        compare(Table(logits), {"int8": Table(answers(truth))}, make_dataset(truth))


def test_another_number_of_classes_is_an_error() -> None:
    truth = balanced(300)

    with pytest.raises(InputError, match="int8 answers with 4 classes"):
        compare(Table(answers(truth)), {"int8": Table(answers(truth, classes=4))}, make_dataset(truth))


def test_labels_that_do_not_fit_are_an_error() -> None:
    truth = balanced(300)

    with pytest.raises(InputError, match="has 3 classes, but 2 labels"):
        compare(Table(answers(truth)), {"int8": Table(answers(truth))}, make_dataset(truth), labels=("a", "b"))


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_pictures_are_an_error(count: int) -> None:
    truth = balanced(count)

    with pytest.raises(DatasetError, match=f"at least 10 pictures, got {count}"):
        compare(Table(answers(truth)), {"int8": Table(answers(truth))}, make_dataset(truth))


def test_a_class_that_the_model_does_not_know_is_an_error() -> None:
    truth = balanced(300)
    beyond = truth.copy()
    beyond[0] = 3

    with pytest.raises(DatasetError, match="run from 0 to 3"):
        compare(Table(answers(truth)), {"int8": Table(answers(truth))}, make_dataset(beyond))


def test_the_report_survives_json() -> None:
    truth = balanced(300)
    report = compare_answers(flipped(truth, 7), flipped(truth, 5, 8), truth)

    restored = ParityReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False)))

    assert restored == report


@pytest.mark.parametrize("damage", [{"labels": None}, {"surprise": 1}, {"reference": {}}])
def test_a_malformed_report_is_an_error(damage: dict[str, object]) -> None:
    truth = balanced(300)
    data = compare_answers(truth, truth, truth).to_json()

    with pytest.raises(InputError, match="malformed parity report"):
        ParityReport.from_json(data | damage)


def test_the_contract_gets_verdict_and_figures() -> None:
    truth = balanced(300)
    data = DataInfo("fake parts", "validation", 300, "0" * 64, synthetic=True)
    candidates = {"int8": Table(answers(flipped(truth, 5)))}

    info = compare(Table(answers(truth)), candidates, make_dataset(truth), data=data).info("int8")

    assert (info.verdict, info.data, info.reference_accuracy) == ("undecided", data, 1.0)
    assert info.drop == pytest.approx(100 / 300)


def test_latency_is_the_mean_time_of_a_picture() -> None:
    truth = balanced(1000)
    ticks = iter(np.arange(0, 100, 0.5).tolist())

    report = compare(Table(answers(truth)), {"int8": Table(answers(truth))}, make_dataset(truth), clock=lambda: next(ticks))

    assert report.reference.latency_ms == pytest.approx(1.0)
    assert report["int8"].latency_ratio == pytest.approx(1.0)


def test_progress_is_told_after_each_batch() -> None:
    truth = balanced(600)
    told: list[tuple[str, int, int]] = []

    compare(
        Table(answers(truth)),
        {"int8": Table(answers(truth))},
        make_dataset(truth),
        progress=lambda name, done, total: told.append((name, done, total)),
    )

    assert told == [("reference", 500, 600), ("reference", 600, 600), ("int8", 500, 600), ("int8", 600, 600)]


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 400), st.integers(0, 2**32 - 1), st.floats(0, 5))
def test_identical_models_never_fail(count: int, seed: int, max_drop: float) -> None:
    random = np.random.default_rng(seed)
    truth, answer_ids = random.integers(0, 3, (2, count))

    candidate = compare_answers(answer_ids, answer_ids, truth, max_drop)["int8"]

    assert candidate.verdict in ("pass", "undecided")


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 400), st.integers(0, 2**32 - 1))
def test_the_drop_changes_sign_when_the_models_change_places(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, first_ids, second_ids = random.integers(0, 3, (3, count))

    there = compare_answers(first_ids, second_ids, truth)["int8"]
    back = compare_answers(second_ids, first_ids, truth)["int8"]

    assert there.drop == -back.drop
    assert (there.lost, there.gained) == (back.gained, back.lost)


def test_a_report_is_unchanged_by_more_candidates() -> None:
    truth = balanced(300)
    one, two = Table(answers(flipped(truth, 3))), Table(answers(flipped(truth, 4)))
    clock = lambda: 0.0  # noqa: E731

    alone = compare(Table(answers(truth)), {"a": one}, make_dataset(truth), clock=clock)
    both = compare(Table(answers(truth)), {"a": one, "b": two}, make_dataset(truth), clock=clock)

    assert replace(both, candidates=both.candidates[:1]) == alone


class Doubled(Table):
    """A runtime that computes its answers from features: its graph's own softmax says `graph_ids`."""

    def __init__(self, probabilities: NDArray[np.float32], graph_ids: NDArray[np.int64]) -> None:
        super().__init__(probabilities)
        self.graph = Table(answers(graph_ids))

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        return Answers(self.run(images), graph=self.graph.run(images))


def test_what_other_runtimes_are_told_is_compared_too() -> None:
    truth = balanced(300)

    report = compare(
        Table(answers(truth)), {"int8": Doubled(answers(truth), flipped(truth, 1, 2, 3))}, make_dataset(truth), labels=LABELS
    )

    assert report["int8"].verdict == "pass"
    assert report["int8"].graph_agreement == pytest.approx(0.99)
    assert "output 0, for other tools' runtimes, names another class on 3 of 300 pictures" in format_report(report)
    assert ParityReport.from_json(json.loads(json.dumps(report.to_json()))) == report
