"""What thresholds promise of pictures yet to come: the promise holds in simulation, on average and with confidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.conformal import losable, surely_kept


def _really_kept(count: int, beyond: tuple[int, int], draws: int, *, same: bool) -> np.ndarray:
    """Return the share of further pictures that two thresholds keep, `(draws,)`: of uniform scores it is the area between."""
    rng = np.random.default_rng(3)
    one, other = np.sort(rng.random((draws, count))), np.sort(rng.random((draws, count)))
    limits = one[:, count - beyond[0]], (one if same else other)[:, count - beyond[1]]
    # The same score twice loses what the stricter limit loses; scores that never are high together lose the sum.
    return np.minimum(*limits) if same else 1 - (1 - limits[0]) - (1 - limits[1])


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("count", "keep_rate"), [(30, 0.9), (300, 0.98), (1000, 0.95)])
def test_the_promise_holds_on_average_and_with_confidence(count: int, keep_rate: float, same: bool) -> None:
    beyond = losable(count, keep_rate)

    kept = _really_kept(count, beyond, 4000, same=same)

    assert kept.mean() >= 1 - sum(beyond) / (count + 1) - 0.002
    assert (kept >= surely_kept(count, beyond)).mean() >= 0.95 - 0.01


@given(count=st.integers(2, 3000), keep_rate=st.floats(0.5, 0.999))
def test_no_more_may_be_lost_than_is_stated_and_each_word_gets_a_picture(count: int, keep_rate: float) -> None:
    unsure, novel = losable(count, keep_rate)

    assert min(unsure, novel) >= 1
    assert unsure + novel == 2 or 1 - (unsure + novel) / (count + 1) >= keep_rate - 1e-9


@given(count=st.integers(10, 2000), beyond=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_less_is_kept_surely_than_on_average(count: int, beyond: tuple[int, int]) -> None:
    sure = surely_kept(count, beyond)

    assert 0 <= sure <= 1 - sum(beyond) / (count + 1)
    assert sure <= surely_kept(count, beyond, confidence=0.8)


def test_one_threshold_that_loses_one_keeps_what_the_formula_says() -> None:
    # Beta(n, 1) has the distribution x^n.
    assert surely_kept(50, (1,), confidence=0.9) == pytest.approx(0.1 ** (1 / 50))
