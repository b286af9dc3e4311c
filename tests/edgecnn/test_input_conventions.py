"""How another tool's model wants its pixels is stated the same way everywhere, and in figures that can be checked."""

from __future__ import annotations

import numpy as np
import pytest

from edgecnn.errors import InputError
from edgecnn.normalization import NORMALIZATIONS, RAW, InputConvention, Normalization

Stated = dict[str, str | None]
NOTHING: Stated = {"pixel_range": None, "scale": None, "offset": None, "color": None}


def test_the_named_ranges_end_where_their_names_say() -> None:
    ends = {name: NORMALIZATIONS[name].table(1)[[0, 255], 0].tolist() for name in ("0..255", "0..1", "-1..1")}

    assert ends == {"0..255": [0, 255], "0..1": [0, 1], "-1..1": [-1, 1]}


def test_imagenet_is_mean_and_deviation_of_each_colour() -> None:
    table = NORMALIZATIONS["imagenet"].table(3)

    expected = (np.arange(256)[:, None] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(table, expected, atol=1e-12)


def test_a_color_may_be_stated_without_a_range() -> None:
    convention = InputConvention.parse(**NOTHING | {"color": "bgr"})

    assert convention.normalization(3) == Normalization(bgr=True)
    assert convention.normalization(3, NORMALIZATIONS["-1..1"]) == Normalization((1 / 127.5,), (-1.0,), bgr=True)


def test_a_stated_range_wins_over_a_deduced_one() -> None:
    convention = InputConvention.parse(**NOTHING | {"pixel_range": "0..1"})

    assert convention.normalization(3, NORMALIZATIONS["-1..1"]) == NORMALIZATIONS["0..1"]


def test_scale_and_offset_may_be_one_number_or_one_a_colour() -> None:
    convention = InputConvention.parse(**NOTHING | {"scale": "0.017,0.0175,0.0174", "offset": "-2"})

    assert convention.normalization(3) == Normalization((0.017, 0.0175, 0.0174), (-2.0,))


def test_nothing_stated_means_raw_pixels() -> None:
    convention = InputConvention.parse(**NOTHING)

    assert (convention.stated, convention.normalization(1)) == (False, RAW)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"pixel_range": "0..1", "scale": "2"}, "give one or the other"),
        ({"scale": "nan"}, "a pixel scale is one number"),
        ({"scale": "0"}, "would make all pictures the same"),
        ({"scale": "1,2"}, "one each for red, green and blue"),
        ({"offset": "x"}, "--pixel-offset x: expected a number"),
    ],
)
def test_a_convention_that_cannot_be_meant_is_one_line(stated: Stated, said: str) -> None:
    with pytest.raises(InputError, match=said):
        InputConvention.parse(**NOTHING | stated)


@pytest.mark.parametrize(
    ("convention", "channels"),
    [(InputConvention(color="gray"), 3), (InputConvention(color="rgb"), 1), (InputConvention(NORMALIZATIONS["imagenet"]), 1)],
)
def test_a_convention_of_colours_needs_a_model_of_colours(convention: InputConvention, channels: int) -> None:
    with pytest.raises(InputError, match=r"does not fit|is for pictures in colour"):
        convention.normalization(channels)
