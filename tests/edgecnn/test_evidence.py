from __future__ import annotations

import base64
import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.artifacts.contract import EvidenceInfo
from edgecnn.errors import ContractError, DatasetError
from edgecnn.metrics import auroc
from edgecnn.rejection.contrast import fit_contrast
from edgecnn.rejection.evidence import MIN_PICTURES, Evidence, Findings, fit_evidence, temper
from edgecnn.runtimes.head import FEW_CLASSES, as_compared, distances, read_centres, unit, write_weights

CLASSES, CHANNELS = 3, 16


def drawn(count: int, seed: int, *, shift: float = 0.0) -> tuple[Findings, NDArray[np.int64]]:
    """Return what a made-up model says of pictures of three classes, each around a direction of its own."""
    random = np.random.default_rng(seed)
    class_ids = random.integers(0, CLASSES, count)
    pooled = np.abs(random.normal(0, 0.3, (count, CHANNELS)) + 2 * np.eye(CLASSES, CHANNELS)[class_ids])
    pooled[:, CLASSES:] += shift
    scores = 4 * pooled[:, :CLASSES] + random.gumbel(0, 1, (count, CLASSES))
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return Findings((powers / powers.sum(axis=1, keepdims=True)).astype(np.float32), pooled), class_ids


def fitted(seed: int = 0, held_out: int = 200, **options: Any) -> EvidenceInfo:
    others = {"strange": drawn(100, seed + 2, shift=3.0)[0]}
    return fit_evidence(*drawn(300, seed), *drawn(held_out, seed + 1), options.pop("others", others), **options)


def test_of_new_pictures_at_least_the_promised_share_is_kept() -> None:
    kept = []
    for seed in range(0, 300, 3):
        info = fitted(seed, held_out=60, others={}, keep_rate=0.9)
        kept.append(float(Evidence(info, CHANNELS, CLASSES).keeps(drawn(200, 10_000 + seed)[0]).mean()))

    # 100 simulations of 200 pictures: chance moves the mean by 0.004, a fifth of the margin that is left here.
    assert np.mean(kept) >= 0.9
    assert np.mean(kept) < 0.97  # the promise is not kept by keeping everything


def test_few_held_out_pictures_promise_less() -> None:
    assert fitted(held_out=20).keep_rate == pytest.approx(1 - 2 / 21)
    assert fitted(held_out=300).keep_rate == pytest.approx(0.98)


def test_hardly_any_held_out_pictures_promise_nothing() -> None:
    with pytest.raises(DatasetError, match=f"at least {MIN_PICTURES} are needed"):
        fitted(held_out=MIN_PICTURES - 1)


def test_strangers_are_novel_and_pictures_of_the_classes_are_not() -> None:
    evidence = Evidence(fitted(), CHANNELS, CLASSES)
    strange, known = drawn(100, 77, shift=3.0)[0], drawn(100, 78)[0]

    assert (evidence.judge(strange.pooled, strange.probabilities).novelty > 1).mean() > 0.9
    assert (evidence.judge(known.pooled, known.probabilities).novelty > 1).mean() < 0.1


def test_room_that_strangers_leave_is_used() -> None:
    far = {"far": drawn(100, 5, shift=30.0)[0]}

    assert fitted(others=far).novel_above > fitted(others={}).novel_above


def test_no_more_room_is_used_than_pictures_under_a_worse_light_need() -> None:
    far, worse = {"far": drawn(100, 5, shift=30.0)[0]}, drawn(300, 6, shift=1.0)[0]

    info = fitted(others=far, corrupted=worse)

    assert fitted(others={}).novel_above < info.novel_above < fitted(others=far).novel_above
    assert Evidence(info, CHANNELS, CLASSES).keeps(worse).mean() == pytest.approx(0.95, abs=0.01)


def test_a_kind_that_a_user_states_is_not_let_in_for_the_room_that_easy_kinds_leave() -> None:
    easy, hard = drawn(2400, 5, shift=30.0)[0], drawn(40, 9, shift=0.8)[0]
    others = {"easy": easy, "gloves": hard}

    generous, strict = fitted(others=others), fitted(others=others, stated=("gloves",))

    def accepted(info: EvidenceInfo) -> float:
        return float(Evidence(info, CHANNELS, CLASSES).keeps(hard).mean())

    assert accepted(generous) == 1.0
    assert accepted(strict) < 0.8
    assert strict.kept >= strict.keep_rate - 0.01
    assert fitted(others=others, stated=("easy",)).novel_above == generous.novel_above


