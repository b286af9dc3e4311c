from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from drawn_sheet import DrawnSheet, draw_sheet
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.digits import generate_digits
from edgecnn.handwriting import Steps, read_digits
from edgecnn.handwriting.components import Component, find_components
from edgecnn.handwriting.cuts import slices

Image = NDArray[np.uint8]


@dataclass
class NearestDigit:
    """A runtime that knows digits by heart: the nearest of some synthetic ones decides, far from all of them it is unsure."""

    name: str = "nearest digit"
    images: NDArray[np.float32] = field(init=False)
    class_ids: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        known = generate_digits(60, seed=99)
        self.images = self._features(known.images)
        self.class_ids = known.class_ids

    @staticmethod
    def _features(images: Image) -> NDArray[np.float32]:
        soft = np.stack([cv2.GaussianBlur(image[..., 0].astype(np.float32), (0, 0), 1.2) for image in images])
        flat = soft.reshape(len(images), -1)
        return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6), np.float32)

    def run(self, images: Image) -> NDArray[np.float32]:
        alike = self._features(images) @ self.images.T
        best = np.stack([alike[:, self.class_ids == c].max(axis=1) for c in range(10)], axis=1)
        odds = np.exp(45 * (best - 0.8)) + 0.02
        probabilities = odds / odds.sum(axis=1, keepdims=True) * np.minimum(1, best.max(axis=1, keepdims=True) / 0.9)
        return np.asarray(probabilities, np.float32)


@pytest.fixture(scope="module")
def runtime() -> NearestDigit:
    return NearestDigit()


def written(text: str, scale: float = 3.0, thickness: int = 6) -> Image:
    """A white picture with black text."""
    image = np.full((300, 900, 3), 230, np.uint8)
    cv2.putText(image, text, (60, 190), cv2.FONT_HERSHEY_SIMPLEX, scale, (30, 30, 30), thickness)
    return image


def test_most_digits_of_a_sheet_are_read(runtime: NearestDigit) -> None:
    sheet = draw_sheet(21)

    readings = read_digits(sheet.image_bgr, runtime, 0.3)

    right = 0
    for (x, y, w, h), class_id in zip(sheet.boxes, sheet.class_ids, strict=True):
        on_it = [r for r in readings if x <= r.box[0] + r.box[2] / 2 <= x + w and y <= r.box[1] + r.box[3] / 2 <= y + h]
        right += any(r.class_id == class_id for r in on_it)
    assert right / len(sheet.boxes) >= 0.8


