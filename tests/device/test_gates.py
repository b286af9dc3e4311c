from __future__ import annotations

import cv2
import numpy as np
import pytest
from device_fakes import frame

from edgecnn.testing import gray_picture
from edgecnn_device.frames import Image
from edgecnn_device.gates import Interval, Motion, both
from edgecnn_device.sources.synthetic import play_strip


def test_an_interval_lets_one_frame_in_so_many_seconds_pass() -> None:
    gate = Interval(1.0)

    assert [gate(frame(at_s=100 + 0.4 * i)) for i in range(6)] == [True, False, False, True, False, True]


def test_noise_is_no_motion() -> None:
    gate = Motion(linger_s=0.5)
    gate(frame(gray_picture(128, 0), at_s=100.0))

    assert not gate(frame(gray_picture(128, 1), at_s=101.0))


def test_something_that_moves_lets_its_frame_and_those_shortly_after_pass() -> None:
    gate, changed = Motion(linger_s=0.5), gray_picture(128, 1)
    changed[10:30, 10:30] = 0
    gate(frame(gray_picture(128, 0), at_s=100.0))

    passed = [gate(frame(changed, at_s=at_s)) for at_s in (101.0, 101.4, 101.6)]

    assert passed == [True, True, False]


def test_both_gates_must_agree() -> None:
    gate = both(lambda frame: frame.number > 1, lambda frame: frame.number < 3)

    assert [gate(frame(number=n)) for n in (1, 2, 3)] == [False, True, False]


def lit(image: Image, number: int, *, hertz: float, swing: float, readout_s: float, fps: float = 29.97) -> Image:
    """Return `(h, w, 3)` as a sensor that reads its rows in `readout_s` sees it by a lamp at mains of `hertz`."""
    times_s = number / fps + np.arange(len(image)) / len(image) * readout_s
    light = 1 + swing * np.sin(2 * np.pi * 2 * hertz * times_s)
    noise = np.random.default_rng(number).normal(0, 2, image.shape)
    return np.clip(image * light[:, None, None] + noise, 0, 255).astype(np.uint8)


def scene() -> Image:
    """Return a picture `(240, 320, 3)` with things of every brightness."""
    coarse = np.random.default_rng(3).integers(30, 200, (12, 16, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC), np.uint8)


def passed(images: list[Image], *, turned: bool = False) -> list[bool]:
    """Return which frames but the first pass the gate."""
    gate = Motion(linger_s=0.0)
    shown = [np.ascontiguousarray(np.rot90(image)) if turned else image for image in images]
    return [gate(frame(image, number, at_s=100.0 + number)) for number, image in enumerate(shown)][1:]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("hertz", [50.0, 60.0])
@pytest.mark.parametrize("readout_s", [0.0, 1 / 60, 1 / 30, 1 / 12])
@pytest.mark.parametrize("swing", [0.1, 0.25, 0.4])
def test_lamps_that_flicker_are_no_motion(hertz: float, readout_s: float, swing: float, turned: bool) -> None:
    images = [lit(scene(), number, hertz=hertz, swing=swing, readout_s=readout_s, fps=23.0) for number in range(6)]

    assert not any(passed(images, turned=turned))


def test_white_paper_that_is_flooded_now_and_then_is_no_motion() -> None:
    images = [lit(np.full_like(scene(), 235), number, hertz=50.0, swing=0.25, readout_s=1 / 30) for number in range(6)]

    assert not any(passed(images))


@pytest.mark.parametrize("readout_s", [0.0, 1 / 30])
@pytest.mark.parametrize(("width", "height"), [(30, 30), (60, 240), (200, 150)])
def test_what_moves_under_a_lamp_that_flickers_is_motion(width: int, height: int, readout_s: float) -> None:
    images = []
    for number in range(6):
        image = scene()
        image[10 * number : 10 * number + height, 15 * number : 15 * number + width] = 220
        images.append(lit(image, number, hertz=50.0, swing=0.25, readout_s=readout_s))

    assert all(passed(images))


@pytest.mark.parametrize("swing", [0.0, 0.25])
def test_a_strip_that_passes_by_is_motion_in_any_light(swing: float) -> None:
    shown = [seen.image_bgr for seen, _ in zip(play_strip((320, 240)), range(6), strict=False)]
    images = [lit(image, number, hertz=60.0, swing=swing, readout_s=1 / 30) for number, image in enumerate(shown)]

    assert all(passed(images))


def test_a_bar_right_across_the_picture_is_motion_in_steady_light() -> None:
    images = []
    for number in range(6):
        image = np.full_like(scene(), 128)
        image[20 + 12 * number : 60 + 12 * number] = 180
        images.append(lit(image, number, hertz=50.0, swing=0.0, readout_s=0.0))

    assert all(passed(images))
