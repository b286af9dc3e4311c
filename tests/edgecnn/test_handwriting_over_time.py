from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from drawn_sheet import draw_sheet
from numpy.typing import NDArray

from edgecnn.handwriting.over_time import ReaderOverTime

Image = NDArray[np.uint8]
THRESHOLD = 0.5


@dataclass
class Counting:
    """A runtime that takes everything for a 3, and counts what it is shown."""

    name: str = "counting"
    shown: list[int] = field(default_factory=list)

    def run(self, images: Image) -> NDArray[np.float32]:
        self.shown.append(len(images))
        return np.tile(np.eye(10, dtype=np.float32)[3], (len(images), 1))


def sheets() -> tuple[Image, Image]:
    """The same sheet without and with its last digit, without noise."""
    whole = draw_sheet(5, count=14, noise=0)
    x, y, w, h = whole.boxes[-1]
    image = whole.image_bgr.copy()
    image[y - 8 : y + h + 8, x - 8 : x + w + 8] = image[y - 8 : y + h + 8, x - 9 : x - 8]
    return image, whole.image_bgr


def noisy(image: Image, seed: int) -> Image:
    noise = np.random.default_rng(seed).normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_a_sheet_that_does_not_change_is_read_once_however_noisy_the_camera_is() -> None:
    runtime, reader = Counting(), ReaderOverTime()
    image = draw_sheet(5, count=14, noise=0).image_bgr

    first = reader.read(noisy(image, 0), runtime, THRESHOLD, 0.0)
    batches = len(runtime.shown)
    later = [reader.read(noisy(image, number), runtime, THRESHOLD, number / 30) for number in range(1, 20)]

    assert all(readings is first for readings in later)
    assert len(runtime.shown) == batches


def test_everything_is_read_again_after_a_second() -> None:
    runtime, reader = Counting(), ReaderOverTime()
    image = draw_sheet(5, count=14).image_bgr

    reader.read(image, runtime, THRESHOLD, 0.0)
    once = sum(runtime.shown)
    reader.read(image, runtime, THRESHOLD, 1.0)

    assert sum(runtime.shown) == 2 * once


def test_a_new_digit_is_read_at_once_and_no_other_is_classified_again() -> None:
    runtime, reader = Counting(), ReaderOverTime()
    before, after = sheets()

    first = reader.read(noisy(before, 0), runtime, THRESHOLD, 0.0)
    shown = sum(runtime.shown)
    second = reader.read(noisy(after, 1), runtime, THRESHOLD, 0.03)

    assert len(second) == len(first) + 1
    assert sum(runtime.shown) - shown <= 3


def test_a_digit_that_is_gone_is_forgotten_at_once() -> None:
    runtime, reader = Counting(), ReaderOverTime()
    after, before = sheets()

    first = reader.read(before, runtime, THRESHOLD, 0.0)
    second = reader.read(after, runtime, THRESHOLD, 0.03)

    assert len(second) == len(first) - 1


def test_a_change_that_creeps_is_seen() -> None:
    runtime, reader = Counting(), ReaderOverTime(every=100.0)
    before, after = (image.astype(np.float64) for image in sheets())

    count = [
        len(reader.read((before + (after - before) * step / 50).astype(np.uint8), runtime, THRESHOLD, step / 30))
        for step in range(51)
    ]

    assert count[-1] == count[0] + 1


@pytest.mark.parametrize("what", ["another model", "another threshold", "another size", "a clock set back"])
def test_all_is_read_again_with(what: str) -> None:
    runtime, reader = Counting(), ReaderOverTime()
    image = draw_sheet(5, count=14).image_bgr
    reader.read(image, runtime, THRESHOLD, 10.0)
    once = sum(runtime.shown)

    other = Counting(shown=list(runtime.shown)) if what == "another model" else runtime
    other.name = what
    reader.read(
        image[:-2] if what == "another size" else image,
        other,
        0.6 if what == "another threshold" else THRESHOLD,
        9.0 if what == "a clock set back" else 10.1,
    )

    assert sum(other.shown) == 2 * once
