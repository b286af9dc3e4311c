from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from device_fakes import frame, watcher
from numpy.typing import NDArray

from edgecnn.runtimes.runtime import check_answers
from edgecnn.testing import FakeRuntime, JumpingClock, ListSink, gray_picture
from edgecnn_device.frames import STAGES, Frame, Missing, Observation
from edgecnn_device.gates import Interval
from edgecnn_device.loop import run_loop


def paced(clock: JumpingClock, items: list[Frame | Missing], step_s: float = 0.1) -> Iterator[Frame | Missing]:
    """Yield items while the clock goes on, frames as they are captured."""
    for item in items:
        clock.now_s += step_s
        yield item if isinstance(item, Missing) else frame(item.image_bgr, item.number, item.source, clock.now_s)


def run(items: list[Frame | Missing], step_s: float = 0.1) -> list[Observation]:
    clock, sink = JumpingClock(), ListSink()
    run_loop(paced(clock, items, step_s), watcher(clock), [sink])
    return sink.observations


def test_a_list_of_frames_is_a_camera() -> None:
    frames = [frame(gray_picture(level), number) for number, level in enumerate((40, 128, 230), 1)]

    observations = run([*frames])

    assert [o.predictions[0].raw.label for o in observations] == ["dark", "gray", "light"]


def test_json_has_exactly_the_promised_keys() -> None:
    (observation,) = run([frame(gray_picture(230), 7)])

    body = json.loads(json.dumps(observation.to_json()))

    assert list(body) == ["frame", "source", "captured_at", "age_ms", "state", "latency_ms", "regions"]
    assert set(body["latency_ms"]) == set(STAGES)
    region = body["regions"][0]
    assert list(region) == ["id", "box", "label", "verdict", "class_id", "probability", "smoothed"]
    assert (body["frame"], body["state"], region["box"], region["label"]) == (7, "ok", [0, 0, 64, 48], "light")


def test_the_age_is_that_of_the_frame_when_it_was_taken() -> None:
    clock, sink = JumpingClock(100.25), ListSink()

    run_loop([frame(at_s=100.0)], watcher(clock), [sink])

    assert sink.observations[0].age_ms == pytest.approx(250)


def test_no_class_is_published_of_a_black_picture() -> None:
    runtime, sink = FakeRuntime(), ListSink()

    run_loop([frame(gray_picture(5))], watcher(JumpingClock(), runtime=runtime), [sink])

    assert (sink.observations[0].state.name, sink.observations[0].predictions) == ("blind", ())
    assert runtime.batches == []


def test_a_frozen_camera_is_reported_within_two_seconds_without_any_class() -> None:
    image = gray_picture(128)

    observations = run([frame(image.copy(), number) for number in range(1, 60)])

    frozen = [o for o in observations if o.state.name == "stale"]
    assert frozen[0].frame is not None
    assert frozen[0].frame.number <= 20
    assert all(not o.predictions for o in frozen)
    assert [o.state.name for o in observations[observations.index(frozen[0]) :]] == ["stale"] * len(frozen)


def test_a_lost_camera_is_reported_within_two_seconds_and_then_every_second() -> None:
    silence: list[Frame | Missing] = [Missing("cam", "gone", since_s=100.0)] * 20

    observations = run(silence, step_s=0.25)

    assert [o.state.name for o in observations] == ["stale"] * 4
    assert observations[0].age_ms == pytest.approx(1750)


def test_a_frame_whose_answer_took_too_long_gives_no_class() -> None:
    clock, sink = JumpingClock(), ListSink()

    class SlowRuntime(FakeRuntime):
        def run(self, images):  # type: ignore[no-untyped-def]
            clock.now_s += 5
            return super().run(images)

    run_loop([frame()], watcher(clock, runtime=SlowRuntime()), [sink])

    assert (sink.observations[0].state.name, sink.observations[0].predictions) == ("stale", ())


def test_a_damaged_picture_of_a_folder_is_said_and_passed_over() -> None:
    observations = run([Missing("a.png", "a.png is cut short"), frame(number=2)])

    assert [(o.state.name, o.state.reason) for o in observations] == [("blind", "a.png is cut short"), ("ok", "")]


def test_frames_that_the_gate_holds_back_are_not_published() -> None:
    clock, sink = JumpingClock(), ListSink()
    gated = watcher(clock)
    gated.gate = Interval(1.0)

    statistics = run_loop(paced(clock, [frame(number=n) for n in range(1, 10)], 0.125), gated, [sink])

    assert [o.frame.number for o in sink.observations if o.frame] == [1, 9]
    assert statistics.gated == 7


