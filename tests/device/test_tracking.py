from __future__ import annotations

import numpy as np
from device_fakes import regions_at
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.testing import fake_classifier
from edgecnn_device.finders import Seen
from edgecnn_device.frames import Box
from edgecnn_device.tracking import PATIENCE, Tracker


def seen(boxes: list[Box], rows: list[list[float]] | None = None, rejected: list[bool] | None = None) -> Seen:
    probabilities = np.array(rows if rows is not None else [[0.9, 0.05, 0.05]] * len(boxes), np.float32).reshape(-1, 3)
    inputs = np.zeros((len(boxes), 20, 20, 1), np.uint8)
    return Seen(regions_at(boxes), inputs, probabilities, np.array(rejected or [False] * len(boxes), bool), {})


def ids(tracker: Tracker, boxes: list[Box], source: str = "cam") -> list[int]:
    return [prediction.region_id for prediction in tracker.update(source, seen(boxes), fake_classifier())]


def test_a_drifting_region_keeps_its_identity() -> None:
    tracker = Tracker()

    assert [ids(tracker, [(10 + 8 * i, 10, 30, 40)]) for i in range(4)] == [[1]] * 4


def test_identities_follow_their_boxes_when_the_order_changes() -> None:
    tracker = Tracker()
    left, right = (0, 0, 30, 40), (200, 0, 30, 40)
    ids(tracker, [left, right])

    assert ids(tracker, [right, left]) == [2, 1]


def test_a_box_elsewhere_gets_a_new_identity() -> None:
    tracker = Tracker()
    ids(tracker, [(0, 0, 30, 40)])

    assert ids(tracker, [(300, 0, 30, 40)]) == [2]


def test_a_region_that_was_away_for_a_moment_is_recognised() -> None:
    tracker = Tracker()
    ids(tracker, [(0, 0, 30, 40)])
    ids(tracker, [])

    assert ids(tracker, [(2, 0, 30, 40)]) == [1]


def test_a_region_that_was_away_for_long_is_forgotten() -> None:
    tracker = Tracker()
    ids(tracker, [(0, 0, 30, 40)])
    for _ in range(PATIENCE + 1):
        ids(tracker, [])

    assert ids(tracker, [(0, 0, 30, 40)]) == [2]


def test_the_next_picture_of_a_folder_has_nothing_to_do_with_the_one_before() -> None:
    tracker = Tracker()
    ids(tracker, [(0, 0, 30, 40)], source="a.png")

    assert ids(tracker, [(0, 0, 30, 40)], source="b.png") == [2]


def test_smoothing_averages_the_last_frames_and_leaves_the_raw_answer() -> None:
    tracker, box = Tracker(smooth=3), [(0, 0, 30, 40)]
    for _ in range(2):
        tracker.update("cam", seen(box, [[0.9, 0.05, 0.05]]), fake_classifier())

    (prediction,) = tracker.update("cam", seen(box, [[0.1, 0.2, 0.7]]), fake_classifier())

    assert (prediction.raw.label, prediction.smoothed.label) == ("light", "dark")
    np.testing.assert_allclose(prediction.smoothed.probabilities, [1.9 / 3, 0.1, 0.8 / 3], atol=1e-6)


def test_an_answer_below_the_reject_threshold_has_no_label() -> None:
    (prediction,) = Tracker().update("cam", seen([(0, 0, 9, 9)], [[0.4, 0.3, 0.3]]), fake_classifier(reject_threshold=0.5))

    assert (prediction.raw.label, prediction.smoothed.label, prediction.raw.class_id) == (None, None, 0)


def test_what_the_finder_rejects_has_no_label_however_sure_the_network_is() -> None:
    (prediction,) = Tracker().update("cam", seen([(0, 0, 9, 9)], rejected=[True]), fake_classifier())

    assert prediction.raw.label is None


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(1, 90), st.integers(1, 90)), max_size=8))
def test_no_two_regions_of_a_frame_share_an_identity(boxes: list[Box]) -> None:
    tracker = Tracker()
    tracker.update("cam", seen([(100, 100, 50, 50), (120, 100, 50, 50)]), fake_classifier())

    found = ids(tracker, boxes)

    assert len(set(found)) == len(boxes)
