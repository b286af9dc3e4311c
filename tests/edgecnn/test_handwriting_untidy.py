"""Sheets seen from afar: an empty one needs no closer look, and of an untidy desk only what is round its digits does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.datasets.synthetic.handwritten_sheets import SimulatedSheet, simulate_sheet
from edgecnn.handwriting.components import find_components
from edgecnn.handwriting.guesses import Guesser
from edgecnn.handwriting.ink import find_paper
from edgecnn.handwriting.regions import Setting, gray_of, take_apart
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


def test_low_writing_is_enlarged_in_one_window_with_all_of_it(guess: Guesser) -> None:
    sheet = simulate_sheet("numbers", np.random.default_rng(18), count=60, height=13.0, turn_deg=0.0)

    setting = survey(gray_of(sheet.image_bgr), guess, ALL_STEPS)[0].setting

    ((x, y, w, h),) = setting.windows
    assert setting.scale < 1
    assert all(x <= box.x and y <= box.y and box.x + box.w <= x + w and box.y + box.h <= y + h for box in sheet.boxes)


def test_low_writing_all_over_a_sheet_is_enlarged_as_a_whole(guess: Guesser) -> None:
    sheet = simulate_sheet("digits", np.random.default_rng(18), count=80, height=14.0, turn_deg=0.0)

    setting = survey(gray_of(sheet.image_bgr), guess, ALL_STEPS)[0].setting

    assert (setting.scale < 1, setting.windows) == (True, ())


def test_what_a_window_cuts_off_is_no_component() -> None:
    mask, seen = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint8)
    mask[20:40, 25:30] = mask[20:40, 45:50] = 255
    seen[10:50, 10:50] = 255

    found = find_components(mask, mask, (mask > 0).astype(np.int32), np.array([0, 255], np.uint8), seen)

    assert [part.box for part in found] == [(25, 20, 5, 20)]


@pytest.mark.parametrize("size_hw", [(480, 640), (720, 1280)])
@pytest.mark.parametrize("brightness", [60, 140, 225])
def test_noisy_paper_is_never_looked_at_closely(guess: Guesser, size_hw: tuple[int, int], brightness: int) -> None:
    noise = np.random.default_rng(brightness).normal(brightness, 5, size_hw)

    sheet, guesses = survey(np.clip(noise, 0, 255).astype(np.uint8), guess, ALL_STEPS)

    assert (sheet.setting.scale, guesses) == (2.0, [])


@pytest.mark.parametrize("size_hw", [(480, 640), (720, 1280)])
def test_a_single_low_digit_is_looked_at_closely(guess: Guesser, size_hw: tuple[int, int]) -> None:
    sheet = simulate_sheet("digits", np.random.default_rng(5), size_hw=size_hw, count=1, height=14.0, turn_deg=0.0)

    _, guesses = survey(gray_of(sheet.image_bgr), guess, ALL_STEPS)

    assert any(box.holds(one.region.box) for one in guesses for box in sheet.boxes)


def test_where_nothing_is_lighter_than_the_board_its_ink_is_looked_at(guess: Guesser) -> None:
    image = np.full((480, 640), 120, np.uint8)
    image[:, 600:] = 200  # more stands out as chalk, but the border cuts it off
    image[200:240, 300:306] = 20

    sheet, _ = survey(image, guess, ALL_STEPS)

    assert not sheet.setting.light


def test_bright_cells_on_a_dark_desk_are_no_chalk(guess: Guesser) -> None:
    image = np.full((480, 640), 30, np.uint8)
    for number in range(54):
        x, y = 150 + 36 * (number % 9), 120 + 36 * (number // 9)
        image[y : y + 33, x : x + 33] = 220
        cv2.putText(image, str(number % 10), (x + 7, y + 26), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 40, 2, cv2.LINE_AA)

    sheet, _ = survey(image, guess, ALL_STEPS)

    assert sheet.paper.light_over_dark > 4.5
    assert not sheet.setting.light


def test_a_component_of_a_sheet_is_classified_once() -> None:
    batches: list[int] = []

    class Counting:
        name = "counting"

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            batches.append(len(images))
            return np.full((len(images), 10), 0.1, np.float32)

    guess = Guesser(Counting())
    sheet = take_apart(gray_of(desk(0).image_bgr), find_paper(gray_of(desk(0).image_bgr)), Setting(1.0, light=False))
    first = sheet.candidates[:4]

    guess(sheet, first[:2])
    again = guess(sheet, first)

    assert batches == [2, 2]
    assert [one.component for one in again] == first
