"""An untidy desk seen from afar: only what is round its digits is looked at closely."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.classifier import Classifier
from edgecnn.datasets.synthetic.handwritten_sheets import SimulatedSheet, simulate_sheet
from edgecnn.handwriting.components import find_components
from edgecnn.handwriting.guesses import Guesser
from edgecnn.handwriting.regions import gray_of
from edgecnn.handwriting.steps import ALL_STEPS
from edgecnn.handwriting.survey import survey


@pytest.fixture(scope="module")
def guess() -> Guesser:
    return Guesser(Classifier.open("mnist").runtime)


def desk(seed: int) -> SimulatedSheet:
    return simulate_sheet("desk", np.random.default_rng([seed, 5]), count=3, height=38.4, turn_deg=0.0)


def test_on_an_untidy_desk_what_is_looked_at_closely_holds_all_digits(guess: Guesser) -> None:
    sheet = desk(2)

    windows = survey(gray_of(sheet.image_bgr), guess, ALL_STEPS)[0].setting.windows

    for box in sheet.boxes:
        middle = box.x + box.w / 2, box.y + box.h / 2
        assert any(x <= middle[0] < x + w and y <= middle[1] < y + h for x, y, w, h in windows)


def test_on_an_untidy_desk_little_is_looked_at_closely(guess: Guesser) -> None:
    image = desk(0).image_bgr

    setting = survey(gray_of(image), guess, ALL_STEPS)[0].setting

    seen = np.zeros(image.shape[:2], bool)
    for x, y, w, h in setting.windows:
        seen[y : y + h, x : x + w] = True
    assert 0 < seen.mean() < 0.35


def test_low_writing_is_looked_at_everywhere(guess: Guesser) -> None:
    sheet = simulate_sheet("numbers", np.random.default_rng(18), count=60, height=13.0, turn_deg=0.0)

    setting = survey(gray_of(sheet.image_bgr), guess, ALL_STEPS)[0].setting

    assert setting.windows == ()


def test_what_a_window_cuts_off_is_no_component() -> None:
    mask, seen = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    mask[20:40, 25:30] = mask[20:40, 45:50] = 255
    seen[10:50, 10:50] = 255

    found = find_components(mask, mask, (mask > 0).astype(np.int32), np.array([0, 255], np.uint8), seen)

    assert [part.box for part in found] == [(25, 20, 5, 20)]
