from __future__ import annotations

from edgecnn_device.sources.backlog import Backlog


def steady(backlog: Backlog, count: int = 40, interval_s: float = 0.033) -> list[bool]:
    return [backlog.is_old(interval_s) for _ in range(count)]


def test_frames_of_a_steady_camera_are_fresh() -> None:
    assert not any(steady(Backlog()))


def test_what_comes_at_once_after_a_stall_is_old_until_one_has_to_be_waited_for() -> None:
    backlog = Backlog()
    steady(backlog)

    judged = [backlog.is_old(waited_s) for waited_s in (2.5, 0.001, 0.001, 0.002, 0.030, 0.033)]

    assert judged == [True, True, True, True, False, False]


def test_a_camera_of_one_frame_in_two_seconds_is_not_stalled() -> None:
    assert not any(steady(Backlog(), interval_s=2.0))


def test_a_short_hiccup_is_no_stall() -> None:
    backlog = Backlog()
    steady(backlog)

    assert not backlog.is_old(0.3)


def test_nothing_is_judged_before_the_rhythm_is_known() -> None:
    backlog = Backlog()

    assert not any(backlog.is_old(waited_s) for waited_s in (2.0, 0.03, 0.001))
