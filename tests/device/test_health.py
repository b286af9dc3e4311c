from __future__ import annotations

import numpy as np
import pytest
from device_fakes import frame
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.testing import gray_picture
from edgecnn_device.frames import Image, Missing
from edgecnn_device.health import Health, Limits


def judge(image: Image) -> str:
    state = Health(Limits()).judge(frame(image), now_s=100.0)
    return f"{state.name} {state.reason}".strip()


def test_an_ordinary_picture_is_ok() -> None:
    assert judge(gray_picture(128)) == "ok"


@pytest.mark.parametrize("level", [0, 5, 15])
def test_a_covered_sensor_is_blind_in_spite_of_its_noise(level: int) -> None:
    assert judge(gray_picture(level, size_hw=(480, 640))) == "blind black picture"


def test_a_time_stamp_does_not_make_a_black_picture_a_view() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    image[8:20, 8:200] = 255

    assert judge(image) == "blind black picture"


def test_a_flooded_sensor_is_blind() -> None:
    assert judge(np.maximum(gray_picture(255, size_hw=(480, 640)), 246)) == "blind saturated picture"


def test_a_small_mark_on_white_paper_is_seen() -> None:
    image = np.full((480, 640, 3), 255, np.uint8)
    image[100:130, 100:104] = 30

    assert judge(image) == "ok"


@pytest.mark.parametrize("color", [(0, 135, 0), (128, 128, 128), (200, 40, 40)])
def test_one_colour_all_over_is_blind(color: tuple[int, int, int]) -> None:
    image = np.zeros((240, 320, 3), np.uint8) + np.array(color, np.uint8)

    assert judge(image) == "blind picture without any contrast"


def test_a_handwritten_digit_on_black_in_the_data_sets_own_size_is_seen() -> None:
    image = np.zeros((28, 28, 3), np.uint8)
    image[4:24, 13:15] = 255

    assert judge(image) == "ok"


def test_the_same_picture_becomes_frozen_after_the_limit() -> None:
    health, image = Health(Limits(frozen_after_s=1.0)), gray_picture(128)

    states = [health.judge(frame(image.copy(), at_s=at_s), at_s).name for at_s in (100.0, 100.5, 101.0, 101.1)]

    assert states == ["ok", "ok", "ok", "stale"]


def test_one_changed_pixel_outside_the_sampled_grid_thaws_a_picture() -> None:
    health, image = Health(Limits(frozen_after_s=1.0)), gray_picture(128, size_hw=(480, 640))
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    for at_s in (100.0, 102.0):
        health.judge(frame(image, at_s=at_s), at_s)

    assert health.judge(frame(changed, at_s=102.1), 102.1).name == "ok"


def test_a_file_that_repeats_a_picture_is_not_frozen() -> None:
    health, image = Health(Limits(live=False)), gray_picture(128)

    states = {health.judge(frame(image, at_s=at_s), at_s).name for at_s in (100.0, 200.0, 300.0)}

    assert states == {"ok"}


@given(age_s=st.floats(0, 100), limit_s=st.floats(0.1, 10))
def test_a_frame_is_late_exactly_beyond_the_limit(age_s: float, limit_s: float) -> None:
    state = Health(Limits(max_age_s=limit_s)).judge(frame(at_s=0.0), now_s=age_s)

    assert (state.name == "stale") == (age_s > limit_s)


def test_silence_is_stale_once_a_frame_is_overdue_and_tells_the_reason() -> None:
    health, missing = Health(Limits(max_age_s=1.5)), Missing("cam", "connection refused", since_s=100.0)

    early, late = health.judge_missing(missing, 101.0), health.judge_missing(missing, 102.0)

    assert (early.name, late.name, late.reason) == ("ok", "stale", "lost: no frame for 2.0 s (connection refused)")
