"""Which observations are written to files and journals that are to last for months."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from device_fakes import frame

from edgecnn.classifier import Prediction
from edgecnn.errors import InputError
from edgecnn.testing import JumpingClock, ListSink, gray_picture
from edgecnn_device.frames import OK, Observation, Region, RegionPrediction, State
from edgecnn_device.sinks.selection import Changes, EverySeconds, Selected, WritePolicy
from edgecnn_device.sinks.timeline import Timeline

PICTURE = gray_picture(128)


def seen(*labels: str | None, at_s: float = 0.0, number: int = 0, media_time_s: float | None = None) -> Observation:
    """Return an observation with one region for each label."""
    taken = replace(frame(PICTURE, number, at_s=at_s), media_time_s=media_time_s)
    return Observation("cam", OK, taken, regions(labels))


@functools.cache
def regions(labels: tuple[str | None, ...]) -> tuple[RegionPrediction, ...]:
    answers = [Prediction(label, 0, 0.9, np.array([0.9], np.float32)) for label in labels]
    return tuple(RegionPrediction(n, Region((0, 0, 9, 9), PICTURE), PICTURE, a, a) for n, a in enumerate(answers))


def lost(seconds: float = 2.0, reason: str = "lost") -> Observation:
    return Observation("cam", State("stale", f"{reason}: no frame for {seconds:.1f} s (refused)"))


def camera_changes(clock: JumpingClock, **limits: float | None) -> Changes:
    return Changes(Timeline(live=True, fps=30, clock=clock), **limits)  # type: ignore[arg-type]


def written(select: Changes | EverySeconds, observations: list[Observation]) -> list[int]:
    return [number for number, observation in enumerate(observations) if select(observation)]


def test_a_camera_that_says_the_same_for_a_day_is_a_line_a_minute() -> None:
    clock = JumpingClock()

    assert len(written(camera_changes(clock), [seen("a", at_s=second / 2) for second in range(2 * 86400)])) == 1440


def test_an_answer_that_changes_is_written_at_once_in_whichever_region() -> None:
    observations = [seen("a", "b"), seen("a", "b"), seen("a", "c"), seen("a", "c"), seen(None, "c"), seen(None)]

    assert written(camera_changes(JumpingClock()), observations) == [0, 2, 4, 5]


def test_a_state_that_changes_is_written_at_once_and_its_counting_seconds_are_no_change() -> None:
    observations = [seen("a"), lost(2.0), lost(3.0), lost(4.0), lost(reason="frozen"), seen("a")]

    assert written(camera_changes(JumpingClock()), observations) == [0, 1, 4, 5]


def test_a_warning_that_comes_or_goes_is_written_at_once() -> None:
    observations = [seen("a"), replace(seen("a"), warning="refused"), replace(seen("a"), warning="refused"), seen("a")]

    assert written(camera_changes(JumpingClock()), observations) == [0, 1, 3]


def test_an_answer_that_flickers_with_every_frame_for_a_day_does_not_fill_the_card() -> None:
    hour = [seen("a" if number % 2 else "b", at_s=number / 30) for number in range(30 * 3600)]

    chosen = written(camera_changes(JumpingClock(), burst=60, per_s=1.0), hour)

    assert 3600 <= len(chosen) <= 3600 + 60
    assert chosen[:60] == list(range(60))


def test_after_a_flicker_the_newest_answer_is_written_late_rather_than_never() -> None:
    flicker = [seen("a" if number % 2 else "b", at_s=number / 30) for number in range(30)]
    settled = [seen("c", at_s=1 + number / 30) for number in range(60)]

    chosen = written(camera_changes(JumpingClock(), burst=5, per_s=1.0), [*flicker, *settled])

    assert len([number for number in chosen if number >= 30]) == 1


def test_every_so_many_seconds_keeps_in_step_and_makes_nothing_up_after_a_silence() -> None:
    times_s = [0.0, 0.3, 5.2, 9.9, 10.1, 60.0, 60.1, 65.0]
    select = EverySeconds(Timeline(live=True, fps=30), 5.0)

    assert written(select, [seen("a", at_s=at_s) for at_s in times_s]) == [0, 2, 4, 5, 7]


def test_seconds_of_a_file_are_those_of_the_video_however_fast_it_is_read() -> None:
    select = EverySeconds(Timeline(live=False, fps=25), 2.0)

    assert written(select, [seen("a", number=n, media_time_s=n * 0.5) for n in range(9)]) == [0, 4, 8]


def test_seconds_of_a_file_that_begins_again_go_on() -> None:
    timeline = Timeline(live=False, fps=2)

    found = [timeline.at(seen("a", number=n, media_time_s=(n % 3) * 0.5)) for n in range(6)]

    assert found == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


def test_pictures_without_a_time_are_as_far_apart_as_their_rate_says() -> None:
    timeline = Timeline(live=False, fps=4)

    assert [timeline.at(seen("a", number=n)) for n in (0, 1, 4)] == [0.0, 0.25, 1.0]


def test_a_frame_that_is_older_than_a_silence_does_not_turn_time_back() -> None:
    clock = JumpingClock(100.0)
    timeline = Timeline(live=True, fps=30, clock=clock)

    found = [timeline.at(seen("a", at_s=98.0)), timeline.at(lost()), timeline.at(seen("a", at_s=99.5))]
    clock.now_s = 101.0

    assert [*found, timeline.at(lost())] == [0.0, 2.0, 2.0, 3.0]


def test_a_line_that_could_not_be_written_is_tried_with_the_next_frame() -> None:
    sink = ListSink()
    selected = Selected(sink, camera_changes(JumpingClock()))
    sink.error = OSError("full")
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            selected.write(seen("a"))
    sink.error = None

    selected.write(seen("a"))

    assert len(sink.observations) == 1


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("changes", WritePolicy()),
        ("every", WritePolicy("every")),
        ("every 5 s", WritePolicy("every", 5.0)),
        ("every 0.5s", WritePolicy("every", 0.5)),
        ("every 60", WritePolicy("every", 60.0)),
    ],
)
def test_a_policy_is_read(text: str, policy: WritePolicy) -> None:
    assert WritePolicy.parse(text) == policy


@pytest.mark.parametrize(
    "text",
    ["", "all", "every 0 s", "every -1 s", "every nan s", "every 1e9 s", "every 999999 s", "every  s", "Changes", "every ٣ s"],
)
def test_a_policy_that_is_none_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(InputError, match=r"--write '.*': give changes, every, or 'every N s'"):
        WritePolicy.parse(text)
