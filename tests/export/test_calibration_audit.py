"""The audit of calibration pictures: each check fails on what it is there for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import InputError
from edgecnn_export.calibration_audit import (
    check_balance,
    check_light,
    check_overlap,
    check_pixels,
    check_stability,
    halves,
)
from edgecnn_export.exporter import export
from edgecnn_export.reference import Reference

LABELS = ("dark", "upright", "lying")


def pictures(count: int = 60, seed: int = 0, groups: int | None = None) -> Dataset:
    """Make `count` pictures of noise in three classes, each of a group of its own from `groups` on."""
    images = np.random.default_rng(seed).integers(40, 200, (count, 8, 8, 1)).astype(np.uint8)
    images[:, 0, 0, 0] = np.random.default_rng(seed + 1).integers(0, 256, count)
    known = None if groups is None else np.arange(groups, groups + count)
    return Dataset(images, np.arange(count) % 3, tuple(str(i) for i in range(count)), known)


def with_images(dataset: Dataset, images: object) -> Dataset:
    return dataclasses.replace(dataset, images=np.clip(np.asarray(images), 0, 255).astype(np.uint8))


def test_pictures_of_one_kind_pass_all_checks() -> None:
    calibration, evaluation = pictures(seed=0, groups=0), pictures(seed=5, groups=1000)

    checks = [
        check_balance(calibration, evaluation, LABELS),
        check_pixels(calibration, evaluation),
        check_light(calibration, evaluation),
        check_overlap(calibration, evaluation),
    ]

    assert [check.outcome for check in checks] == ["ok"] * 4


def test_a_class_without_calibration_pictures_fails() -> None:
    calibration = pictures()

    check = check_balance(calibration.take(np.flatnonzero(calibration.class_ids != 1)), pictures(), LABELS)

    assert check.outcome == "fail"
    assert "no calibration picture shows upright" in check.sentence


def test_a_scarce_class_is_a_warning() -> None:
    calibration = pictures()
    kept = np.concatenate([np.flatnonzero(calibration.class_ids != 2), [2]])

    check = check_balance(calibration.take(kept), pictures(), LABELS)

    assert check.outcome == "warning"
    assert check.sentence == "lying has 1 of 41 calibration pictures, 14 would be even"


def test_of_unlabelled_pictures_only_the_references_answers_are_counted() -> None:
    calibration = pictures()
    kept = np.concatenate([np.flatnonzero(calibration.class_ids != 2), [2]])

    check = check_balance(calibration.take(kept), pictures(), LABELS, labelled=False)

    assert check.sentence == "the reference says lying to 1 of 41 calibration pictures, 14 would be even"


@pytest.mark.parametrize("side", ["calibration", "evaluation"])
def test_pictures_that_were_divided_before_fail(side: str) -> None:
    sides = {"calibration": pictures(), "evaluation": pictures(seed=5)}
    sides[side] = with_images(sides[side], sides[side].images // 255)

    check = check_pixels(**sides)

    assert check.outcome == "fail"
    assert f"the {side} pictures hold no pixel above 1" in check.sentence


@pytest.mark.parametrize("change", [lambda x: x * 0.5, lambda x: 255 - 0.3 * x, lambda x: 120 + (x - 120.0) * 0.2])
def test_pictures_in_other_light_fail(change: object) -> None:
    evaluation = pictures(seed=5)

    check = check_light(with_images(pictures(), change(pictures().images.astype(np.float64))), evaluation)  # type: ignore[operator]

    assert check.outcome == "fail"


def test_pictures_that_are_also_judged_by_fail() -> None:
    check = check_overlap(pictures(), pictures().take(np.arange(2)))

    assert check.outcome == "fail"
    assert check.sentence.startswith("2 of 60 calibration pictures are, or overlap")


def test_pictures_of_a_group_that_is_judged_by_fail() -> None:
    check = check_overlap(pictures(seed=0, groups=0), pictures(seed=5, groups=50))

    assert check.outcome == "fail"
    assert check.sentence.startswith("10 of 60")


def test_one_set_of_pictures_for_both_is_a_warning_where_it_is_meant() -> None:
    assert check_overlap(pictures(), pictures(), intended=True).outcome == "warning"


@pytest.mark.parametrize(
    ("width", "count", "outcome"), [(0.9, 100, "ok"), (0.6, 100, "warning"), (0.4, 100, "fail"), (0.4, 5, "warning")]
)
def test_halves_that_ask_for_different_scales_are_told_apart(width: float, count: int, outcome: str) -> None:
    check = check_stability({"a": (0.0, 1.0), "b": (-1.0, 1.0)}, {"a": (0.0, 1.0), "b": (-width, width)}, count=count)

    assert check.outcome == outcome
    assert "layer b" in check.sentence


def test_halves_are_disjoint_and_hold_each_class_alike() -> None:
    calibration = pictures(600, groups=0)

    first, second = halves(calibration, 3)

    assert not set(first.names) & set(second.names)
    for half in (first, second):
        assert len(half) <= 200
        assert np.ptp(np.bincount(half.class_ids)) <= 1


def test_an_export_refuses_pictures_that_fail_before_anything_is_made(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path
) -> None:
    leaking = dataclasses.replace(bar_splits, train=bar_splits.validation.take(np.arange(len(bar_splits.validation))))

    with pytest.raises(InputError, match="no int8 file was made, the calibration pictures failed their audit: 60 of 60"):
        export(bar_reference, out=tmp_path / "out", int8=True, splits=leaking)

    assert not (tmp_path / "out").exists()
