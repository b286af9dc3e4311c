"""A bank of good places, the threshold of a stated false-alarm rate, and what a contract of one class may say."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from picture_files import write_picture

from edgecnn.artifacts.contract import GoodPartsInfo, TensorSpec
from edgecnn.datasets.folder import load_folder, task_from_folder
from edgecnn.datasets.synthetic.damage import damage_all
from edgecnn.errors import ContractError, DatasetError, InputError
from edgecnn.rejection.good_parts import GoodParts, fit_bank, with_threshold
from edgecnn.runtimes.good_parts import Bank, GoodPartsRuntime, likeness, novelty_of, picture_scores
from edgecnn.runtimes.runtime import Answers
from edgecnn.where import novelty_maps

FEATURES = np.random.default_rng(0).normal(3, 1, (12, 4, 5, 6)).astype(np.float32)


class Features:
    """A runtime that gives the features it was made with, picture by picture."""

    name = "features"

    def __init__(self, features: np.ndarray) -> None:
        self._features = features

    def run(self, images: np.ndarray) -> np.ndarray:
        return self.answer(images).probabilities

    def answer(self, images: np.ndarray) -> Answers:
        spec = TensorSpec("features", "float32", (None, *self._features.shape[1:]))
        return Answers(np.ones((len(images), 1), np.float32), self._features[images[:, 0, 0, 0]], spec)


def numbered(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1)


def test_a_bank_of_all_places_is_at_no_distance_from_them() -> None:
    info = fit_bank(FEATURES, places=10_000)

    distances = Bank(info, 6).distances(FEATURES)

    assert distances.shape == (12, 4, 5)
    assert distances.max() < 0.02  # what rounding to eight bits leaves


def test_distances_are_those_to_the_nearest_of_the_bank() -> None:
    info = fit_bank(FEATURES[:6], places=7)
    rows = np.frombuffer(base64.b64decode(info.bank), np.int8).reshape(-1, 6) * info.scale

    found = Bank(info, 6).distances(FEATURES)

    padded = np.pad(FEATURES, ((0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    means = sum(padded[:, i : i + 4, j : j + 5] for i in range(3) for j in range(3)) / 9
    units = means / np.linalg.norm(means, axis=-1, keepdims=True)
    slow = np.linalg.norm(units[..., None, :] - rows, axis=-1).min(axis=-1)
    np.testing.assert_allclose(found, slow, atol=1e-3)


def test_the_score_is_that_of_the_oddest_places() -> None:
    distances = np.zeros((2, 10, 10), np.float32)
    distances[1, 3, 4:6] = 8

    assert picture_scores(distances).tolist() == [0, 8]


@given(st.floats(0, 15))
def test_the_likeness_tells_the_novelty(novelty: float) -> None:
    found = novelty_of(likeness(np.array([3.5 * novelty]), 3.5))

    assert found[0] == pytest.approx(novelty, abs=0.03)


@given(st.integers(1, 400), st.sampled_from([0.01, 0.05, 0.2]), st.integers(0, 99))
def test_no_more_held_out_parts_lie_above_the_threshold_than_are_promised(count: int, wanted: float, seed: int) -> None:
    scores = np.random.default_rng(seed).gamma(2, size=count)

    info = with_threshold(fit_bank(FEATURES, wanted=wanted), scores)

    assert ((scores > info.novel_above).sum() + 1) / (count + 1) <= info.false_alarms + 1e-9
    assert info.too_few == (1 / (count + 1) > wanted + 1e-9)


def test_few_held_out_parts_say_how_many_are_needed() -> None:
    info = with_threshold(fit_bank(FEATURES, wanted=0.01), np.arange(1.0, 20.0))

    assert info.describe() == "calls at most 5.00% of good parts novel, by 19 held-out ones; 1.00% needs 99 held-out parts"
    one = with_threshold(fit_bank(FEATURES, wanted=0.4), np.array([1.0]))
    assert one.describe() == "calls at most 50.00% of good parts novel, by 1 held-out one; 40.00% needs 2 held-out parts"


def test_pictures_of_one_part_count_once() -> None:
    scores, groups = np.array([1.0, 9.0, 2.0, 3.0]), np.array([5, 5, 6, 6])

    info = with_threshold(fit_bank(FEATURES, wanted=0.4), scores, groups)

    assert (info.parts, info.pictures) == (2, 4)
    assert info.novel_above == pytest.approx(9, rel=1e-3)
    assert info.false_alarms == pytest.approx(0.4)  # a third is what two parts can promise


def test_a_picture_off_by_one_place_is_novel_and_says_where_to_within_a_place() -> None:
    odd = np.concatenate([FEATURES[:1], FEATURES[:1]])
    odd[1, 2, 3] *= -20
    info = with_threshold(fit_bank(FEATURES, places=10_000), np.array([0.5, 0.6]))
    runtime = GoodPartsRuntime(Features(odd), info, 6)

    answers = runtime.answer(numbered(2))
    judged = GoodParts(info).judge(np.zeros((2, 6)), answers.probabilities)

    assert answers.probabilities.shape == (2, 1)
    assert judged.novelty[0] < 1 < judged.novelty[1]
    row, column = np.unravel_index(novelty_maps(GoodParts(info), answers)[1].argmax(), (4, 5))
    assert abs(row - 2) <= 1
    assert abs(column - 3) <= 1


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 4), (3, 1)])
def test_maps_of_a_single_row_or_place_have_distances_too(size_hw: tuple[int, int]) -> None:
    features = np.random.default_rng(1).normal(3, 1, (5, *size_hw, 6)).astype(np.float32)

    distances = Bank(fit_bank(features, places=100), 6).distances(features)

    assert distances.shape == (5, *size_hw)
    assert distances.max() < 0.02


def test_another_novelty_moves_the_verdict_and_a_probability_is_refused() -> None:
    info = with_threshold(fit_bank(FEATURES), np.array([1.0]))
    evidence = GoodParts(info)
    doubled = evidence.with_thresholds(novel_above=2 * info.novel_above)
    answer = np.array([[2**-1.5]], np.float32)

    assert evidence.judge(np.zeros((1, 6)), answer).novelty[0] == pytest.approx(1.5, abs=1e-3)
    assert doubled.judge(np.zeros((1, 6)), answer).novelty[0] == pytest.approx(0.75, abs=1e-3)
    with pytest.raises(InputError, match="--novelty"):
        evidence.with_thresholds(unsure_below=0.4)


@pytest.mark.parametrize(
    "change",
    [{"bank": "?"}, {"bank": ""}, {"bank": "AAAA"}, {"scale": 0.0}, {"scale": float("nan")}, {"novel_above": float("inf")}],
)
def test_a_malformed_bank_is_refused(change: dict[str, object]) -> None:
    good = {"bank": "AAAAAAAA", "scale": 0.1, "novel_above": 1.0}
    info = GoodPartsInfo(**(good | change), wanted=0.01, false_alarms=0.01, parts=1, pictures=1)  # type: ignore[arg-type]

    with pytest.raises(ContractError):
        Bank(info, 6)


def test_a_flat_folder_is_one_class_and_keeps_a_third_for_the_threshold(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(40):
        write_picture(tmp_path / f"{i}.png", random.integers(0, 256, (40, 40), np.uint8))

    task = task_from_folder(tmp_path, only_good=True)
    splits = load_folder(task, tmp_path, 0)

    assert task.labels == ("good",)
    assert task.only_good
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [20, 14, 6]


def test_a_folder_of_several_classes_is_no_folder_of_good_parts(tmp_path: Path) -> None:
    for label in ("good", "bad"):
        write_picture(tmp_path / label / "1.png", np.zeros((40, 40), np.uint8))

    with pytest.raises(DatasetError, match="several places"):
        task_from_folder(tmp_path, only_good=True)


def test_damage_changes_a_part_of_each_picture_and_is_the_same_every_time() -> None:
    images = np.random.default_rng(0).integers(90, 130, (10, 64, 64, 1)).astype(np.uint8)

    damaged = damage_all(images, 3)

    changed = (damaged != images).mean(axis=(1, 2, 3))
    assert (changed > 0).all()
    assert (changed < 0.9).all()
    np.testing.assert_array_equal(damaged, damage_all(images, 3))
