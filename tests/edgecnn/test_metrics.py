"""Figures against published values and cases that one can count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.metrics import auroc, auroc_interval, confusion_matrix, expected_calibration_error, wilson_interval


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score without continuity correction).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_wilson_interval_is_that_of_the_literature(successes: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=5e-5)


def test_nothing_counted_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@settings(deadline=None)
@given(count=st.integers(1, 10_000), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_the_wilson_interval_holds_the_share_and_mirrors(count: int, share: float, confidence: float) -> None:
    successes = round(share * count)

    low, high = wilson_interval(successes, count, confidence)

    assert 0 <= low <= successes / count + 1e-12
    assert successes / count - 1e-12 <= high <= 1
    assert wilson_interval(count - successes, count, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("count", [1, 7, 300, 5000])
def test_the_wilson_interval_of_all_or_none_reaches_the_end_exactly(count: int) -> None:
    assert wilson_interval(count, count)[1] == 1.0
    assert wilson_interval(0, count)[0] == 0.0


def test_confusion_has_true_classes_in_rows_and_predictions_in_columns() -> None:
    true_ids, predicted_ids = np.array([0, 0, 0, 1, 2]), np.array([0, 2, 2, 1, 1])

    counts = confusion_matrix(predicted_ids, true_ids, 3)

    assert counts.tolist() == [[1, 0, 2], [0, 1, 0], [0, 1, 0]]


def test_confusion_keeps_classes_that_never_occur() -> None:
    counts = confusion_matrix(np.array([0]), np.array([0]), 4)

    assert counts.shape == (4, 4)


def test_a_model_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    probabilities = np.tile(np.array([[0.75, 0.25]], np.float32), (4, 1))

    assert expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0)


def test_a_model_that_is_sure_and_wrong_has_all_its_confidence_as_error() -> None:
    probabilities = np.tile(np.array([[1.0, 0.0]], np.float32), (5, 1))

    assert expected_calibration_error(probabilities, np.ones(5, np.int64)) == pytest.approx(1)


def test_calibration_error_weighs_bins_by_their_pictures() -> None:
    # Three pictures at 0.9, all right (gap 0.1); one at 0.6, wrong (gap 0.6): (3 * 0.1 + 1 * 0.6) / 4.
    probabilities = np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]], np.float32)

    assert expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0.225, abs=1e-6)


def test_gaps_of_opposite_sign_in_one_bin_cancel() -> None:
    probabilities = np.array([[0.51, 0.49], [0.52, 0.48]], np.float32)

    assert expected_calibration_error(probabilities, np.array([0, 1]), bins=2) == pytest.approx(0.015, abs=1e-6)


def test_the_auroc_counts_pairs_and_half_of_the_ties() -> None:
    assert auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == 3.5 / 4


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_exchanging_the_sides_mirrors_the_auroc(first: list[int], second: list[int]) -> None:
    positives, negatives = np.array(first, np.float64), np.array(second, np.float64)

    assert auroc(positives, negatives) == pytest.approx(1 - auroc(negatives, positives))


def test_the_interval_of_an_auroc_of_one_still_says_something() -> None:
    low, high = auroc_interval(1.0, 20, 30)

    assert high == 1.0
    assert 0.85 < low < 0.99


def test_the_interval_of_an_auroc_ends_where_its_standard_error_puts_it() -> None:
    # Hanley and McNeil (1982), example: area .893, 58 normal and 51 abnormal images, standard error about .032.
    low, high = auroc_interval(0.893, 51, 58)

    assert (high - low) / 2 / 1.96 == pytest.approx(0.032, abs=0.003)
    assert low < 0.893 < high


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(2, 500), st.integers(2, 500))
def test_the_interval_of_an_auroc_holds_it_and_stays_in_bounds(area: float, positives: int, negatives: int) -> None:
    low, high = auroc_interval(area, positives, negatives)

    assert 0 <= low <= area <= high <= 1