def test_the_nearest_class_is_that_of_the_nearest_training_pictures() -> None:
    evidence = Evidence(fitted(), CHANNELS, CLASSES)
    findings, class_ids = drawn(200, 9)

    assert (evidence.judge(findings.pooled, findings.probabilities).nearest == class_ids).mean() > 0.95


@given(st.permutations(range(CLASSES)))
@settings(max_examples=6, deadline=None)
def test_the_order_of_the_classes_is_of_no_account(order: list[int]) -> None:
    (train, train_ids), (held, held_ids), other = drawn(200, 0), drawn(100, 1), drawn(50, 2, shift=3.0)[0]
    place = np.argsort(order)

    def turned(findings: Findings) -> Findings:
        return Findings(np.ascontiguousarray(findings.probabilities[:, order]), findings.pooled)

    one = fit_evidence(train, train_ids, held, held_ids, {"o": other})
    two = fit_evidence(turned(train), place[train_ids], turned(held), place[held_ids], {"o": turned(other)})

    assert (two.temperature, two.unsure_below) == (one.temperature, pytest.approx(one.unsure_below))
    assert two.kept == pytest.approx(one.kept, abs=0.03)  # k-means begins at other pictures


@given(st.floats(0.05, 20))
@settings(max_examples=20, deadline=None)
def test_the_brightness_of_all_features_is_of_no_account(factor: float) -> None:
    evidence = Evidence(fitted(), CHANNELS, CLASSES)
    findings, _ = drawn(50, 4)

    before = evidence.judge(findings.pooled, findings.probabilities)
    after = evidence.judge(findings.pooled * factor, findings.probabilities)

    np.testing.assert_allclose(after.novelty, before.novelty, rtol=1e-6, atol=1e-6)


@given(st.floats(0.1, 10), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_temperature_changes_no_answer(temperature: float, seed: int) -> None:
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(5), 8).astype(np.float32)

    tempered = temper(probabilities, temperature)

    np.testing.assert_allclose(tempered.sum(axis=1), 1, rtol=1e-5)
    best = np.take_along_axis(tempered, probabilities.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(best, tempered.max(axis=1), rtol=1e-6)


def test_a_temperature_makes_probabilities_mean_what_they_say() -> None:
    random = np.random.default_rng(0)
    honest = random.dirichlet(np.full(4, 0.5), 4000)
    class_ids = np.array([random.choice(4, p=row) for row in honest])
    too_sure = temper(honest.astype(np.float32), 0.4)
    features = np.abs(random.normal(1, 0.1, (4000, CHANNELS)))

    info = fit_evidence(
        Findings(too_sure[:2000], features[:2000]), class_ids[:2000], Findings(too_sure[2000:], features[2000:]),
        class_ids[2000:], {},
    )  # fmt: skip

    assert info.temperature == pytest.approx(2.5, rel=0.15)


def test_few_pictures_that_are_all_right_make_no_answer_certain() -> None:
    random, class_ids = np.random.default_rng(0), np.arange(20) % 2
    sure = np.where(class_ids[:, None] == np.arange(2), 0.9, 0.1).astype(np.float32)
    features = np.abs(random.normal(1, 0.1, (20, CHANNELS)))

    info = fit_evidence(Findings(sure, features), class_ids, Findings(sure, features), class_ids, {})

    assert temper(sure, info.temperature).max() == pytest.approx(21 / 22, abs=0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"novel_above": float("inf")},
        {"novel_above": 0.0},
        {"scale": -1.0},
        {"centres": "no base64 !"},
        {"centres": base64.b64encode(b"12345").decode()},
        {"centre_classes": (0, 1)},
        {"log_weight": -0.5},
        {"contrast_weight": -0.5},
        {"score_weight": float("nan")},
        {"score_weight": 1.0},  # without the head that gives scores
        {"contrast_weight": 1.0, "contrast": "no base64 !"},
        {"contrast_weight": 1.0, "contrast": base64.b64encode(b"12345678").decode()},
        {"contrast_weight": 1.0, "contrast": base64.b64encode(np.full(CHANNELS + 1, np.nan, "<f4").tobytes()).decode()},
        {"places": "no base64 !"},
        {"places": base64.b64encode(bytes(CHANNELS + 1)).decode()},
        {"places": base64.b64encode(bytes(CHANNELS * (CLASSES + 1))).decode()},
    ],
)
def test_evidence_that_is_no_such_thing_is_refused(change: dict[str, Any]) -> None:
    info = dataclasses.replace(fitted(), **change)

    with pytest.raises(ContractError):
        Evidence(info, CHANNELS, CLASSES)


