from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.classifier import Classifier
from edgecnn.errors import InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn.testing import FakeRuntime, JumpingClock, fake_classifier, gray_picture
from edgecnn_device.finders import ReadHandwritingOverTime, Tiles, choose_look, find_whole, look_at, read_handwriting, spans


@given(length=st.integers(1, 4000), count=st.integers(1, 64), overlap=st.floats(0, 0.9))
def test_spans_begin_at_the_beginning_end_at_the_end_and_leave_no_gap(length: int, count: int, overlap: float) -> None:
    count = min(count, length)

    found = spans(length, count, overlap)

    assert len({size for _, size in found}) == 1
    assert found[0][0] == 0
    assert found[-1][0] + found[-1][1] == length
    assert all(b <= a + size for (a, size), (b, _) in pairwise(found))


def test_six_tiles_of_a_strip_are_six_squares_side_by_side() -> None:
    regions = Tiles(6, 1)(np.zeros((200, 1200, 3), np.uint8))

    assert [region.box for region in regions] == [(200 * i, 0, 200, 200) for i in range(6)]


def test_overlapping_tiles_share_that_part_of_their_side() -> None:
    regions = Tiles(3, 1, 0.5)(np.zeros((100, 400, 3), np.uint8))

    assert [region.box for region in regions] == [(0, 0, 200, 100), (100, 0, 200, 100), (200, 0, 200, 100)]


def test_tiles_are_classified_as_one_batch() -> None:
    runtime = FakeRuntime()
    image = np.concatenate([gray_picture(20), gray_picture(128), gray_picture(230)], axis=1)

    seen = look_at(Tiles(3, 1))(image, fake_classifier(runtime=runtime), JumpingClock())

    assert runtime.batches == [3]
    assert seen.probabilities.argmax(axis=1).tolist() == [0, 1, 2]


def test_a_novel_region_says_what_is_novel_and_another_what_speaks_for_it() -> None:
    classifier, image = Classifier.open("neu"), gray_picture(128, size_hw=(200, 200))

    novel, known = (
        look_at(find_whole, where=True)(image, classifier.rejecting(None, novelty), JumpingClock()).where
        for novelty in (1e-6, 1e6)
    )

    assert novel is not None and known is not None
    assert [name for _, name in novel + known] == ["novelty", "class"]
    assert all(min(x, y) >= 0 and max(x + w, y + h) <= 200 for (x, y, w, h), _ in novel + known)


@pytest.mark.parametrize("text", ["6", "x1", "0x1", "6x1x1", "65x1", "-1x2", "axb"])
def test_tiles_that_make_no_grid_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="such as 6x1"):
        Tiles.parse(text, 0.0)


def test_digits_are_looked_for_only_by_a_model_of_digits() -> None:
    with pytest.raises(InputError, match="needs a model of handwritten digits"):
        choose_look(Preprocessing(200, 200), find="digits")


def test_a_camera_of_digits_reads_only_what_changed() -> None:
    look = choose_look(Preprocessing(28, 28, "gray", "digit"), live=True)

    assert isinstance(look, ReadHandwritingOverTime)


def test_a_model_of_digits_looks_for_digits_by_itself() -> None:
    assert choose_look(Preprocessing(28, 28, "gray", "digit")) is read_handwriting
