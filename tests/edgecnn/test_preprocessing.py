"""Any picture becomes the model's input, the same bits everywhere, without aliasing."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.datasets.synthetic.digits import generate_digits
from edgecnn.errors import InputError, ShapeError
from edgecnn.preprocessing import Color, Fit, Preprocessing, resize


def _texture(height: int, width: int, channels: int = 0, seed: int = 0) -> NDArray[np.uint8]:
    """Noise over a slope, made by integers only; `channels` 0 makes `(h, w)`."""
    random = np.random.RandomState(seed)
    shape = (height, width, channels) if channels else (height, width)
    slope = (np.arange(width) * 160 // width)[None, :, None] if channels else (np.arange(width) * 160 // width)[None]
    return np.asarray(slope + random.randint(0, 96, shape), np.uint8)


def _sha256(image: NDArray[np.uint8]) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


RESIZED = {
    ((200, 200), (28, 28), 0): "691404d1667d5acd8f2fd29b2f42ec34b24eea9228e238998882d5de48248de3",
    ((480, 640), (200, 200), 0): "5db519cf58a4f18baa3fcf8747357ad1f4c8397258575b4d30d8ca3168a8e808",
    ((480, 640), (200, 200), 3): "807429664c464ce944784a40238ad9f4e053989dc4b5074f9ea8ca2a641a6033",
    ((37, 211), (64, 64), 0): "0682ed186da14adf4c1ec6f823f50b88de51940e68585f191a5e21dea297c3b8",
    ((28, 28), (200, 200), 3): "6ba1cc4db7c23629d09399b31c12d76735008b8d332bf0cea7e01ab05da64236",
    ((1000, 1), (28, 28), 0): "1371d332042f6f5ebad1aab82cc603818efbef914584a7ec3d1ab7d31cda973e",
}
PREPARED = {
    ("gray", "squash"): "3baae816d367184cd9769c9c243568d1c84eafe548f18b23f7950585ebfa4fac",
    ("gray", "crop"): "0282430f6da071801ae40769a77055ce91815a09d9e1da9fcb66d203f8569987",
    ("gray", "pad"): "e77f2479c097adc9efd5690b25011bca292ee19dd32deafa1eccd5e2b2a07d52",
    ("rgb", "squash"): "d9dade421f1d9c12a35e507df69f7de2b8f59a9ebc4c2721027ff32d95881185",
    ("rgb", "crop"): "bf821e339d9454578dddac722cc24d395b69ed16acdc43c93ce725868fb28af2",
    ("rgb", "pad"): "56272b4237198c2dc1fd73f05f6b2c6f065a6833fe8c6fa7e71a75c8a4650208",
}


@pytest.mark.parametrize(("source_hw", "target_hw", "channels"), RESIZED)
def test_resizing_is_pinned_to_the_bit(source_hw: tuple[int, int], target_hw: tuple[int, int], channels: int) -> None:
    resized = resize(_texture(*source_hw, channels), target_hw)

    assert _sha256(resized) == RESIZED[source_hw, target_hw, channels]


@pytest.mark.parametrize(("color", "fit"), PREPARED)
def test_preparing_is_pinned_to_the_bit(color: Color, fit: Fit) -> None:
    prepared = Preprocessing(60, 80, color, fit)(_texture(150, 120, 3))

    assert _sha256(prepared) == PREPARED[color, fit]


@given(side=st.integers(1, 60), other=st.integers(1, 60), fit=st.sampled_from(["squash", "crop", "pad"]))
def test_a_picture_of_the_models_size_passes_unchanged(side: int, other: int, fit: Any) -> None:
    image = _texture(side, other)

    prepared = Preprocessing(side, other, "gray", fit)(image)

    assert (prepared == image[:, :, None]).all()


def test_a_digit_of_mnist_size_passes_unchanged() -> None:
    image = _texture(28, 28)

    assert (Preprocessing(28, 28, "gray", "digit")(image) == image[:, :, None]).all()


@settings(max_examples=200, deadline=None)
@given(
    source=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    channels=st.sampled_from([0, 1, 3]),
    target=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    color=st.sampled_from(["gray", "rgb"]),
    fit=st.sampled_from(["squash", "crop", "pad"]),
)
def test_any_picture_becomes_the_models_input(
    source: tuple[int, int], channels: int, target: tuple[int, int], color: Any, fit: Any
) -> None:
    preprocessing = Preprocessing(*target, color, fit)

    prepared = preprocessing(_texture(*source, channels))

    assert (prepared.shape, prepared.dtype.name) == (preprocessing.shape, "uint8")
    assert prepared.flags.c_contiguous


@settings(max_examples=100, deadline=None)
@given(height=st.integers(1, 120), width=st.integers(1, 120), level=st.integers(0, 255), seed=st.integers(0, 9))
def test_any_scribble_becomes_a_digit_form(height: int, width: int, level: int, seed: int) -> None:
    image = np.full((height, width), level, np.uint8)
    random = np.random.RandomState(seed)
    image[random.randint(0, height) :, random.randint(0, width) :][:9, :9] = random.randint(0, 256)

    assert Preprocessing(28, 28, "gray", "digit")(image).shape == (28, 28, 1)


@settings(max_examples=100, deadline=None)
@given(
    level=st.integers(0, 255),
    source=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    target=st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_a_picture_of_one_gray_keeps_it(level: int, source: tuple[int, int], target: tuple[int, int]) -> None:
    resized = resize(np.full(source, level, np.uint8), target)

    assert (resized == level).all()


@settings(max_examples=60, deadline=None)
@given(image_hw=st.tuples(st.integers(1, 90), st.integers(1, 90)), seed=st.integers(0, 99))
def test_the_view_that_a_picture_comes_in_does_not_matter(image_hw: tuple[int, int], seed: int) -> None:
    canvas = _texture(image_hw[0] + 20, image_hw[1] + 20, 3, seed)
    view = canvas[7 : 7 + image_hw[0], 11 : 11 + image_hw[1]]

    prepared = Preprocessing(24, 24, "rgb", "crop")

    assert (prepared(view) == prepared(view.copy())).all()
    assert (prepared(view[:, ::-1]) == prepared(view[:, ::-1].copy())).all()


def test_the_callers_picture_is_left_alone() -> None:
    image = _texture(90, 70, 3)
    before = image.copy()

    for fit in ("squash", "crop", "pad"):
        Preprocessing(20, 20, "rgb", fit)(image)

    assert (image == before).all()


@pytest.mark.parametrize("side", [112, 224, 300])
def test_a_fine_checkerboard_becomes_gray(side: int) -> None:
    board = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)

    resized = resize(board, (28, 28))

    assert np.abs(resized.astype(int) - 127).max() <= 4


@pytest.mark.parametrize("axis", [0, 1])
def test_shrinking_along_one_axis_leaves_the_other_sharp(axis: int) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    board = stripes if axis == 0 else stripes.T

    resized = resize(board, (16, 64) if axis == 0 else (64, 16))

    assert set(np.unique(resized)) == {0, 255}


def test_colour_becomes_gray_by_the_weights_of_bt601() -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    image[0, 0, 0], image[0, 1, 1], image[0, 2, 2] = 255, 255, 255  # blue, green, red

    assert Preprocessing(1, 3)(image)[0, :, 0].tolist() == [29, 150, 76]


def test_bgr_becomes_rgb() -> None:
    image = np.array([[[1, 2, 3]]], np.uint8)

    assert Preprocessing(1, 1, "rgb")(image).tolist() == [[[3, 2, 1]]]


def test_crop_takes_the_middle() -> None:
    image = np.zeros((10, 30), np.uint8)
    image[:, 10:20] = 200

    assert (Preprocessing(10, 10, "gray", "crop")(image) == 200).all()


def test_pad_adds_black_bars() -> None:
    prepared = Preprocessing(20, 20, "gray", "pad")(np.full((10, 20), 200, np.uint8))

    assert prepared[:, 0, 0].tolist() == [0] * 5 + [200] * 10 + [0] * 5


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), np.uint16),
        np.zeros((4, 4), bool),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 1), np.uint8),
        np.zeros(16, np.uint8),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
    ],
    ids=lambda image: f"{image.shape} {image.dtype}",
)
def test_what_is_no_picture_is_refused_with_its_shape(image: NDArray[Any]) -> None:
    with pytest.raises(ShapeError, match=r"expected a picture .* uint8, got"):
        Preprocessing(4, 4)(image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5), "1..4096 pixels per side, got 0 x 5"),
        ((5, 4097), "got 5 x 4097"),
        ((5, 5, "bgr"), "unknown color 'bgr'; known: gray, rgb"),
        ((5, 5, "gray", "stretch"), "unknown fit 'stretch'; known: squash, crop, pad, digit"),
        ((32, 32, "gray", "digit"), r"fit 'digit' makes \(28, 28, 1\), not \(32, 32, 1\)"),
    ],
)
def test_impossible_inputs_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessing(*arguments)


def _on_paper(digit: NDArray[np.uint8], side: int = 120) -> NDArray[np.uint8]:
    """Return a digit `(28, 28)`, light on black, as dark writing on light, slightly noisy paper."""
    paper = 220 - (resize(digit, (side, side)).astype(np.int16) * 3) // 4
    return np.clip(paper + np.random.RandomState(1).randint(-4, 5, paper.shape), 0, 255).astype(np.uint8)


def _scratch_across_steel(side: int = 200) -> NDArray[np.uint8]:
    steel = _texture(side, side).astype(np.int16) // 4 + 60
    steel[:, 95:104] += 110
    return np.clip(steel, 0, 255).astype(np.uint8)


READER = Preprocessing(28, 28, fit="digit")


def test_a_digit_on_paper_is_not_strange_to_a_reader_of_digits() -> None:
    digits = generate_digits(2, seed=5).images[..., 0]

    assert max(READER.strangeness(_on_paper(digit)) for digit in digits) < 1


@pytest.mark.parametrize("turn", [0, 1])
def test_a_stroke_from_border_to_border_is_strange_however_clean_it_is(turn: int) -> None:
    assert READER.strangeness(np.rot90(_scratch_across_steel(), turn)) > 1


def test_a_rough_surface_is_strange_to_a_reader_of_digits() -> None:
    assert READER.strangeness(_texture(90, 120)) > 1


def test_other_models_judge_for_themselves() -> None:
    assert Preprocessing(64, 64).strangeness(_texture(90, 120)) == 0
    assert READER.strangeness(_texture(28, 28)) == 0
    assert READER.strangeness(np.full((50, 50), 128, np.uint8)) == 0


def test_a_scratch_across_steel_is_novel_to_the_shipped_reader_and_not_a_one() -> None:
    reader, scratch = Classifier.open("mnist"), _scratch_across_steel()

    assert reader.classify([scratch])[0].verdict == "novel"
    assert reader.rejecting(0.0, 100.0).classify([scratch])[0].label == "1"
