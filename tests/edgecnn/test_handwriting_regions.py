from collections.abc import Callable
from typing import cast

import cv2
import numpy as np
import pytest
from drawn_sheet import DrawnSheet, draw_sheet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.errors import ShapeError
from edgecnn.handwriting import ALL_STEPS, DigitRegion, find_digits
from edgecnn.handwriting.evaluation import STEP_NAMES
from edgecnn.handwriting.regions import WORKING_SIDE
from edgecnn.handwriting.steps import Steps

Image = NDArray[np.uint8]


def share_found(sheet: DrawnSheet, regions: list[DigitRegion]) -> float:
    """The share of the drawn digits that one region of about their size lies on."""
    hits = 0
    for x, y, w, h in sheet.boxes:
        on_it = [r.box for r in regions if x <= r.box[0] + r.box[2] / 2 <= x + w and y <= r.box[1] + r.box[3] / 2 <= y + h]
        hits += len(on_it) == 1 and 0.7 * h <= on_it[0][3] <= 1.3 * h + 2
    return hits / len(sheet.boxes)


SHEETS: dict[str, Callable[[], DrawnSheet]] = {
    "plain paper": lambda: draw_sheet(1),
    "deep shade": lambda: draw_sheet(2, darkest=0.25),
    "ruled paper": lambda: draw_sheet(3, paper="ruled"),
    "squared paper": lambda: draw_sheet(4, paper="squared"),
    "red pen": lambda: draw_sheet(5, pen_bgr=(40, 40, 200)),
    "orange pen": lambda: draw_sheet(6, pen_bgr=(40, 120, 240)),
    "pencil": lambda: draw_sheet(7, pen_bgr=(130, 130, 130)),
    "chalk on a board": lambda: draw_sheet(8, pen_bgr=(225, 230, 230), paper_bgr=(50, 70, 40)),
    "yellow paper": lambda: draw_sheet(9, paper_bgr=(90, 230, 235)),
    "noisy sensor": lambda: draw_sheet(10, noise=10),
    "small digits": lambda: draw_sheet(11, digit_height=22, count=60),
    "large digits": lambda: draw_sheet(12, digit_height=120),
    "large photograph": lambda: draw_sheet(13, size_hw=(1500, 2000), digit_height=90),
}


@pytest.mark.parametrize("name", SHEETS)
def test_the_digits_of_a_sheet_are_found(name: str) -> None:
    sheet = SHEETS[name]()

    regions = find_digits(sheet.image_bgr)

    assert share_found(sheet, regions) >= 0.9


@pytest.mark.parametrize("name", SHEETS)
def test_little_else_is_found_on_a_sheet(name: str) -> None:
    sheet = SHEETS[name]()

    regions = find_digits(sheet.image_bgr)

    assert len(regions) <= 1.15 * len(sheet.boxes) + 1


@pytest.mark.parametrize("angle", [-10, -4, 4, 10])
def test_digits_on_tilted_ruled_paper_are_found(angle: float) -> None:
    sheet = draw_sheet(3, paper="ruled")
    turn = cv2.getRotationMatrix2D((320, 240), angle, 1.0)
    image = np.asarray(cv2.warpAffine(sheet.image_bgr, turn, (640, 480), borderMode=cv2.BORDER_REFLECT), np.uint8)
    inner = [b for b in sheet.boxes if 160 < b[0] < 440 and 120 < b[1] < 320]
    centres = [turn @ np.array([x + w / 2, y + h / 2, 1.0]) for x, y, w, h in inner]

    regions = find_digits(image)

    boxes = [region.box for region in regions]
    hit = [any(x <= cx <= x + w and y <= cy <= y + h and h < 100 for x, y, w, h in boxes) for cx, cy in centres]
    assert np.mean(hit) >= 0.85


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_picture_of_one_gray_holds_no_digit(level: int) -> None:
    image = np.full((480, 640, 3), level, np.uint8)

    assert find_digits(image) == []


def test_an_empty_table_holds_no_digit() -> None:
    grain = np.random.default_rng(0).normal(0, 1, (480, 640))
    wood = 120 + 12 * cv2.GaussianBlur(grain, (0, 0), 1.5) + np.linspace(-40, 40, 640)
    image = np.clip(wood[..., None] * np.array([0.6, 0.8, 1.0]), 0, 255).astype(np.uint8)

    assert find_digits(image) == []


def test_noise_holds_no_digit() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(128, 12, (480, 640, 3)), 0, 255).astype(np.uint8)

    assert find_digits(image) == []


def test_an_empty_grid_holds_no_digit() -> None:
    image = np.full((480, 640, 3), 225, np.uint8)
    for at in range(20, 480, 50):
        cv2.line(image, (20, at), (620, at), (40, 40, 40), 2)
    for at in range(20, 640, 50):
        cv2.line(image, (at, 20), (at, 470), (40, 40, 40), 2)

    assert find_digits(image) == []


def test_a_blot_and_a_dot_are_no_digits() -> None:
    image = np.full((480, 640, 3), 225, np.uint8)
    cv2.circle(image, (200, 200), 40, (30, 30, 30), -1)
    cv2.circle(image, (400, 200), 3, (30, 30, 30), -1)

    assert find_digits(image) == []


