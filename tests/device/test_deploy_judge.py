"""When a new model differs by more than its limits allow, and when nothing can be said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn_device.deploy.judge import (
    Agreement,
    Counts,
    describe_unjudged,
    judge_agreement,
    judge_doubt,
    judge_latency,
    judge_states,
    judge_work,
)
from edgecnn_device.deploy.listener import Seen
from edgecnn_device.deploy.plan import Limits, Plan
from edgecnn_device.deploy.trial import Shadowed, Took

LIMITS = Limits()


def counts(answers: int, doubtful: int = 0, *, ms: float = 1.0, cpu_ms: float = 1.0, state: str = "ok") -> Counts:
    made = Counts()
    for number in range(answers):
        made.add(Seen("", state, "why", ms, cpu_ms, (("novel" if number < doubtful else "label", "a"),), (True,)))
    return made


def seen(*answers: tuple[str, str]) -> Seen:
    return Seen("", "ok", "", 1.0, 1.0, answers, (True,) * len(answers))


def agreement(pairs: list[tuple[str, str]]) -> Agreement:
    made = Agreement()
    for live, shadow in pairs:
        made.add(seen(("label", live)), Shadowed((("unsure", shadow),)))
    return made


@given(st.integers(0, 500), st.integers(0, 500), st.booleans())
def test_a_model_that_answers_as_before_is_never_called_off(answers: int, doubtful: int, at_end: bool) -> None:
    same = counts(answers, doubtful)

    assert judge_doubt(same, same, LIMITS, at_end=at_end) == judge_states(same, same) == judge_work(same, same, LIMITS) == ""


def test_more_doubt_is_called_off_at_once_only_beyond_chance() -> None:
    before = counts(300, 6)

    assert judge_doubt(counts(40, 8), before, LIMITS, at_end=False) == ""
    assert "20.0% of 40 answers" in judge_doubt(counts(40, 8), before, LIMITS, at_end=True)
    assert "90.0% of 40 answers" in judge_doubt(counts(40, 36), before, LIMITS, at_end=False)


@given(st.integers(30, 500), st.integers(0, 20), st.integers(0, 500))
def test_answers_that_do_not_count_change_no_verdict(answers: int, doubtful: int, again: int) -> None:
    once, repeated = counts(answers, doubtful), counts(answers, doubtful)
    repeated.add_answers([("novel", "a")] * again, [False] * again)

    for before in (counts(300, 6), counts(29)):
        for at_end in (False, True):
            verdict = judge_doubt(once, before, LIMITS, at_end=at_end)
            assert judge_doubt(repeated, before, LIMITS, at_end=at_end) == verdict


def test_at_the_end_a_rise_that_chance_explains_is_not_called_off() -> None:
    assert judge_doubt(counts(30, 9), counts(30, 5), LIMITS, at_end=True) == ""
    assert "60.0% of 30 answers" in judge_doubt(counts(30, 18), counts(30, 5), LIMITS, at_end=True)


def test_few_answers_prove_nothing() -> None:
    assert judge_doubt(counts(29, 29), counts(300), LIMITS, at_end=True) == ""
    assert judge_agreement(agreement([("a", "b")] * 29), LIMITS) == ""


@pytest.mark.parametrize(
    ("plan", "after", "labels", "said"),
    [
        (Plan(), 3, 0, "no judgement on unsure and novel answers (3 answers in the watch, 41 before): 30 of each, "),
        (Plan(shadow=9, watch_s=0), 3, 1, "no judgement on agreement (1 label to compare as a shadow): 30 of each, "),
        (Plan(shadow=9), 3, 1, "as a shadow) or on unsure and novel answers (3 answers in the watch, "),
        (Plan(shadow=9), 30, 30, ""),
        (Plan(watch_s=0), 0, 0, ""),
    ],
)
def test_what_could_not_be_judged_is_said(plan: Plan, after: int, labels: int, said: str) -> None:
    words = describe_unjudged(counts(41), counts(after), agreement([("a", "a")] * labels), plan)

    assert said in words and bool(words) == bool(said)


def test_two_swapped_classes_are_found_among_many_that_agree() -> None:
    swapped = agreement([("a", "b")] * 20 + [("b", "a")] * 20 + [("c", "c")] * 400)

    assert swapped.share is not None and swapped.share > LIMITS.agreement
    assert "it says 'a' in only 0.0% of the 20 answers" in judge_agreement(swapped, LIMITS)


def test_what_the_live_model_was_unsure_of_does_not_count_against_the_new_one() -> None:
    made = Agreement()
    made.add(seen(("unsure", "a"), ("novel", "b")), Shadowed((("label", "b"), ("label", "a"))))

    assert made.share is None and judge_agreement(made, LIMITS) == ""


def test_a_few_milliseconds_more_are_not_called_slow() -> None:
    assert judge_latency(Took(5.0, 5.0), Took(1.0, 1.0), LIMITS) == ""
    assert (
        judge_latency(Took(50.0, 49.0), Took(20.0, 20.0), LIMITS)
        == "a picture takes 50.0 ms instead of 20.0 ms, more than 2 times as long"
    )


def test_a_picture_that_waits_for_a_busy_board_is_not_called_slow() -> None:
    before = counts(30, ms=20.0, cpu_ms=18.0)

    assert judge_work(counts(30, ms=60.0, cpu_ms=19.0), before, LIMITS) == ""
    assert "takes 60.0 ms instead of 20.0 ms" in judge_work(counts(30, ms=60.0, cpu_ms=57.0), before, LIMITS)


def test_errors_and_late_frames_are_called_off() -> None:
    failing, late = counts(97), counts(50)
    for _ in range(3):
        failing.add(Seen("", "error", "NaN", 1.0, 1.0, (), ()))
    for _ in range(50):
        late.add(Seen("", "stale", "late", 1.0, 1.0, (), ()))

    assert judge_states(failing, counts(100)) == "3 of 100 frames end in an error: NaN"
    assert judge_states(late, counts(100)) == "50% of the frames are stale, before 0%"