@pytest.mark.parametrize("change", [{"keep_rate": 1.0}, {"keep_rate": -3.0}, {"pictures": 0}, {"pictures": 2**60}])
def test_a_promise_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="held-out"):
        dataclasses.replace(fitted(), **change)


def test_the_picture_that_set_the_threshold_is_kept_though_its_last_bits_differ() -> None:
    info = fitted()
    evidence = Evidence(info, CHANNELS, CLASSES)
    held_out, _ = drawn(200, 7)
    assert info.log_weight == 0  # else a probability would stand in the score
    score = float(evidence.distances(held_out.pooled).min(axis=1).max())
    at_it = Evidence(dataclasses.replace(info, novel_above=score), CHANNELS, CLASSES)

    novelty = [
        at_it.judge(held_out.pooled * factor, held_out.probabilities).novelty.max() for factor in (1.0, 1 + 1e-13, 1 / 3, 7.7)
    ]

    assert novelty == [1.0] * 4


def test_evidence_says_what_it_promises_and_what_holds_with_confidence() -> None:
    info = fitted(held_out=300)

    said = info.describe()

    promise = f"at least {100 * info.keep_rate:.1f} % on average, {100 * info.surely_kept:.1f} % with 95 % confidence"
    assert said.endswith(f"of further pictures like the held-out ones {promise}")
    assert 0.9 < info.surely_kept < info.keep_rate


def test_a_centre_of_a_class_that_there_is_not_is_refused() -> None:
    info = fitted()

    with pytest.raises(ContractError, match="centres do not go with"):
        Evidence(dataclasses.replace(info, centre_classes=(*info.centre_classes[:-1], CLASSES)), CHANNELS, CLASSES)


def test_roots_are_taken_with_signs_and_only_where_the_contract_says_so() -> None:
    pooled = np.array([[9.0, -4.0, 0.0]])

    assert as_compared(pooled, 2).tolist() == [[3.0, -2.0, 0.0]]
    assert as_compared(pooled, 1) is pooled


def test_a_file_without_roots_is_judged_as_before() -> None:
    info = dataclasses.replace(fitted(), roots=False)
    held_out, _ = drawn(20, 7)

    found = Evidence(info, CHANNELS, CLASSES).distances(held_out.pooled)

    assert np.array_equal(found, distances(held_out.pooled, read_centres(info, CHANNELS)))


def test_roots_of_degree_four_are_square_roots_of_square_roots() -> None:
    assert as_compared(np.array([[81.0, -16.0, 0.0]]), 4).tolist() == [[3.0, -2.0, 0.0]]


def test_roots_of_a_degree_that_nobody_takes_are_refused() -> None:
    with pytest.raises(ContractError, match="roots of degree 3; expected 2 or 4"):
        dataclasses.replace(fitted(), degree=3)


def hidden(count: int, seed: int) -> Findings:
    """Return what looks like pictures of a class, but for a feature that these leave out: distances hardly see it."""
    findings, _ = drawn(count, seed)
    findings.pooled[:, -1] += 0.8
    return findings


def test_what_outliers_have_in_common_is_strange_though_it_is_near() -> None:
    others = {"hidden": hidden(100, 5)}
    known, strange = drawn(200, 8)[0], hidden(200, 9)

    def told_apart(info: EvidenceInfo) -> float:
        evidence = Evidence(info, CHANNELS, CLASSES)
        return auroc(*(-evidence.judge(each.pooled, each.probabilities).novelty for each in (known, strange)))

    with_outliers = fitted(others=others, outliers=hidden(100, 6))

    assert with_outliers.contrast_weight > 0
    assert told_apart(with_outliers) > told_apart(fitted(others=others)) + 0.02


@given(st.integers(0, 2**32 - 1), st.integers(20, 60), st.integers(20, 60))
@settings(max_examples=20, deadline=None)
def test_a_contrast_is_positive_for_outliers_and_negative_for_what_is_known(seed: int, known: int, outliers: int) -> None:
    random = np.random.default_rng(seed)
    ours, theirs = (unit(random.normal(0, 0.2, (count, 6)) + np.eye(6)[axis]) for count, axis in ((known, 0), (outliers, 1)))

    *direction, constant = fit_contrast(ours, theirs)

    assert (ours @ direction + constant < 0).mean() > 0.9
    assert (theirs @ direction + constant > 0).mean() > 0.9


