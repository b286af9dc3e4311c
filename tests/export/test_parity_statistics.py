import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import InputError
from edgecnn_export.parity.statistics import (
    drop_bound,
    exceeds_chance,
    grouped_drop_bound,
    mcnemar_p,
    pictures_to_decide,
)


@st.composite
def pair_counts(draw: st.DrawFn) -> tuple[int, int, int]:
    """Lost and gained pictures among a total."""
    count = draw(st.integers(1, 20_000))
    lost = draw(st.integers(0, count))
    return lost, draw(st.integers(0, count - lost)), count


def test_mcnemar_doubles_the_smaller_binomial_tail() -> None:
    p = mcnemar_p(1, 9)

    assert p == pytest.approx(2 * (1 + 10) / 2**10)


def test_mcnemar_without_a_flip_says_one() -> None:
    assert mcnemar_p(0, 0) == 1.0


def test_mcnemar_is_symmetric() -> None:
    assert mcnemar_p(3, 17) == mcnemar_p(17, 3)


def test_mcnemar_stays_a_probability_with_many_flips() -> None:
    assert 0 < mcnemar_p(5000, 4000) < 1e-20


def test_the_bound_without_a_flip_has_its_closed_form() -> None:
    z = 1.6448536269514722

    bound = drop_bound(0, 0, 300)

    assert bound == pytest.approx(z**2 / (300 + z**2))


@pytest.mark.parametrize(("lost", "gained", "expected"), [(1, 7, -0.026), (7, 1, 0.517)])
def test_the_bound_is_that_of_the_airway_study(lost: int, gained: int, expected: float) -> None:
    # Fagerland, Lydersen and Laake, Stat. Med. 33 (2014): 21 children, 1 and 7 discordant; Tango's 95 % interval is
    # (-0.517, -0.026). Each end of it is a one-sided bound at 97.5 %.
    bound = drop_bound(lost, gained, 21, confidence=0.975)

    assert bound == pytest.approx(expected, abs=5e-4)


@given(pair_counts(), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_bound_never_lies_below_the_measured_drop(counts: tuple[int, int, int], confidence: float) -> None:
    lost, gained, count = counts

    bound = drop_bound(lost, gained, count, confidence)

    assert (lost - gained) / count - 1e-9 <= bound <= 1


@given(pair_counts())
def test_the_bound_solves_the_published_quartic(counts: tuple[int, int, int]) -> None:
    # Yang, Sun and Hardin, Stat. Med. 32 (2013): the ends of Tango's interval are roots of a polynomial of degree four.
    lost, gained, count = counts
    g, d, s = 1.6448536269514722**2, lost - gained, lost + gained
    k = count / g
    polynomial = [
        count**2 * (k + 1) ** 2,
        -count * d * (k + 1) * (4 * k + 1),
        2 * count * d**2 * (3 * k + 2) / g - count**2 * (s / g + 1),
        count * d * (2 * s / g + 1) - d**3 * (4 * k + 1) / g,
        d**2 * (d**2 / g - s) / g,
    ]

    bound = drop_bound(lost, gained, count)

    scale = np.abs(np.array(polynomial) * bound ** np.arange(4, -1, -1)).sum()
    assert abs(np.polyval(polynomial, bound)) <= 1e-6 * scale


@given(pair_counts(), st.integers(1, 5000))
def test_pictures_without_flips_shrink_the_bound_of_a_drop(counts: tuple[int, int, int], more: int) -> None:
    lost, gained, count = max(counts[0], counts[1]), min(counts[0], counts[1]), counts[2]

    assert drop_bound(lost, gained, count + more) <= drop_bound(lost, gained, count) + 1e-12


@pytest.mark.parametrize(("lost_share", "gained_share", "count"), [(0.01, 0.005, 300), (0.03, 0.02, 300), (0.05, 0.0, 100)])
def test_the_bound_covers_the_true_drop_as_often_as_it_says(lost_share: float, gained_share: float, count: int) -> None:
    random = np.random.default_rng(7)
    samples = random.multinomial(count, [lost_share, gained_share, 1 - lost_share - gained_share], size=2000)

    covered = [drop_bound(int(lost), int(gained), count) >= lost_share - gained_share for lost, gained, _ in samples]

    assert np.mean(covered) > 0.93


@pytest.mark.parametrize(("lost", "gained", "count"), [(-1, 0, 10), (6, 5, 10), (0, 0, 0)])
def test_impossible_counts_are_refused(lost: int, gained: int, count: int) -> None:
    with pytest.raises(InputError, match="not possible"):
        drop_bound(lost, gained, count)


@pytest.mark.parametrize("confidence", [0.0, 0.4, 1.0, 95.0])
def test_a_confidence_outside_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(InputError, match="confidence must be in"):
        drop_bound(1, 0, 10, confidence)


def test_flips_within_one_group_widen_the_grouped_bound() -> None:
    lost_together = np.zeros(300, np.int64)
    lost_together[:10] = 1
    groups = np.arange(300, dtype=np.int64) // 10
    each_alone = np.arange(300, dtype=np.int64)

    together, apart = (grouped_drop_bound(lost_together, ids) for ids in (groups, each_alone))

    assert together > apart > 10 / 300


def test_the_grouped_bound_is_the_same_for_the_same_seed() -> None:
    random = np.random.default_rng(1)
    differences, groups = random.integers(-1, 2, 500), random.integers(0, 90, 500)

    assert grouped_drop_bound(differences, groups, seed=3) == grouped_drop_bound(differences, groups, seed=3)


def test_the_grouped_bound_covers_the_true_drop_where_groups_err_together() -> None:
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(100, dtype=np.int64), 3)

    bounds = [grouped_drop_bound(np.repeat(random.binomial(1, 0.1, 100), 3), groups, seed=i) for i in range(200)]

    assert np.mean(np.array(bounds) >= 0.1) > 0.88


@pytest.mark.parametrize(
    ("lost", "gained", "expected"), [(0, 0, False), (1, 0, False), (2, 0, False), (3, 0, True), (3, 1, False)]
)
def test_a_few_losses_are_within_chance(lost: int, gained: int, expected: bool) -> None:
    assert exceeds_chance(lost, gained) is expected


@given(st.integers(1, 5000), st.sampled_from([0.001, 0.005, 0.01, 0.05]))
def test_that_many_pictures_decide_and_one_fewer_do_not(count: int, max_drop: float) -> None:
    needed = pictures_to_decide(0, 0, count, max_drop)

    assert needed is not None
    assert drop_bound(0, 0, needed) <= max_drop
    assert needed == count or drop_bound(0, 0, needed - 1) > max_drop


def test_no_number_of_pictures_proves_a_drop_of_nothing() -> None:
    assert pictures_to_decide(0, 0, 100, 0.0) is None
