import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.digits import draw_digit
from edgecnn.mnist_form import CENTRE, STROKE_WIDTH, Form, InkStrip, _by_disc, ink_form, ink_forms, mnist_form, stroke_width

Image = NDArray[np.uint8]
BARE = Form(stroke_weight=False, deskew=False)


def drawn(class_id: int = 3, size: int = 112, seed: int = 0) -> Image:
    return draw_digit(class_id, np.random.default_rng(seed), size)


def on_paper(ink: Image, paper: int = 220, pen: int = 40) -> Image:
    return np.asarray(paper + (pen - paper) * (ink / 255.0), np.uint8)


def centre_of_mass(form: Image) -> tuple[float, float]:
    moments = cv2.moments(form)
    return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]


def form_stroke(form: Image) -> float:
    large = cv2.resize(form, None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR_EXACT)
    return stroke_width(np.where(large > 127, 255, 0).astype(np.uint8)) / 8


@pytest.mark.parametrize("class_id", range(10))
def test_the_form_has_its_centre_of_mass_where_mnist_has(class_id: int) -> None:
    form = ink_form(drawn(class_id))

    assert centre_of_mass(form) == pytest.approx((CENTRE, CENTRE), abs=0.25)


@pytest.mark.parametrize("class_id", range(10))
def test_the_ink_fills_a_box_of_twenty(class_id: int) -> None:
    form = ink_form(drawn(class_id), BARE)

    _, _, width, height = cv2.boundingRect(np.where(form > 127, 255, 0).astype(np.uint8))
    assert max(width, height) in (19, 20, 21)


@pytest.mark.parametrize("thickness", [3, 8, 16])
def test_pen_and_marker_get_the_same_stroke(thickness: int) -> None:
    ink = np.zeros((150, 120), np.uint8)
    cv2.ellipse(ink, (60, 75), (36, 52), 0, 0, 360, 255, thickness)

    form = ink_form(ink)

    assert form_stroke(form) == pytest.approx(STROKE_WIDTH, abs=0.6)


def test_without_stroke_weight_a_marker_stays_a_marker() -> None:
    ink = np.zeros((150, 120), np.uint8)
    cv2.ellipse(ink, (60, 75), (36, 48), 0, 0, 360, 255, 30)

    form = ink_form(ink, BARE)

    assert form_stroke(form) > 1.3 * STROKE_WIDTH


def test_a_slanted_stroke_is_set_upright() -> None:
    ink = np.zeros((120, 120), np.uint8)
    cv2.line(ink, (80, 15), (45, 105), 255, 7)

    form = ink_form(ink)

    _, _, width, _ = cv2.boundingRect(np.where(form > 127, 255, 0).astype(np.uint8))
    assert width <= 5


def test_dark_and_light_ink_give_the_same_form() -> None:
    ink = drawn()

    dark, light = mnist_form(on_paper(ink)), mnist_form(on_paper(ink, paper=40, pen=220))

    assert np.abs(dark.astype(int) - light).max() <= 16


@pytest.mark.parametrize("size", [28, 56, 224, 448])
def test_the_form_hardly_depends_on_the_pictures_size(size: int) -> None:
    ink = drawn(2, 448)
    small = cv2.resize(ink, (size, size), interpolation=cv2.INTER_AREA)

    difference = np.abs(ink_form(ink).astype(int) - ink_form(np.asarray(small, np.uint8))).mean()

    assert difference < 9


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_of_one_gray_gives_an_empty_form(level: int) -> None:
    form = mnist_form(np.full((40, 30), level, np.uint8))

    assert form.shape == (28, 28)
    assert not form.any()


def test_a_blot_stays_a_blot() -> None:
    ink = np.zeros((80, 80), np.uint8)
    cv2.circle(ink, (40, 40), 25, 255, -1)

    form = ink_form(ink)

    assert np.count_nonzero(form > 127) > 250


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 60), st.floats(0, 1))
def test_any_picture_gives_a_form(seed: int, height: int, width: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    image = (rng.integers(0, 256, (height, width)) * (rng.random((height, width)) < share)).astype(np.uint8)

    form = mnist_form(image)

    assert form.shape == (28, 28)
    assert form.dtype == np.uint8
    assert form.max() in (0, 255)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 70))
def test_the_forms_of_many_digits_are_those_of_each_alone(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    inks = []
    for _ in range(count):
        digit = draw_digit(int(rng.integers(10)), rng, int(rng.integers(16, 90)))
        pen = np.ones((int(rng.integers(1, 6)),) * 2, np.uint8)
        inks.append(np.asarray(cv2.dilate(digit, pen)[:, : int(rng.integers(8, 90))], np.uint8))

    together = ink_forms(InkStrip.of(inks))

    assert all(np.array_equal(form, ink_form(ink)) for form, ink in zip(together, inks, strict=True))


@pytest.mark.parametrize("radius", range(1, 13))
def test_a_disc_dilates_and_erodes_as_opencvs_does(radius: int) -> None:
    rng = np.random.default_rng(radius)
    strokes = np.zeros((112, 224), np.uint8)
    strokes[20:-20, 20:-20] = np.where(cv2.GaussianBlur(rng.random((72, 184)), (0, 0), 4) > 0.5, 255, 0)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))

    assert np.array_equal(_by_disc(strokes, radius, wider=True), cv2.dilate(strokes, disc))
    assert np.array_equal(_by_disc(strokes, radius, wider=False), cv2.erode(strokes, disc))