def test_recovery_is_published_although_the_gate_would_hold_it_back() -> None:
    clock, sink = JumpingClock(), ListSink()
    gated = watcher(clock)
    gated.gate = Interval(60.0)

    run_loop(paced(clock, [frame(number=1), frame(gray_picture(0), 2), frame(number=3)]), gated, [sink])

    assert [o.state.name for o in sink.observations] == ["ok", "blind", "ok"]


def test_a_sink_that_fails_is_counted_said_once_and_keeps_nobody_from_writing() -> None:
    clock, broken, well = JumpingClock(), ListSink(), ListSink()
    said: list[str] = []
    broken.name, broken.error = "broken", OSError(28, "No space left on device")

    statistics = run_loop(
        paced(clock, [frame(number=n) for n in range(1, 5)]), watcher(clock), [broken, well], complain=said.append
    )

    assert (statistics.sink_errors["broken"], len(well.observations), len(said)) == (4, 4, 1)


def test_the_loop_ends_between_two_frames_when_told_to() -> None:
    answers, sink = iter([True, True, False]), ListSink()

    run_loop([frame(number=n) for n in range(1, 9)], watcher(JumpingClock()), [sink], between=lambda: next(answers))

    assert len(sink.observations) == 2


def test_latencies_of_every_stage_are_counted() -> None:
    statistics = run_loop([frame(number=n) for n in range(1, 4)], watcher(JumpingClock()), [ListSink()])

    assert {stage: len(values) for stage, values in statistics.latency_ms.items()} == dict.fromkeys((*STAGES, "age"), 3)


class NoNumbers(FakeRuntime):
    """A runtime whose model has been damaged: `bad` of its answers are no numbers."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad = bad

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers = super().run(images)
        if self.bad:
            self.bad -= 1
            answers[0, 1] = np.nan
        return check_answers(answers, self.name)


def test_an_answer_that_is_no_number_is_an_error_with_no_class_and_the_loop_goes_on() -> None:
    sink, frames = ListSink(), [frame(gray_picture(230, number), number) for number in range(2)]

    statistics = run_loop(frames, watcher(JumpingClock(), runtime=NoNumbers(bad=1)), [sink])

    first, second = sink.observations
    assert (first.state.name, first.predictions, second.state.name) == ("error", (), "ok")
    assert "not a number (NaN or infinite) for 1 of 1 on brightness 1.0" in first.state.reason
    assert statistics.states == {"error": 1, "ok": 1}
    assert json.loads(json.dumps(first.to_json(), allow_nan=False))["reason"] == first.state.reason


def test_answers_before_an_error_do_not_count_after_it() -> None:
    sink, runtime = ListSink(), NoNumbers(bad=0)
    watching, frames = (
        watcher(JumpingClock(), runtime=runtime, smooth=5),
        [frame(gray_picture(level), 1) for level in (230, 230, 128, 128)],
    )

    def between() -> bool:
        runtime.bad = int(len(sink.observations) == 2)
        return True

    run_loop(frames, watching, [sink], between=between)

    assert [o.state.name for o in sink.observations] == ["ok", "ok", "error", "ok"]
    assert sink.observations[3].predictions[0].smoothed.label == "gray"


def test_a_warning_that_comes_or_goes_is_published_although_the_gate_would_hold_it_back() -> None:
    clock, sink, warnings = JumpingClock(), ListSink(), iter(["", "", "refused", "refused", "", ""])
    gated = replace(watcher(clock), gate=Interval(60.0), warning=lambda: next(warnings))

    run_loop(paced(clock, [frame(gray_picture(128, n), n) for n in range(6)]), gated, [sink])

    said = [(o.frame.number, o.warning) for o in sink.observations if o.frame is not None]
    assert said == [(0, ""), (2, "refused"), (4, "")]


def test_what_should_be_known_stands_in_every_observation_for_as_long_as_it_is_true() -> None:
    clock, sink, warnings = JumpingClock(), ListSink(), iter(["", "refused", ""])
    watching = replace(watcher(clock), warning=lambda: next(warnings))
    items = [frame(gray_picture(230), 1), frame(gray_picture(5), 2), frame(gray_picture(230), 3)]

    run_loop(items, watching, [sink])

    assert [o.to_json().get("warning") for o in sink.observations] == [None, "refused", None]
