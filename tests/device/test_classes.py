"""Which answers are defects, and which region is the worst."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.classifier import Prediction
from edgecnn.errors import InputError
from edgecnn.testing import gray_picture
from edgecnn_device.classes import Classes
from edgecnn_device.frames import Region, RegionPrediction


def regions(*answers: tuple[str | None, float]) -> list[RegionPrediction]:
    """Return a region for each label and probability."""
    picture = gray_picture(128)
    found = []
    for number, (label, probability) in enumerate(answers, 1):
        answer = Prediction(label, 0, probability, np.array([probability], np.float32))
        found.append(RegionPrediction(number, Region((0, 0, 9, 9), picture), picture, answer, answer))
    return found


STEEL = Classes.choose(("good", "scratch", "dent"))


@pytest.mark.parametrize(
    ("answers", "worst"),
    [
        ([("good", 0.99), ("scratch", 0.7), ("dent", 0.8)], 3),
        ([("good", 0.99), (None, 0.2), ("good", 0.6)], 2),
        ([("good", 0.99), ("good", 0.6)], 2),
        ([(None, 0.2), (None, 0.4)], 2),
        ([("scratch", 0.51), ("good", 1.0), (None, 0.9)], 1),
    ],
)
def test_the_worst_region_is_the_surest_defect_then_what_is_not_known_then_what_is_least_surely_good(
    answers: list[tuple[str | None, float]], worst: int
) -> None:
    found = STEEL.worst(regions(*answers))

    assert found is not None and found.region_id == worst


def test_where_nothing_was_found_nothing_is_the_worst() -> None:
    assert STEEL.worst([]) is None


@pytest.mark.parametrize(
    "name", ["good", "OK", "Normal", "no_defect", "defect-free", "MT_Free".partition("_")[2], "Background"]
)
def test_classes_with_a_usual_name_for_what_is_good_are_no_defects(name: str) -> None:
    assert Classes.choose((name, "crack")).defects == {"crack"}


@pytest.mark.parametrize("name", ["goods damaged", "okra", "normalised", "free of paint", "patches"])
def test_a_name_that_only_begins_like_one_is_a_defect(name: str) -> None:
    assert name in Classes.choose((name, "crack")).defects


def test_who_says_what_is_good_is_believed_alone() -> None:
    assert Classes.choose(("good", "a", "b"), good=["a"]).defects == {"good", "b"}


def test_a_star_means_that_no_class_is_a_defect() -> None:
    assert Classes.choose(("a", "b"), good=["*"]).defects == frozenset()


def test_a_reader_of_digits_has_no_defects() -> None:
    assert Classes.choose(("0", "1"), reads=True).defects == frozenset()


def test_a_good_class_that_the_model_has_not_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(InputError, match=r"--good 'fine': the model has no such class; it has a, b"):
        Classes.choose(("a", "b"), good=["fine"])