def read_rightly(sheet: DrawnSheet, degrees: float, runtime: NearestDigit, steps: Steps) -> float:
    """The share of a sheet's digits that are read correctly when it lies turned by so many degrees."""
    height, width = sheet.image_bgr.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 0.75)
    image = np.asarray(cv2.warpAffine(sheet.image_bgr, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    readings = read_digits(image, runtime, 0.3, steps)
    boxes = np.array([reading.box for reading in readings]).reshape(-1, 4)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    right = 0
    for (x, y, w, h), class_id in zip(sheet.boxes, sheet.class_ids, strict=True):
        away = np.abs(centres - turn @ [x + w / 2, y + h / 2, 1]).max(axis=1, initial=0)
        right += any(readings[i].class_id == class_id for i in np.flatnonzero(away < 0.3 * h))
    return right / len(sheet.boxes)


@pytest.mark.parametrize("degrees", [-35, 35])
def test_a_sheet_that_lies_askew_is_turned(runtime: NearestDigit, degrees: float) -> None:
    sheet = draw_sheet(24)

    turned, as_it_lies = (read_rightly(sheet, degrees, runtime, Steps(turning=turning)) for turning in (True, False))

    assert turned >= 0.75
    assert turned > as_it_lies + 0.1


def test_a_sheet_that_lies_straight_is_read_as_it_lies(runtime: NearestDigit) -> None:
    image = draw_sheet(21).image_bgr

    with_step, without = read_digits(image, runtime, 0.3), read_digits(image, runtime, 0.3, Steps(turning=False))

    assert [reading.probability for reading in with_step] == [reading.probability for reading in without]


def test_an_empty_sheet_has_no_readings(runtime: NearestDigit) -> None:
    image = np.full((480, 640, 3), 200, np.uint8)

    assert read_digits(image, runtime, 0.3) == []


def test_what_the_model_is_unsure_of_is_rejected(runtime: NearestDigit) -> None:
    readings = read_digits(draw_sheet(21).image_bgr, runtime, 1.01)

    assert readings
    assert all(reading.class_id is None for reading in readings)


def test_among_other_digits_half_of_the_threshold_is_enough() -> None:
    class Doubtful:
        name = "doubtful"

        def run(self, images: Image) -> NDArray[np.float32]:
            probabilities = np.zeros((len(images), 10), np.float32)
            probabilities[:, 3] = [0.6 if i % 5 == 4 else 0.95 for i in range(len(images))]
            return probabilities

    steps = Steps(joining=False, splitting=False, turning=False)

    many = read_digits(written("3 3 3 3 3"), Doubtful(), 0.9, steps)

    assert [reading.class_id for reading in many] == [3] * 5


def test_alone_a_digit_needs_the_whole_threshold() -> None:
    class Doubtful:
        name = "doubtful"

        def run(self, images: Image) -> NDArray[np.float32]:
            return np.tile(0.6 * np.eye(10, dtype=np.float32)[3], (len(images), 1))

    readings = read_digits(written("3"), Doubtful(), 0.9, Steps(joining=False, splitting=False))

    assert [reading.class_id for reading in readings] == [None]


def test_without_rejection_everything_gets_a_class(runtime: NearestDigit) -> None:
    readings = read_digits(draw_sheet(21).image_bgr, runtime, 1.01, Steps(reject=False))

    assert all(reading.class_id is not None for reading in readings)


@dataclass
class OneInFour:
    """A runtime that takes every fourth picture for a 3 and is unsure of all others."""

    name: str = "one in four"

    def run(self, images: Image) -> NDArray[np.float32]:
        probabilities = np.full((len(images), 10), 0.1, np.float32)
        probabilities[::4, 3] = 0.99
        return probabilities


def test_a_word_is_rejected_as_a_whole() -> None:
    image = written("MARGHERITA", scale=2.0, thickness=4)

    readings = read_digits(image, OneInFour(), 0.6, Steps(splitting=False, joining=False))

    assert len(readings) == 10
    assert all(reading.class_id is None for reading in readings)


def test_a_number_is_no_word() -> None:
    readings = read_digits(written("3 3 3 3 3"), Sure(), 0.6, Steps(splitting=False, joining=False))

    assert [reading.class_id for reading in readings] == [3] * 5


def test_a_single_digit_needs_no_neighbours() -> None:
    readings = read_digits(written("3"), Sure(), 0.6)

    assert [reading.class_id for reading in readings] == [3]


@dataclass
class Sure:
    """A runtime that takes everything for a 3."""

    name: str = "sure"

    def run(self, images: Image) -> NDArray[np.float32]:
        return np.tile(np.eye(10, dtype=np.float32)[3], (len(images), 1))


def test_a_thin_stroke_beside_thick_digits_is_no_one() -> None:
    sheet = draw_sheet(23, digit_height=70, count=6)
    x, y, _, _ = sheet.boxes[0]
    image = sheet.image_bgr.copy()
    cv2.line(image, (x - 14, y), (x - 14, y + 30), (60, 60, 60), 1)

    readings = read_digits(image, Ones(), 0.5)

    strokes = [reading for reading in readings if reading.box[2] <= 4]
    assert [reading.class_id for reading in strokes] == [None]


@dataclass
class Ones:
    """A runtime that takes what is narrow for a 1 and all else for an 8."""

    name: str = "ones"

    def run(self, images: Image) -> NDArray[np.float32]:
        probabilities = np.zeros((len(images), 10), np.float32)
        for row, image in zip(probabilities, images, strict=True):
            row[1 if np.ptp(np.flatnonzero(image.any(axis=(0, 2)))) < 8 else 8] = 1.0
        return probabilities


@dataclass
class Tall:
    """A runtime that is sure of what is narrower than high: a digit, and unsure of what is wide: two of them."""

    name: str = "tall"

    def run(self, images: Image) -> NDArray[np.float32]:
        probabilities = np.full((len(images), 10), 0.05, np.float32)
        for row, image in zip(probabilities, images, strict=True):
            _, _, width, height = cv2.boundingRect(image[..., 0])
            row[3] = 0.55 if width < 0.85 * height else 0.1
            row[3] = 0.96 if 0.45 * height < width < 0.75 * height else row[3]
        return probabilities


def test_two_digits_that_touch_are_read_apart() -> None:
    image = np.full((240, 320, 3), 230, np.uint8)
    for x in (100, 146):
        cv2.ellipse(image, (x, 120), (22, 40), 0, 0, 360, (30, 30, 30), 5)

    readings = read_digits(image, Tall(), 0.5)

    assert len(readings) == 2


def test_two_digits_that_touch_stay_one_without_splitting() -> None:
    image = np.full((240, 320, 3), 230, np.uint8)
    for x in (100, 146):
        cv2.ellipse(image, (x, 120), (22, 40), 0, 0, 360, (30, 30, 30), 5)

    readings = read_digits(image, Tall(), 0.5, Steps(splitting=False))

    assert len(readings) == 1


def five_with_loose_bar() -> Image:
    image = np.full((240, 320, 3), 230, np.uint8)
    cv2.ellipse(image, (140, 140), (26, 28), 0, -110, 150, (30, 30, 30), 5)
    cv2.line(image, (130, 114), (130, 88), (30, 30, 30), 5)
    cv2.line(image, (133, 78), (166, 76), (30, 30, 30), 5)
    return image


@dataclass
class Full:
    """A runtime that is surest of what fills its box from top to bottom with a bar on top."""

    name: str = "full"

    def run(self, images: Image) -> NDArray[np.float32]:
        probabilities = np.full((len(images), 10), 0.02, np.float32)
        for row, image in zip(probabilities, images, strict=True):
            top = cv2.boundingRect(image[..., 0])[1]
            bar = np.count_nonzero(image[top + 1, :, 0] > 100)
            row[5] = 0.9 if bar >= 5 else 0.6
        return probabilities


def test_the_loose_bar_of_a_five_is_joined() -> None:
    image = five_with_loose_bar()

    readings = read_digits(image, Full(), 0.5)

    assert [r.class_id for r in readings] == [5]
    assert readings[0].box[1] <= 80


def test_the_loose_bar_of_a_five_is_left_out_without_joining() -> None:
    image = five_with_loose_bar()

    readings = read_digits(image, Full(), 0.5, Steps(joining=False))

    assert all(reading.box[1] + reading.box[3] > 100 and reading.box[3] < 95 for reading in readings)


@dataclass
class Rings:
    """A runtime that reads round things as a 0 with some sureness, and all else, two rings too, as an 8 with more."""

    sureness: float
    name: str = "rings"

    def run(self, images: Image) -> NDArray[np.float32]:
        probabilities = np.zeros((len(images), 10), np.float32)
        for row, image in zip(probabilities, images, strict=True):
            _, _, width, height = cv2.boundingRect(image[..., 0])
            row[0 if 0.9 < width / height < 1.1 else 8] = self.sureness if 0.9 < width / height < 1.1 else 0.97
        return probabilities


@pytest.mark.parametrize(("sureness", "expected"), [(0.6, [8]), (0.92, [0, 0])])
def test_a_sure_digit_is_no_piece_of_another(sureness: float, expected: list[int]) -> None:
    image = np.full((240, 320, 3), 230, np.uint8)
    cv2.circle(image, (150, 70), 14, (30, 30, 30), 5)
    cv2.circle(image, (150, 145), 50, (30, 30, 30), 5)

    readings = read_digits(image, Rings(sureness), 0.5, Steps(splitting=False, reject=False))

    assert [reading.class_id for reading in readings] == expected


def test_readings_come_from_top_to_bottom(runtime: NearestDigit) -> None:
    readings = read_digits(draw_sheet(22).image_bgr, runtime, 0.3)

    tops = [reading.box[1] for reading in readings]
    assert tops == sorted(tops)


def test_the_probability_is_the_largest(runtime: NearestDigit) -> None:
    reading = read_digits(draw_sheet(22).image_bgr, runtime, 0.3)[0]

    assert reading.probability == pytest.approx(float(reading.probabilities.max()))


def strokes(mask: Image) -> Component:
    """The only component of a mask."""
    (component,) = find_components(mask, mask, (mask > 0).astype(np.int32), np.array([0, 255], np.uint8))
    return component


def test_slices_hold_all_the_ink_once() -> None:
    mask = np.zeros((100, 140), np.uint8)
    for x in (40, 84):
        cv2.ellipse(mask, (x, 50), (20, 36), 0, 0, 360, 255, 5)
    pair = strokes(mask)

    (cut,) = slices([pair], 140)

    parts = [cut.part(i, i + 1, 140) for i in range(cut.count)]
    assert sum(part.area for part in parts if part) == pair.area
    assert len(parts) >= 2


def test_a_straight_stroke_has_one_slice() -> None:
    mask = np.zeros((60, 30), np.uint8)
    mask[5:55, 13:17] = 255

    (cut,) = slices([strokes(mask)], 30)

    assert cut.count == 1
