"""What another tool's model says about its pixels is used; what it gives is never shown for something else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.artifacts.contract import TensorSpec
from edgecnn.artifacts.tflite_metadata import Described, describe
from edgecnn.endings import find_ending
from edgecnn.errors import InputError
from edgecnn.foreign import deduce_pixels
from edgecnn.normalization import NORMALIZATIONS


def spec(dtype: str, scale: float | None = None, zero_point: int | None = None, channels: int = 3) -> TensorSpec:
    return TensorSpec("picture", dtype, (None, 8, 8, channels), scale, zero_point)


INTEGERS = {
    "0..255 as int8": (spec("int8", 1.0, -128), "0..255"),
    "0..255 as uint8": (spec("uint8", 0.99, 0), "0..255"),
    "0..1 as int8": (spec("int8", 1 / 255, -128), "0..1"),
    "0..1 as uint8": (spec("uint8", 1 / 255, 0), "0..1"),
    "0..1, never white": (spec("uint8", 0.9 / 255, 0), "0..1"),
    "-1..1 as int8": (spec("int8", 2 / 255, -1), "-1..1"),
    "-1..1 as uint8": (spec("uint8", 1 / 128, 128), "-1..1"),
    "-1..1, never white": (spec("int8", 1.9 / 255, 6), "-1..1"),
    "imagenet": (spec("int8", (2.64 + 2.118) / 255, round(-128 + 2.118 / (4.758 / 255))), "imagenet"),
    "caffe": (spec("uint8", (151.06 + 123.68) / 255, round(123.68 / (274.74 / 255))), "caffe"),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_scale_and_zero_point_say_the_range(name: str) -> None:
    tensor, expected = INTEGERS[name]

    found = deduce_pixels(Described(), tensor, 3)

    assert found is not None and found[0] == NORMALIZATIONS[expected]
    assert "input holds" in found[1]


@pytest.mark.parametrize("tensor", [spec("int8", 0.5, 0), spec("uint8", 3.0, 7), spec("int16", 1 / 32767, 0)])
def test_a_range_that_is_not_usual_says_nothing(tensor: TensorSpec) -> None:
    assert deduce_pixels(Described(), tensor, 3) is None


@pytest.mark.parametrize(
    ("mean", "deviation", "expected"),
    [((0.0,), (255.0,), "0..1"), ((127.5,), (127.5,), "-1..1"), ((0.0,), (1.0,), "0..255"), ((127.0,), (128.0,), "-1..1")],
)
def test_metadata_says_it_for_floats(mean: tuple[float, ...], deviation: tuple[float, ...], expected: str) -> None:
    found = deduce_pixels(Described(mean, deviation), spec("float32"), 3)

    assert found == (NORMALIZATIONS[expected], "as its metadata says")


def test_metadata_by_channel_is_taken_as_it_is() -> None:
    mean, deviation = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

    found = deduce_pixels(Described(mean, deviation), spec("float32"), 3)

    assert found == (NORMALIZATIONS["imagenet"], "as its metadata says")


def test_metadata_that_contradicts_the_input_is_not_believed() -> None:
    found = deduce_pixels(Described((0.0,), (1.0,)), spec("uint8", 1 / 255, 0), 3)

    assert found is not None and found[0] == NORMALIZATIONS["0..1"]


OTHERWISE = {
    "bytes": (Described(), spec("uint8"), "0..255"),
    "floats that are rounded first": (Described(rounding=(2 / 255, -1)), spec("float32"), "-1..1"),
    "a division inside": (Described(arithmetic=((1 / 255,), (0.0,))), spec("float32"), "0..255"),
    "means inside": (Described(arithmetic=((0.0171, 0.0175, 0.0174), (-2.1, -2.0, -1.8))), spec("float32"), "0..255"),
    "a shift of 0..1 inside": (Described(arithmetic=((2.0,), (-1.0,))), spec("float32"), "0..1"),
    "tiny weights": (Described(first_weights=0.004), spec("float32"), "0..255"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_the_graph_itself_may_say_it(name: str) -> None:
    said, tensor, expected = OTHERWISE[name]

    found = deduce_pixels(said, tensor, 3)

    assert found is not None and found[0] == NORMALIZATIONS[expected]


def test_floats_of_which_nothing_is_said_stay_unknown() -> None:
    assert deduce_pixels(Described(first_weights=0.9), spec("float32"), 3) is None


def test_a_range_of_colours_is_not_deduced_for_gray() -> None:
    assert deduce_pixels(Described(), spec("int8", 4.758 / 255, -14, channels=1), 1) is None


@given(content=st.binary(max_size=400))
def test_any_bytes_describe_nothing_rather_than_fail(content: bytes) -> None:
    describe(content)
    describe(b"\x1c\0\0\0TFL3" + content)


SURE = np.array([[0.1, 0.9], [0.7, 0.3]], np.float32)


def test_probabilities_stay() -> None:
    assert find_ending(SURE, None, ("a", "b")).probabilities(SURE) is SURE


@pytest.mark.parametrize("last", ["linear", None])
def test_logits_get_a_softmax(last: str | None) -> None:
    scores = np.array([[4.0, -2.0], [0.5, 0.5]], np.float32)

    ending = find_ending(scores, last, ("a", "b"))

    assert ending.note is not None
    np.testing.assert_allclose(
        ending.probabilities(scores), [[1 / (1 + np.exp(-6)), 1 / (1 + np.exp(6))], [0.5, 0.5]], rtol=1e-5
    )


def test_one_sigmoid_is_the_probability_of_the_second_label() -> None:
    scores = np.array([[0.2], [0.9]], np.float32)

    np.testing.assert_allclose(
        find_ending(scores, "sigmoid", ("a", "b")).probabilities(scores), [[0.8, 0.2], [0.1, 0.9]], rtol=1e-6
    )


def test_one_logit_is_made_a_probability_first() -> None:
    scores = np.array([[3.0], [-1.0]], np.float32)

    found = find_ending(scores, None, ("a", "b")).probabilities(scores)

    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp([-3.0, 1.0])), rtol=1e-6)


def test_eight_bits_need_not_add_up_exactly() -> None:
    scores = np.full((1, 3), 85 / 256, np.float32)

    assert find_ending(scores, None, ("a", "b", "c"), rounded=True).head == "probabilities"


@pytest.mark.parametrize(
    ("scores", "labels", "said"),
    [
        ([[0.9, 0.9]], ("a", "b"), "several may be true at once"),
        ([[0.2]], ("a", "b", "c"), "1 output, which serves two classes, but 3 labels"),
        ([[0.2, 0.8]], ("a", "b", "c"), "2 classes, but 3 labels"),
        ([[np.nan, 0.8]], ("a", "b"), "not numbers"),
    ],
)
def test_scores_that_are_no_choice_among_the_labels_are_one_line(
    scores: list[list[float]], labels: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        find_ending(np.array(scores, np.float32), None, labels)