def test_of_what_was_taught_later_distance_alone_counts() -> None:
    info = fitted(others={"hidden": hidden(100, 5)}, outliers=hidden(100, 6))
    pooled, probabilities = hidden(1, 9).pooled, hidden(1, 9).probabilities
    centre = np.rint(unit(as_compared(pooled, info.root)) / info.scale).clip(-127, 127).astype(np.int8)
    extended = dataclasses.replace(
        info,
        centres=base64.b64encode(base64.b64decode(info.centres) + centre.tobytes()).decode(),
        centre_classes=(*info.centre_classes, CLASSES),
    )

    untaught = Evidence(extended, CHANNELS, CLASSES + 1).judge(pooled, probabilities).novelty[0]
    taught = Evidence(extended, CHANNELS, CLASSES + 1, taught=1).judge(pooled, probabilities).novelty[0]

    assert taught < untaught
    assert taught == pytest.approx(0, abs=0.1)


def test_novelty_is_the_nearest_distance_plus_contrast_and_low_score_in_thresholds() -> None:
    weights, bias = np.eye(CHANNELS, CLASSES, dtype=np.float32), np.array([0.5, 0.0, -0.5], np.float32)
    info = dataclasses.replace(
        fitted(others={"hidden": hidden(100, 5)}, outliers=hidden(100, 6)), score_weight=0.3, log_weight=0.2
    )
    found, _ = drawn(50, 8)
    *direction, constant = np.frombuffer(base64.b64decode(info.contrast), "<f4").astype(np.float64)

    judged = Evidence(info, CHANNELS, CLASSES, write_weights(weights, bias)).judge(found.pooled, found.probabilities)

    units = unit(as_compared(found.pooled, info.root))
    gaps = distances(as_compared(found.pooled, info.root), read_centres(info, CHANNELS))
    contrast = np.logaddexp(0, units @ direction + constant)
    unlikely = np.logaddexp(0, -(found.pooled @ weights + bias).max(axis=1))
    sureness = np.log(temper(found.probabilities, info.temperature).max(axis=1).astype(np.float64))
    added = gaps.min(axis=1) + info.contrast_weight * contrast + 0.3 * unlikely - 0.2 * sureness
    np.testing.assert_allclose(judged.novelty, added / info.novel_above, rtol=0, atol=6e-7)
    assert judged.nearest.tolist() == np.array(info.centre_classes)[gaps.argmin(axis=1)].tolist()


def test_a_picture_is_judged_alike_alone_and_among_others() -> None:
    evidence = Evidence(fitted(others={"hidden": hidden(100, 5)}, outliers=hidden(100, 6)), CHANNELS, CLASSES)
    found, _ = drawn(30, 8)

    together = evidence.judge(found.pooled, found.probabilities)

    rows = [slice(i, i + 1) for i in range(30)]
    alone = [evidence.judge(found.pooled[row], found.probabilities[row]) for row in rows]
    np.testing.assert_allclose([each.novelty[0] for each in alone], together.novelty, rtol=0, atol=1.5e-6)
    np.testing.assert_array_equal(np.concatenate([each.tempered for each in alone]), together.tempered)


def test_a_picture_without_any_feature_is_as_far_from_each_centre_as_that_is_long() -> None:
    info = dataclasses.replace(fitted(), contrast="", contrast_weight=0.0)
    nothing = np.zeros((1, CHANNELS))

    judged = Evidence(info, CHANNELS, CLASSES).judge(nothing, np.full((1, CLASSES), 1 / CLASSES, np.float32))

    shortest = np.linalg.norm(read_centres(info, CHANNELS), axis=1).min()
    assert judged.novelty[0] == pytest.approx(shortest / info.novel_above, abs=1e-6)


@pytest.mark.parametrize("classes", [2, FEW_CLASSES, FEW_CLASSES + 1, 100])
def test_tempered_probabilities_are_a_softmax_of_scores_however_many_classes_there_are(classes: int) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(classes), 20).astype(np.float32)

    tempered = temper(probabilities, 0.6)

    powers = np.maximum(probabilities.astype(np.float64), 1e-6) ** (1 / 0.6)
    np.testing.assert_allclose(tempered, powers / powers.sum(axis=1, keepdims=True), rtol=1e-6)


def test_low_scores_make_a_picture_novel_where_they_count() -> None:
    head = write_weights(np.eye(CHANNELS, CLASSES, dtype=np.float32) * 4, np.zeros(CLASSES, np.float32))
    info = dataclasses.replace(fitted(), score_weight=1.0)
    pooled = drawn(1, 3)[0].pooled
    evidence = Evidence(info, CHANNELS, CLASSES, head)

    bright, faint = evidence.judge(
        np.concatenate([pooled, pooled / 50]), np.full((2, CLASSES), 1 / CLASSES, np.float32)
    ).novelty

    assert faint > bright
