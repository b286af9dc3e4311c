"""What more pictures would bring: promised with an interval that holds, and never beyond twice the pictures."""

from __future__ import annotations

import numpy as np
import pytest
from frozen_clusters import clusters

from edgecnn.errors import InputError
from edgecnn_export.studies.learning_curve import LEVEL, SHARES, extrapolate, learning_curve

GROUPS, MEMBERS, PICTURES = 40, 3, 90
SIZES = PICTURES * np.array(SHARES)


def drawn_errors(scale: float, exponent: float, floor: float, random: np.random.Generator) -> np.ndarray:
    """Draw the wrong pictures of each group `(sizes, groups)`: hard groups are hard at every size, siblings err together."""
    rates = floor + scale * SIZES**-exponent
    hard = random.uniform(size=GROUPS)
    own = np.clip(hard + random.normal(0, 0.05, (MEMBERS, GROUPS)), 0, 1)
    return np.stack([(own < rate).sum(axis=0) for rate in rates]).astype(float)


@pytest.mark.parametrize(
    ("scale", "exponent", "floor"),
    [(2.0, 0.5, 0.0), (1.0, 0.3, 0.05), (0.8, 0.25, 0.1), (3.0, 0.7, 0.02), (0.0, 0.5, 0.2), (0.2, 0.5, 0.0)],
)
def test_the_interval_holds_what_more_pictures_really_bring(scale: float, exponent: float, floor: float) -> None:
    random, factor = np.random.default_rng(1), 1.5
    truth = scale * (SIZES[-1] ** -exponent - (factor * SIZES[-1]) ** -exponent)

    held = 0
    for _ in range(100):
        errors = drawn_errors(scale, exponent, floor, random)
        _, (low, high) = extrapolate(errors, np.full(GROUPS, float(MEMBERS)), SIZES, factor)
        held += low <= truth + 0.005 and truth <= high + 0.005  # half a point is nothing that is said

    assert held / 100 >= LEVEL - 0.07  # 2.3 standard deviations of a hundred draws


def test_no_mistake_among_few_groups_does_not_promise_none_for_ever() -> None:
    few, many = (extrapolate(np.zeros((3, n)), np.ones(n), SIZES, 2.0)[1][1] for n in (5, 500))

    assert few > 0.01 > many


def test_nothing_is_said_beyond_twice_the_pictures() -> None:
    with pytest.raises(InputError, match=r"not to 2\.5 times"):
        extrapolate(np.zeros((3, 5)), np.ones(5), SIZES, 2.5)

    assert [each.more for each in learning_curve(clusters(groups=6, members=1), more=1000).classes] == [6, 6, 6]


def test_a_class_is_learned_from_parts_of_its_own_groups() -> None:
    curve = learning_curve(clusters(groups=16, members=2, apart=1.5)).classes[0]

    assert curve.counts == pytest.approx((6, 12, 24))
    assert curve.pictures == 32
    assert 0 <= curve.recalls[0] <= curve.recalls[-1] <= 1


def test_a_class_of_few_groups_says_that_nothing_can_be_said() -> None:
    curve = learning_curve(clusters(groups=3, members=5)).classes[0]

    assert curve.gain is None
    assert "15 pictures in 3 groups, too few to say" in curve.advice()


def test_the_class_that_more_pictures_help_most_comes_first() -> None:
    gains = [each.gain for each in learning_curve(clusters(apart=1.0)).classes if each.gain is not None]

    assert gains == sorted(gains, reverse=True)


def test_the_same_seed_says_the_same() -> None:
    frozen = clusters(groups=8)

    assert learning_curve(frozen, seed=3) == learning_curve(frozen, seed=3)
