"""How often two files say the same word."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.cli.rejection import _same, _same_lines
from edgecnn.evaluation import measure_agreement
from edgecnn.metrics import Share
from edgecnn.shipped import find_task

TASK = find_task("neu")


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    assert TASK.synthesize is not None
    return TASK.synthesize(2, 3).images


def test_a_file_agrees_with_itself_under_every_corruption(images: NDArray[np.uint8]) -> None:
    model = Classifier.open("neu")

    found = measure_agreement(model, model, TASK, images[:4], severity=3)

    assert list(found)[:2] == ["clean", "underexposure"] and len(found) == 20
    assert all((share.hits, share.count) == (4, 4) for share in found.values())


def test_what_is_a_label_here_and_unsure_there_is_not_the_same(images: NDArray[np.uint8]) -> None:
    model = Classifier.open("neu").rejecting(0.0, 100.0)

    found = measure_agreement(model, model.rejecting(1.0), TASK, images)

    sure = [each.probability == 1 for each in model.classify(list(images))]
    assert found["clean"].hits == sum(sure) < len(images)


def test_the_command_shows_each_corruption_and_all_together() -> None:
    same = {"clean": Share(299, 300), "noise": Share(290, 300), "dust": Share(298, 300)}

    clean, noise, dust, every = _same_lines(same, "b.tflite")

    assert clean.startswith("99.7 %") and clean.endswith("of 300 pictures get the same label, unsure or novel by b.tflite")
    assert noise.startswith("noise  96.7 %") and dust.startswith("dust   99.3 %")
    assert every.startswith("under all corruptions together 98.0 %") and every.endswith(" of 600 pictures")


def test_a_file_for_programs_has_the_corruptions_apart() -> None:
    assert _same({}) == {}
    assert set(_same({"clean": Share(1, 1)})) == {"same_as"}
    assert list(_same({"clean": Share(1, 1), "dust": Share(1, 2)})["same_as_corrupted"]) == ["dust"]
