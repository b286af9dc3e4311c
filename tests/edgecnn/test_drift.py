"""Whether pictures are still like the held-out ones: what is measured, the bets, and how often they raise a false alarm."""

from __future__ import annotations

import base64
import dataclasses
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import DRIFT_STATISTICS, DataInfo, DriftInfo
from edgecnn.classifier import Prediction
from edgecnn.drift import (
    MAX_CLASSES,
    MIN_PICTURES,
    STATISTICS,
    Baseline,
    Detector,
    alarm_level,
    grown,
    measure,
)
from edgecnn.errors import ContractError, DatasetError
from edgecnn.robustness.corruptions import CORRUPTIONS, corrupt
from edgecnn.shipped import find_task, int8_path

DATA = DataInfo("drawn", "validation", 120, "ab")
NAMES = [statistic.name for statistic in STATISTICS]


def prediction(probability: float = 0.9, novelty: float | None = 0.5) -> Prediction:
    return Prediction("a", 0, probability, np.array([probability, 1 - probability], np.float32), novelty=novelty)


@cache
def drawn(count: int, seed: int) -> NDArray[np.uint8]:
    task = find_task("neu")
    assert task.synthesize is not None
    return task.synthesize(count, seed).images


def values_of(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.array([measure(image, prediction()) for image in images])


def usual(
    count: int = 200, seed: int = 0, shift: float = 0.0, classes: int = 3
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return normal values of every statistic, of classes that differ by far more than any drift."""
    random = np.random.default_rng(seed)
    class_ids = random.integers(classes, size=count)
    return random.normal(size=(count, len(STATISTICS))) + 10 * class_ids[:, None] + shift, class_ids


def baseline(**settings: object) -> Baseline:
    return Baseline.fit(STATISTICS, *usual(**settings), 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("corruption", "name", "sign"),
    [
        ("underexposure", "brightness", -1),
        ("overexposure", "glare", 1),
        ("contrast", "contrast", -1),
        ("defocus", "sharpness", -1),
        ("noise", "noise", 1),
        ("motion_horizontal", "streaks", -1),
        ("motion_vertical", "streaks", 1),
        ("vignette", "corners", -1),
        ("banding", "bands", 1),
        ("dust", "specks", -1),
    ],
)
def test_a_corruption_moves_the_statistic_that_is_named_after_it(corruption: str, name: str, sign: int) -> None:
    images = drawn(12, 3)
    effect = next(each for each in CORRUPTIONS if each.name == corruption)

    moved = values_of(corrupt(images, effect, 3, 0)) - values_of(images)

    assert sign * moved[:, NAMES.index(name)].mean() > 0.05


def test_half_the_light_is_one_stop_darker() -> None:
    images = drawn(6, 1)

    moved = values_of(images // 2) - values_of(images)

    assert moved[:, NAMES.index("brightness")] == pytest.approx(-1, abs=0.05)


def test_a_lamp_on_one_side_is_told_from_one_on_the_other() -> None:
    light = np.linspace(0.6, 1.4, 200)[None, :, None]
    plain = np.full((200, 200, 1), 120.0) + np.random.default_rng(0).normal(0, 5, (200, 200, 1))

    right, left = (values_of(np.clip(plain * each, 0, 255).astype(np.uint8)[None])[0] for each in (light, light[:, ::-1]))

    assert right[NAMES.index("across")] > 0.3 > -0.3 > left[NAMES.index("across")]


def test_colour_and_gray_pictures_of_the_same_give_the_same_statistics() -> None:
    gray = drawn(1, 5)

    assert values_of(np.repeat(gray, 3, axis=3)) == pytest.approx(values_of(gray), abs=0.02)


def test_a_model_without_novelty_leaves_it_unknown() -> None:
    found = measure(drawn(1, 5)[0], prediction(novelty=None))

    assert [name for name, value in zip(NAMES, found, strict=True) if math.isnan(value)] == ["novelty"]


def test_another_novelty_threshold_changes_nothing() -> None:
    image = drawn(1, 5)[0]

    assert measure(image, prediction(novelty=0.5), 2.0) == pytest.approx(measure(image, prediction(novelty=1.0), 1.0))


def test_the_names_are_those_of_the_contract_in_its_order() -> None:
    assert tuple(NAMES) == DRIFT_STATISTICS


def test_a_baseline_comes_back_from_a_contract() -> None:
    fitted = baseline()

    read = Baseline.read(fitted.to_info(DATA, 120))

    assert read.statistics == fitted.statistics
    assert read.means == pytest.approx(fitted.means, abs=0.02)
    assert read.deviations == pytest.approx(fitted.deviations, rel=1e-3)
    assert read.mixing == pytest.approx(fitted.mixing, abs=1e-3)
    assert read.columns == fitted.columns
    assert (read.bounds >= fitted.bounds).all()  # rounded so that nothing is an alarm for it


def test_a_baseline_of_six_classes_adds_less_than_three_kilobytes_to_the_shipped_file() -> None:
    contract = Artifact.open(int8_path("neu")).contract
    assert contract.drift is not None

    without = dataclasses.replace(contract, drift=None)

    assert len(contract.to_json()) - len(without.to_json()) < 3000
    assert contract.drift.data == contract.parity.data


def test_many_classes_share_one_row() -> None:
    values, _ = usual()

    fitted = Baseline.fit(STATISTICS, values, np.arange(200) % 100, MAX_CLASSES + 1)

    assert len(fitted.means) == 1


def test_too_few_parts_say_nothing_however_many_pictures_they_have() -> None:
    values, class_ids = usual()

    with pytest.raises(DatasetError, match=r"29 different pictures say too little .*: at least 30 are needed"):
        Baseline.fit(STATISTICS, values, class_ids, 3, np.arange(200) % (MIN_PICTURES - 1))


def test_pictures_of_few_parts_leave_more_room_than_as_many_parts() -> None:
    values, class_ids = usual()

    many, few = (Baseline.fit(STATISTICS, values, class_ids, 3, each) for each in (np.arange(200), np.arange(200) % 40))

    assert few.bounds.mean() > many.bounds.mean()


def test_few_parts_of_classes_that_differ_raise_no_false_alarm() -> None:
    """A plant that makes one class after the other, judged by the fewest parts that are enough."""
    values, class_ids = usual(1500, 7, classes=8)
    for seed in range(3):
        few = Baseline.fit(STATISTICS, *usual(MIN_PICTURES, seed, classes=8), 8)
        detector = Detector(len(few.streams))
        for class_id in range(8):
            for at in np.flatnonzero(class_ids == class_id):
                detector.add(few.bets(values[at][None], class_ids[at][None]), 0.0)
        assert not detector.drifting.any()


def test_nothing_is_bet_on_a_class_of_which_one_part_was_seen() -> None:
    values, class_ids = usual()

    fitted = Baseline.fit(STATISTICS, values, np.where(np.arange(200) == 7, 2, class_ids % 2), 3)

    assert (fitted.bounds[3] == 1).all()


def test_a_change_that_no_statistic_shows_alone_is_seen_given_the_rest() -> None:
    def together(count: int, seed: int, apart: float = 0.0) -> NDArray[np.float64]:
        values, _ = usual(count, seed)
        values %= 10
        values[:, 1] = values[:, 0] + 0.3 * np.random.default_rng(seed).normal(size=count) + apart
        return values

    none = np.zeros(200, np.int64)
    known = Baseline.fit(STATISTICS, together(200, 0), none, 1)
    detector = Detector(len(known.streams))
    for values in together(200, 1, apart=0.6):
        detector.add(known.bets(values[None], none[:1]), 0.0)

    assert {known.words(int(at)) for at in np.flatnonzero(detector.drifting)} == {
        "more contrast given the rest",
        "darker given the rest",
    }


def test_a_statistic_that_a_model_does_not_give_is_not_in_its_baseline() -> None:
    values, class_ids = usual()
    values[:, NAMES.index("novelty")] = np.nan

    assert "novelty" not in {each.name for each in Baseline.fit(STATISTICS, values, class_ids, 3).statistics}


@pytest.mark.parametrize("shares", [(1, 0, 0), (0, 0, 1), (1, 1, 8)])
def test_other_shares_of_the_classes_are_no_drift(shares: tuple[int, int, int]) -> None:
    known = baseline()
    values, class_ids = usual(6_000, 7)
    chance = np.array(shares)[class_ids] / sum(shares)
    seen = np.flatnonzero(np.random.default_rng(1).random(len(values)) < chance)
    detector = Detector(len(known.streams))

    for at in seen:
        detector.add(known.bets(values[at][None], class_ids[at][None]), 0.0)

    assert len(seen) > 1500
    assert not detector.drifting.any()


def test_e_values_of_the_usual_are_one_at_most_in_the_mean() -> None:
    known = baseline()
    values, class_ids = usual(4_000, 5)

    found = np.array([known.bets(v[None], c[None]).e_values for v, c in zip(values, class_ids, strict=True)])

    assert (found.mean(axis=0) <= 1).all()


@given(arrays(np.float64, st.tuples(st.integers(2, 20)), elements=st.floats(0, 50)), st.floats(-5, 20))
def test_a_bet_on_a_fair_value_gains_nothing_in_the_mean(values: NDArray[np.float64], growth: float) -> None:
    fair = values / max(values.mean(), 1e-9) if values.mean() > 1 else values

    after = np.exp(grown(np.full((len(fair), 1, 3), growth), fair[:, None])).mean(axis=0)

    assert (after <= math.exp(max(growth, 0)) * (1 + 1e-9)).all()


@given(st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_a_cusum_never_exceeds_the_sum_of_all_bets_that_began(values: list[float]) -> None:
    """The Shiryaev-Roberts sum minus the number of steps is a martingale: that is why a CUSUM's alarms are rare."""
    cusum, total = np.zeros((1, 3)), np.zeros((1, 3))
    for value in values:
        total = (total + 1) * (np.exp(grown(np.zeros((1, 3)), np.array([value]))))
        cusum = grown(cusum, np.array([value]))

    assert (np.exp(cusum) <= total * (1 + 1e-9)).all()


def test_fair_bets_alarm_as_seldom_as_their_level_says() -> None:
    random, runs, level = np.random.default_rng(0), 400, math.log(200)
    growth, waiting, frames = np.zeros((runs, 1, 3)), np.ones(runs, bool), 0
    while waiting.any() and frames < 100_000:
        growth = grown(growth, 5.0 * (random.random((runs, 1)) < 0.2))
        frames += int(waiting.sum())
        waiting &= growth[:, 0, 0] < level

    assert frames / runs >= 200


def test_a_shift_is_noticed_said_and_forgotten_when_it_is_over() -> None:
    known = baseline()
    detector = Detector(len(known.streams))
    noticed = run(detector, known, 500, 3, shift=0.0, at=0.0), run(detector, known, 100, 4, shift=2.0, at=500.0)
    since, by = detector.began(int(np.flatnonzero(detector.drifting)[0]))

    over = run(detector, known, 400, 5, shift=0.0, at=1000.0)

    assert noticed[0] is None
    assert noticed[1] is not None
    assert noticed[1] < 100
    assert since == pytest.approx(500, abs=20)
    assert by == pytest.approx(2, abs=0.5)
    assert over is not None
    assert not detector.drifting.any()


def test_a_drift_that_goes_on_is_not_over_for_a_moment() -> None:
    known = baseline()
    detector = Detector(len(known.streams))
    run(detector, known, 200, 4, shift=2.0, at=0.0)
    before = detector.drifting.copy()

    for seed in range(5):
        run(detector, known, 200, 10 + seed, shift=2.0, at=0.0)

    assert before.any()
    assert (detector.drifting >= before).all()


def test_nothing_is_bet_on_what_nobody_knows() -> None:
    values = np.full((1, len(STATISTICS)), np.nan)

    found = baseline().bets(values, np.array([0]))

    assert (found.e_values == 1).all()
    assert (found.shifts == 0).all()


def test_a_class_that_was_added_later_is_judged_by_all_pictures() -> None:
    known = baseline()
    values, _ = usual(1)

    taught, none = (known.bets(values, np.array([each])) for each in (7, -1))

    assert taught.shifts == pytest.approx(none.shifts)


def test_the_alarm_level_grows_with_what_is_watched() -> None:
    assert alarm_level(20) == pytest.approx(alarm_level(1) + math.log(20))


INFO = baseline().to_info(DATA, 120)


@pytest.mark.parametrize(
    "change",
    [
        {"statistics": (*INFO.statistics[:-1], "smell")},
        {"statistics": ()},
        {"statistics": (*INFO.statistics[:-1], INFO.statistics[0])},
        {"table": "not base64!"},
        {"table": INFO.table[:-8]},
        {"table": ""},
        {"mixing": "not base64!"},
        {"mixing": INFO.mixing[:-8]},
        {"mixing": base64.b64encode(b"\xff\x7f" + base64.b64decode(INFO.mixing)[2:]).decode()},
        {"table": base64.b64encode(b"\x00\x7e" + base64.b64decode(INFO.table)[2:]).decode()},
        {"table": base64.b64encode(base64.b64decode(INFO.table) * 20).decode()},
    ],
)
def test_a_forged_baseline_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ContractError, match="drift baseline"):
        dataclasses.replace(INFO, **change)  # type: ignore[arg-type]


def test_a_baseline_says_what_it_is_of() -> None:
    assert INFO.describe() == f"{len(STATISTICS)} statistics of 120 validation pictures (drawn)"
    assert isinstance(INFO, DriftInfo)


def run(detector: Detector, known: Baseline, count: int, seed: int, *, shift: float, at: float) -> int | None:
    """Show usual pictures, shifted; return after how many something began or ended."""
    values, class_ids = usual(count, seed, shift)
    changes = [
        number
        for number in range(count)
        if detector.add(known.bets(values[number][None], class_ids[number][None]), at + number)
    ]
    return changes[0] if changes else None
