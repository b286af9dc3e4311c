"""Probabilities from features and the last dense layer: exact of integer features, and refused where they do not fit."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import HeadInfo, TensorSpec
from edgecnn.errors import ContractError
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.head import FEW_CLASSES, HeadRuntime, head_scores, read_weights, rounded, softmax, write_weights
from edgecnn.runtimes.runtime import Answers, answer
from edgecnn.shipped import int8_path

SCALES = st.floats(1e-4, 1.0)


def _answers(values: NDArray[np.integer], scale: float, zero_point: int = -128) -> Answers:
    shape = (None, *values.shape[1:])
    spec = TensorSpec("features", values.dtype.name, shape, scale, zero_point)
    return Answers(np.zeros((len(values), 2), np.float32), values, spec)


def _weights(random: np.random.Generator, channels: int, classes: int) -> NDArray[np.float64]:
    return random.normal(0, 1, (channels, classes)).astype(np.float32).astype(np.float64)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), scale=SCALES, dtype=st.sampled_from(["int8", "int16"]))
def test_scores_are_those_of_exact_arithmetic_to_eight_digits(seed: int, scale: float, dtype: str) -> None:
    random = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    values = random.integers(limits.min, limits.max, (2, 3, 2, 5), endpoint=True).astype(dtype)
    zero_point = -128 if dtype == "int8" else 0
    weights, bias = _weights(random, 5, 4), random.normal(0, 1, 4)

    scores = head_scores(_answers(values, scale, zero_point), weights, bias)

    for i in range(2):
        for k in range(4):
            sums = [sum(int(v) - zero_point for v in values[i, :, :, c].ravel()) for c in range(5)]
            exact = sum((s * Fraction(scale) / 6 * Fraction(weights[c, k]) for c, s in enumerate(sums)), Fraction(bias[k]))
            most = float(sum((abs(s) * Fraction(scale) / 6 for s in sums), Fraction(1)))
            assert abs(scores[i, k] - float(exact)) < 1e-8 * most


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), scale=SCALES, count=st.integers(1, 9))
def test_neither_order_nor_company_changes_a_bit_of_a_score(seed: int, scale: float, count: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(-128, 127, (count, 4, 4, 33), endpoint=True).astype(np.int8)
    weights, bias = _weights(random, 33, 6), random.normal(0, 1, 6)
    turned = random.permutation(33)

    scores = head_scores(_answers(values, scale), weights, bias)

    alone = [head_scores(_answers(values[i : i + 1], scale), weights, bias)[0] for i in range(count)]
    np.testing.assert_array_equal(np.stack(alone), scores)
    np.testing.assert_array_equal(head_scores(_answers(values[..., turned], scale), weights[turned], bias), scores)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_the_largest_maps_at_their_limits_do_not_overflow(dtype: str) -> None:
    limit = np.iinfo(dtype)
    values = np.full((1, 64, 64, 1280), limit.max, dtype)
    weights = np.full((1280, 2), 1.9999999, np.float32).astype(np.float64)
    zero_point = -128 if dtype == "int8" else 0

    (scores,) = head_scores(_answers(values, 0.01, zero_point), weights, np.zeros(2))

    expected = (limit.max - zero_point) * 0.01 * 1280 * weights[0, 0]
    assert all(math.isclose(score, expected, rel_tol=1e-4) for score in scores)


def test_a_head_whose_weights_are_all_zero_leaves_the_bias() -> None:
    values = np.ones((3, 7), np.int8)

    scores = head_scores(_answers(values, 0.5), np.zeros((7, 2)), np.array([1.0, -1.0]))

    assert scores.tolist() == [[1.0, -1.0]] * 3


def test_probabilities_have_six_digits_and_add_up_to_one() -> None:
    scores = np.random.default_rng(0).normal(0, 5, (200, 10))

    found = softmax(scores).astype(np.float64)

    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found * 1e6, np.rint(found * 1e6), atol=0.05)


def test_scores_that_differ_by_what_processors_differ_by_give_the_same_probabilities() -> None:
    scores = np.random.default_rng(0).normal(0, 5, (2000, 10))

    np.testing.assert_array_equal(softmax(scores), softmax(scores * (1 + 2e-16)))


def test_few_classes_have_the_probabilities_that_many_have() -> None:
    scores = np.random.default_rng(0).normal(0, 5, (500, FEW_CLASSES))
    impossible = np.full((500, 1), -1000.0)

    among_many = softmax(np.hstack([scores, impossible]))

    np.testing.assert_array_equal(softmax(scores), among_many[:, :-1])


@pytest.mark.parametrize("classes", [3, FEW_CLASSES + 1])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, -1])
def test_scores_that_are_no_numbers_make_no_probabilities(classes: int, wrong: float, at: int) -> None:
    scores = np.zeros((2, classes))
    scores[1, at] = wrong

    found = softmax(scores)

    assert np.isfinite(found).all(axis=1).tolist() == [True, False]


@given(st.floats(-1e300, 1e300) | st.floats(0, 10), st.integers(0, 8))
def test_one_number_is_rounded_as_numpy_rounds_it(value: float, decimals: int) -> None:
    assert rounded(value, decimals) == np.round(np.float64(value), decimals)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e305])
def test_what_cannot_be_rounded_stays_as_it_is(value: float) -> None:
    assert rounded(value, 6) is value


def test_no_picture_gives_no_answer() -> None:
    runtime = open_runtime(Artifact.open(int8_path("neu")))

    found = answer(runtime, np.empty((0, 200, 200, 1), np.uint8))

    assert found.probabilities.shape == (0, 6)


def test_weights_are_kept_to_the_bit() -> None:
    weights = np.random.default_rng(0).normal(0, 1, (5, 3)).astype(np.float32)

    head = write_weights(weights, np.array([1, 2, 3], np.float32))

    np.testing.assert_array_equal(read_weights(head), weights)
    assert head.bias == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("weights", ["", "AAAA", "no base64!", "AADAfwAAwH8="])
def test_weights_that_are_none_are_refused_when_a_file_is_opened(weights: str) -> None:
    class Nothing:
        name = "nothing"

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            raise AssertionError

        def answer(self, images: NDArray[np.uint8]) -> Answers:
            raise AssertionError

    with pytest.raises(ContractError, match="head"):
        HeadRuntime(Nothing(), HeadInfo(weights, (0.0, 0.0)), 1)
