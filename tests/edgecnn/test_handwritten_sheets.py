"""Simulated photographs of sheets: the truth about them is true, and a seed gives the same sheet."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from edgecnn.datasets.synthetic.digits import generate_digits
from edgecnn.datasets.synthetic.handwritten_sheets import LAYOUTS, Layout, pick_digits, simulate_sheet
from edgecnn.errors import InputError
from edgecnn.handwriting.evaluation import PRINTED


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_seed_gives_the_same_sheet(layout: Layout) -> None:
    first, second = (simulate_sheet(layout, generator(3), size_hw=(240, 320)) for _ in range(2))

    assert first.boxes == second.boxes
    assert np.array_equal(first.image_bgr, second.image_bgr)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_digit_stands_in_the_frame(layout: Layout) -> None:
    sheet = simulate_sheet(layout, generator(4), size_hw=(240, 320))

    assert sheet.image_bgr.shape == (240, 320, 3)
    assert all(box.x >= 0 and box.x + box.w <= 320 and box.y >= 0 and box.y + box.h <= 240 for box in sheet.boxes)


@pytest.mark.parametrize("count", [0, 3, 14])
def test_as_many_digits_are_written_as_are_asked_for(count: int) -> None:
    assert len(simulate_sheet("digits", generator(5), count=count, height=40.0, turn_deg=0.0).boxes) == count


def test_where_a_digit_stands_the_picture_is_another() -> None:
    sheet = simulate_sheet("digits", generator(6), count=9, height=60.0, turn_deg=0.0)
    gray = sheet.image_bgr.mean(axis=2)

    for box in sheet.boxes:
        inside = gray[box.y : box.y + box.h, box.x : box.x + box.w]
        assert np.ptp(inside) > 20


def test_a_sudoku_has_print_beside_what_is_filled_in() -> None:
    kinds = {box.kind for box in simulate_sheet("sudoku", generator(7)).boxes}

    assert kinds == {PRINTED, "handwritten_cell"}


def test_an_unknown_layout_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown layout 'poem'; known: digits, numbers, sudoku, desk"):
        simulate_sheet(cast(Layout, "poem"), generator(0))


def test_digits_are_picked_of_the_class_that_is_asked_for() -> None:
    known = generate_digits(3, seed=1)
    pick = pick_digits(known.images[..., 0], known.class_ids, drawn=0.0)

    picked = pick(7, generator(0))

    assert any(np.array_equal(picked, image) for image in known.images[known.class_ids == 7, ..., 0])


def test_a_data_set_without_one_of_the_digits_is_refused() -> None:
    known = generate_digits(3, seed=1)
    kept = known.class_ids != 4

    with pytest.raises(InputError, match="all ten digits"):
        pick_digits(known.images[kept, ..., 0], known.class_ids[kept])