def test_what_the_border_cuts_off_is_no_digit() -> None:
    image = np.full((480, 640, 3), 225, np.uint8)
    cv2.putText(image, "8", (-12, 200), cv2.FONT_HERSHEY_SIMPLEX, 3, (30, 30, 30), 6)

    assert find_digits(image) == []


def test_a_line_through_digits_leaves_them_whole() -> None:
    image = np.full((300, 640, 3), 225, np.uint8)
    cv2.putText(image, "2 3 6", (120, 180), cv2.FONT_HERSHEY_SIMPLEX, 3, (30, 30, 30), 7)
    cv2.line(image, (5, 150), (635, 156), (60, 60, 60), 2)

    regions = find_digits(image)

    assert len(regions) == 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (3, 3), (8, 500)])
def test_tiny_pictures_hold_no_digit(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)

    assert find_digits(image) == []


@pytest.mark.parametrize("image", [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((0, 9, 3), np.uint8)])
def test_another_array_is_refused_with_its_shape(image: object) -> None:
    with pytest.raises(ShapeError, match=r"\(h, w, 3\) uint8 BGR, got"):
        find_digits(cast(Image, image))


def test_a_region_has_the_form_of_mnist() -> None:
    region = find_digits(draw_sheet(1).image_bgr)[0]

    assert region.form.shape == (28, 28)
    assert region.form.dtype == np.uint8
    assert region.form.max() == 255


def test_boxes_are_in_pixels_of_a_frame_larger_than_the_working_size() -> None:
    small = draw_sheet(1, size_hw=(800, 1200), digit_height=80)
    large = np.asarray(cv2.resize(small.image_bgr, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
    assert max(large.shape) > WORKING_SIDE
    scaled = DrawnSheet(large, tuple((3 * x, 3 * y, 3 * w, 3 * h) for x, y, w, h in small.boxes), small.class_ids)

    regions = find_digits(large)

    assert share_found(scaled, regions) >= 0.95


def upright_stroke(contrasts: NDArray[np.float64]) -> Image:
    """Noisy paper with one upright stroke, 100 pixels high, of these contrasts from top to bottom."""
    paper = np.full((240, 320), 220.0)
    paper[60:160, 140:146] *= 1 - contrasts[:, None]
    noisy = np.rint(paper + np.random.default_rng(0).normal(0, 2, paper.shape)).astype(np.uint8)
    return np.repeat(noisy[..., None], 3, axis=2)


def test_a_stroke_that_fades_stays_whole() -> None:
    image = upright_stroke(np.linspace(0.16, 0.085, 100))

    regions = find_digits(image)

    assert [region.box[3] for region in regions] == [pytest.approx(100, abs=4)]


def test_what_is_nowhere_stronger_than_the_papers_texture_is_no_ink() -> None:
    image = upright_stroke(np.full(100, 0.085))

    assert find_digits(image) == []


def test_more_of_low_writing_is_found_at_twice_its_size() -> None:
    sheets = [draw_sheet(seed, digit_height=14, count=60) for seed in (1, 2, 3)]

    enlarged = np.mean([share_found(sheet, find_digits(sheet.image_bgr)) for sheet in sheets])
    as_it_is = np.mean([share_found(sheet, find_digits(sheet.image_bgr, Steps(scale=False))) for sheet in sheets])

    assert enlarged > as_it_is


def test_high_writing_is_looked_at_as_it_is() -> None:
    image = draw_sheet(1).image_bgr

    with_step, without = find_digits(image), find_digits(image, Steps(scale=False))

    assert [region.box for region in with_step] == [region.box for region in without]


def test_half_the_exposure_changes_nothing_that_is_found() -> None:
    image = draw_sheet(1, noise=2).image_bgr

    bright, dark = find_digits(image), find_digits((image // 2).astype(np.uint8))

    assert len(bright) == len(dark)


@st.composite
def pictures(draw: st.DrawFn) -> Image:
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image = np.full((height, width, 3), draw(st.integers(0, 255)), np.uint8)
    for _ in range(draw(st.integers(0, 6))):
        ends = rng.integers(-20, 110, (2, 2))
        color = tuple(int(c) for c in rng.integers(0, 256, 3))
        cv2.line(image, tuple(map(int, ends[0])), tuple(map(int, ends[1])), color, int(rng.integers(1, 8)))
    if draw(st.booleans()):
        image = np.clip(image + rng.normal(0, draw(st.floats(0, 80)), image.shape), 0, 255).astype(np.uint8)
    return image


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pictures())
def test_every_box_lies_inside_the_frame(image: Image) -> None:
    height, width = image.shape[:2]

    for x, y, w, h in (region.box for region in find_digits(image)):
        assert 0 <= x < x + w <= width
        assert 0 <= y < y + h <= height


@pytest.mark.parametrize("step", STEP_NAMES)
def test_every_step_can_be_left_out(step: str) -> None:
    steps = Steps(**{step: False})

    assert steps != ALL_STEPS
    assert len(find_digits(draw_sheet(1).image_bgr, steps)) > 0
