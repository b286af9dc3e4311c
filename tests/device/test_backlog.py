from __future__ import annotations

from edgecnn_device.sources.backlog import Backlog


def steady(backlog: Backlog, count: int = 40, interval_s: float = 0.033) -> list[bool]:
    return [backlog.is_old(interval_s) for _ in range(count)]


def test_frames_of_a_steady_camera_are_fresh_from_the_second_on() -> None:
    assert steady(Backlog()) == [True] + [False] * 39


def test_what_comes_at_once_after_a_stall_is_old_until_frames_have_to_be_waited_for() -> None:
    backlog = Backlog()
    steady(backlog)

    judged = [backlog.is_old(waited_s) for waited_s in (2.5, 0.001, 0.001, 0.002, 0.030, 0.033, 0.033)]

    assert judged == [True, True, True, True, True, False, False]


def test_what_was_collected_while_the_stream_was_opened_is_old() -> None:
    backlog = Backlog()

    judged = [backlog.is_old(waited_s) for waited_s in (0.0, 0.001, 0.002, 0.030, 0.033)]

    assert judged == [True, True, True, True, False]


def test_a_single_wait_amid_a_backlog_is_a_busy_processor() -> None:
    backlog = Backlog()

    judged = [backlog.is_old(waited_s) for waited_s in (0.0, 0.050, 0.001, 0.030, 0.033)]

    assert judged == [True, True, True, True, False]


def test_a_camera_of_one_frame_in_two_seconds_is_not_stalled() -> None:
    assert not any(steady(Backlog(), interval_s=2.0)[1:])


def test_a_short_hiccup_is_no_stall() -> None:
    backlog = Backlog()
    steady(backlog)

    assert not backlog.is_old(0.3)


def test_a_source_that_never_lets_us_wait_is_read_in_the_end() -> None:
    backlog = Backlog()

    judged = [backlog.is_old(0.0) for _ in range(400)]

    assert not any(judged[200:])


def test_a_camera_that_hangs_again_when_it_has_hardly_begun_is_noticed() -> None:
    backlog = Backlog()
    fresh = [backlog.is_old(0.07) for _ in range(3)].count(False)

    judged = [backlog.is_old(waited_s) for waited_s in (2.1, 0.005, 0.08, 0.07, 0.07)]

    assert fresh > 0
    assert judged == [True, True, True, False, False]


def test_a_slow_camera_that_began_with_a_burst_is_soon_believed() -> None:
    backlog = Backlog()
    for waited_s in (0.012, 0.012):
        backlog.is_old(waited_s)

    judged = steady(backlog, interval_s=2.0)

    assert judged.index(False) <= 2
    assert not any(judged[3:])


def test_a_camera_that_slows_down_for_good_is_believed_again() -> None:
    backlog = Backlog()
    steady(backlog)

    judged = steady(backlog, count=60, interval_s=1.0)

    assert judged.index(False) <= 2
    assert not any(judged[30:])
