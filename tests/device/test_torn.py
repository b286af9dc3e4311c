from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from device_fakes import frame

from edgecnn.testing import gray_picture
from edgecnn_device.frames import Image
from edgecnn_device.health import Health, Limits
from edgecnn_device.sources.synthetic import play_sheet, play_strip
from edgecnn_device.sources.transform import Transform
from edgecnn_device.torn import torn


def scene(seed: int = 0, size_hw: tuple[int, int] = (480, 640)) -> Image:
    """Return a picture `(h, w, 3)` with structure of every size and a sensor's noise."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    image = np.full((height, width, 3), 110.0)
    for side in (4, 16, 64):
        coarse = rng.normal(0, 20, (height // side + 2, width // side + 2, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def through_jpeg(image: Image, quality: int = 90) -> Image:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1), np.uint8)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_rows_that_repeat_down_to_the_end_are_a_torn(part: float) -> None:
    image = scene()
    image[round(part * 480) :] = image[round(part * 480)]

    assert "of 480 repeat" in torn(image)
    assert "of 480 repeat" in torn(through_jpeg(image))


def test_a_band_of_repeated_rows_in_the_middle_is_a_torn() -> None:
    image = scene()
    image[160:272] = image[159]

    assert torn(image).startswith("torn picture: rows 16")


@pytest.mark.parametrize("color", [(128, 128, 128), (130, 130, 130), (0, 135, 0), (0, 77, 0)])
@pytest.mark.parametrize("where", [np.s_[320:], np.s_[160:240, 320:480], np.s_[304:, 64:]])
def test_blocks_without_data_are_a_torn(color: tuple[int, int, int], where: slice) -> None:
    image = scene()
    image[where] = color

    assert "of the picture stayed" in torn(image)


def test_a_torn_frame_is_blind_and_has_no_class() -> None:
    image = scene()
    image[200:] = image[200]

    state = Health(Limits()).judge(frame(image), now_s=100.0)

    assert state.kind == ("blind", "torn picture")


def test_what_a_decoder_says_is_believed_where_the_picture_shows_nothing() -> None:
    good = frame(scene())
    said = dataclasses.replace(good, unusable="torn picture: concealing 12 DC errors")

    state = Health(Limits()).judge(said, now_s=100.0)

    assert state.reason == "torn picture: concealing 12 DC errors"


def test_a_tear_is_found_before_the_picture_is_turned_and_resized() -> None:
    from edgecnn_device.sources.live import transformed

    image = scene()
    image[240:] = image[240]

    turned = transformed(frame(image), Transform(size_wh=(200, 200), rotation=90))

    assert "repeat" in turned.unusable
    assert turned.image_bgr.shape == (200, 200, 3)


def ordinary() -> Iterator[tuple[str, Image]]:
    """Yield pictures that are whole, however odd they look."""
    rng = np.random.default_rng(1)
    plain = np.clip(128 + rng.normal(0, 2, (480, 640, 1)) + np.zeros(3), 0, 255).astype(np.uint8)
    lengthwise = scene()[240:241].repeat(480, axis=0)
    for level in (20, 110, 128, 200):
        yield f"plain belt of {level}", np.clip(plain.astype(int) - 128 + level, 0, 255).astype(np.uint8)
    yield "a belt that is the same lengthwise", lengthwise
    yield "a belt in a long exposure", np.asarray(cv2.blur(scene(), (1, 61)), np.uint8)
    yield "a flooded lower half", np.where(np.arange(480)[:, None, None] > 200, 255, scene()).astype(np.uint8)
    yield "a flooded picture with a part", np.clip(scene().astype(int) * 3, 0, 255).astype(np.uint8)
    yield "a dark lower half", np.where(np.arange(480)[:, None, None] > 200, 0, scene()).astype(np.uint8)
    yield "a dark picture", scene() // 8
    yield (
        "a bar on white paper",
        np.where((np.abs(np.arange(640) - 320) < 20)[None, :, None], 30, 255 - plain % 4).astype(np.uint8),
    )
    letterbox = scene()
    letterbox[:60] = letterbox[420:] = 128
    yield "gray borders", letterbox
    for play in (play_strip, play_sheet):
        for shown, _ in zip(play((640, 480), seed=2), range(30), strict=False):
            yield shown.source, shown.image_bgr


@pytest.mark.parametrize("quality", [None, 95, 50, 15])
def test_whole_pictures_are_not_called_torn(quality: int | None) -> None:
    for name, image in ordinary():
        shown = image if quality is None else through_jpeg(image, quality)

        assert torn(shown) == "", name


def test_a_gray_card_is_not_made_of_blocks() -> None:
    image = scene()
    image[163:243, 325:485] = 128

    assert torn(image) == ""


def test_enlarged_digits_of_the_data_set_are_not_called_torn() -> None:
    digit = np.zeros((28, 28, 3), np.uint8)
    digit[4:24, 13:15] = 255

    assert torn(np.asarray(cv2.resize(digit, (280, 280), interpolation=cv2.INTER_NEAREST), np.uint8)) == ""
    assert torn(np.asarray(cv2.resize(digit, (280, 280), interpolation=cv2.INTER_CUBIC), np.uint8)) == ""


def test_tiny_pictures_are_not_judged() -> None:
    assert torn(gray_picture(128, size_hw=(48, 64))) == ""
