"""The bound from margins on numbers whose answer is known. Its coverage is a study: docs/explanation/parity.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn_export.parity.margins import Flips, margin_bound, margins
from edgecnn_export.parity.statistics import drop_bound


def answers(margin: NDArray[np.floating]) -> NDArray[np.float32]:
    """Two classes whose probabilities differ by `margin`, the first ahead."""
    return np.stack([0.5 + margin / 2, 0.5 - margin / 2], axis=1).astype(np.float32)


def corrupted(random: np.random.Generator, count: int, error: float) -> Flips:
    """Margins of 0 to 1, two thirds above 0.9; an answer flips where an error of this spread goes beyond the margin."""
    near = random.uniform(0, 1, count) ** 0.25
    return Flips(near, random.normal(0, error, count) > near)


def test_a_margin_is_the_distance_of_the_two_best() -> None:
    probabilities = np.array([[0.1, 0.7, 0.2], [1 / 3, 1 / 3, 1 / 3]], np.float32)

    assert margins(probabilities) == pytest.approx([0.5, 0.0])


def test_fifty_pictures_can_prove_what_their_count_alone_cannot() -> None:
    flips = corrupted(np.random.default_rng(0), 2000, error=0.002)
    certain = answers(np.full(50, 0.99))

    bound = margin_bound(flips, certain, np.ones(50, bool))

    assert bound < 0.01
    assert drop_bound(0, 0, 50) > 0.05


def test_the_bound_grows_with_the_quantization_error() -> None:
    labelled, right = answers(np.full(135, 0.6)), np.ones(135, bool)

    small, large = (margin_bound(corrupted(np.random.default_rng(1), 2000, e), labelled, right) for e in (0.002, 0.2))

    assert small < 0.01 < large


def test_the_bound_grows_with_near_ties_among_the_labelled_pictures() -> None:
    flips, right = corrupted(np.random.default_rng(2), 2000, 0.02), np.ones(135, bool)

    far, near = (margin_bound(flips, answers(np.full(135, margin)), right) for margin in (0.95, 0.3))

    assert far < near


def test_flips_far_from_any_tie_count_in_full() -> None:
    everywhere = Flips(np.linspace(0, 1, 2000), np.arange(2000) % 10 == 0)

    bound = margin_bound(everywhere, answers(np.full(135, 0.99)), np.ones(135, bool))

    assert bound > 0.1


def test_without_near_ties_among_the_corrupted_pictures_nothing_is_claimed() -> None:
    none_near = Flips(np.full(2000, 0.99), np.zeros(2000, bool))

    assert margin_bound(none_near, answers(np.full(135, 0.99)), np.ones(135, bool)) == 1.0


def test_pictures_of_one_group_count_as_one() -> None:
    flips, certain, right = corrupted(np.random.default_rng(3), 2000, 0.02), answers(np.full(300, 0.95)), np.ones(300, bool)

    alone = margin_bound(flips, certain, right)
    grouped = margin_bound(flips, certain, right, np.arange(300) // 30)

    assert grouped > alone


def test_the_same_seed_gives_the_same_bound() -> None:
    flips, certain, right = corrupted(np.random.default_rng(4), 500, 0.02), answers(np.full(50, 0.9)), np.ones(50, bool)

    assert margin_bound(flips, certain, right, seed=7) == margin_bound(flips, certain, right, seed=7)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_the_bound_is_a_share(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    flips = Flips(random.uniform(0, 1, 200), random.random(200) < random.random())

    bound = margin_bound(flips, answers(random.uniform(0, 1, count)), random.random(count) < 0.9)

    assert 0 < bound <= 1
