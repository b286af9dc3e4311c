"""What `--trigger` takes, and what becomes of a trigger's events in every output."""

from __future__ import annotations

import csv
import io
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from device_fakes import frame, watcher
from published_schemas import check

from edgecnn.classifier import Classifier
from edgecnn.cli.camera import camera
from edgecnn.datasets.synthetic.belt import Belt, play_belt
from edgecnn.errors import InputError, MissingDependencyError
from edgecnn.shipped import find_task
from edgecnn.testing import FakeCamera, FakeRuntime, JumpingClock, ListSink, gray_picture
from edgecnn_device.camera import LookOptions, check_trigger
from edgecnn_device.classes import Classes
from edgecnn_device.frames import Event, Frame, Missing, Observation
from edgecnn_device.loop import Statistics, run_loop
from edgecnn_device.outputs import SinkOptions
from edgecnn_device.part_views import PartViews, view_of
from edgecnn_device.passages import Line, Passages
from edgecnn_device.sinks.csv_file import HEADER, csv_rows
from edgecnn_device.sinks.jsonl import json_line
from edgecnn_device.sinks.mqtt_discovery import Answers
from edgecnn_device.sinks.samples import SampleOptions, SampleSink
from edgecnn_device.sinks.selection import Changes, WritePolicy
from edgecnn_device.sinks.terminal import describe
from edgecnn_device.sinks.timeline import Timeline
from edgecnn_device.triggered import OnParts, OnShots
from edgecnn_device.triggers import PinEdges, Trigger, every
from edgecnn_device.web.today import Today

LIGHT_PARTS = np.full((3, 40, 40, 3), 230, np.uint8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("motion", Trigger("motion", "motion")),
        ("line", Trigger("line", "line", Line())),
        ("line:x=0.4", Trigger("line:x=0.4", "line", Line(0, 0.4))),
        ("line:y=.6,up", Trigger("line:y=.6,up", "line", Line(1, 0.6, "up"))),
        ("gpio:17", Trigger("gpio:17", "gpio", pin="17")),
        ("gpio:BOARD11", Trigger("gpio:BOARD11", "gpio", pin="BOARD11")),
        ("interval:2.5", Trigger("interval:2.5", "interval", seconds=2.5)),
    ],
)
def test_a_trigger_is_read(text: str, expected: Trigger) -> None:
    assert Trigger.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Motion",
        "motion:3",
        "line:",
        "line:x",
        "line:x=0",
        "line:x=1",
        "line:x=-1",
        "line:x=2",
        "line:z=0.5",
        "line:x=0.5,up",
    ]
    + ["line:x=0.5,", "gpio", "gpio:", "gpio:a b", "gpio:ä", "interval", "interval:0", "interval:-1", "interval:nan"]
    + ["interval:1e9", "interval:x", "belt"],
)
def test_what_is_no_trigger_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(InputError) as refused:
        Trigger.parse(text)

    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trigger", "motion", "--tiles", "2x1"], "--tiles"),
        (["--trigger", "line", "--find", "whole"], "--find whole"),
        (["--trigger", "motion", "--interval", "2"], "--interval"),
        (["--trigger", "interval:2", "--on-motion"], "--on-motion"),
        (["--trigger", "interval:2", "--smooth", "3"], "--smooth"),
        (["--trigger", "interval:2", "--part-fill", "0.5"], "--part-fill"),
        (["--trigger", "motion", "--video", "out.avi"], "--video"),
        (["--trigger", "motion", "--jsonl", "out.jsonl", "--write", "every 2 s"], "--write"),
        (["--trigger", "gpio:17", "--no-realtime"], "a camera as --source"),
        (["--trigger", "belt"], "belt"),
    ],
)
def test_what_does_not_go_with_a_trigger_is_refused_in_one_line(options: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CliRunner().invoke(camera, ["neu", "--frames", "1", *options], catch_exceptions=False)


def test_a_model_that_reads_digits_follows_no_parts() -> None:
    with pytest.raises(InputError, match="digits"):
        check_trigger(Trigger.parse("line"), SinkOptions(), live=True, reads=True)


def test_what_goes_with_a_trigger_is_accepted() -> None:
    look = LookOptions(trigger=Trigger.parse("motion"), smooth=3, where=True, part_fill=0.8)

    check_trigger(look.trigger, SinkOptions(write=WritePolicy()), live=False, reads=False)


def belt_frames(clock: JumpingClock, stills: Any = LIGHT_PARTS, **layout: Any) -> Iterator[Frame | Missing]:
    """Yield a camera's frames of light parts on a dark belt."""
    yield from FakeCamera((each.image_bgr for each in play_belt(stills, Belt(**layout))), clock=clock)


def on_parts(trigger: str = "motion", smooth: int = 3) -> OnParts:
    asked = Trigger.parse(trigger)
    return OnParts(trigger, Passages(asked.line, views=smooth), PartViews())


def watch_parts(frames: Any, clock: JumpingClock, runtime: FakeRuntime | None = None, **options: Any) -> list[Observation]:
    sink, watching = ListSink(), watcher(clock, runtime=runtime)
    watching.parts = on_parts(**options)
    run_loop(frames, watching, [sink])
    return sink.observations


def events(observations: list[Observation]) -> list[Event]:
    return [each.event for each in observations if each.event is not None]


def test_a_loop_says_that_it_sees_and_then_one_thing_per_part() -> None:
    clock = JumpingClock()

    observations = watch_parts(belt_frames(clock), clock)

    assert observations[0].event is None
    assert observations[0].state.name == "ok"
    assert [event.number for event in events(observations)] == [1, 2, 3]
    assert [each.predictions[0].smoothed.label for each in observations[1:]] == ["light"] * 3


def test_the_network_is_asked_once_per_part() -> None:
    clock, runtime = JumpingClock(), FakeRuntime()

    watch_parts(belt_frames(clock), clock, runtime, smooth=3)

    assert runtime.batches == [3, 3, 3]


def test_an_answer_is_of_one_part_alone_whatever_came_before() -> None:
    clock = JumpingClock()
    stills = np.stack([np.full((40, 40, 3), level, np.uint8) for level in (230, 130, 230)])

    observations = watch_parts(belt_frames(clock, stills), clock)

    assert [each.predictions[0].smoothed.label for each in observations[1:]] == ["light", "gray", "light"]
    assert all(each.predictions[0].smoothed.probability > 0.89 for each in observations[1:])


def test_a_camera_lost_in_the_middle_of_a_passage_gives_no_class() -> None:
    clock = JumpingClock()
    pictures: list[Any] = [each.image_bgr for each in play_belt(LIGHT_PARTS[:1], Belt(speed=0.1))]
    empty = pictures[:20]
    pictures[45:] = [None] * 90

    observations = watch_parts(FakeCamera([*pictures, *empty], clock=clock), clock)

    assert [event.outcome for event in events(observations)] == ["interrupted"]
    assert all(not each.predictions for each in observations)


def test_a_camera_that_stays_lost_gives_no_class_at_the_end() -> None:
    clock = JumpingClock()
    pictures: list[Any] = [each.image_bgr for each in play_belt(LIGHT_PARTS[:1], Belt(speed=0.1))]
    pictures[45:] = [None] * 90

    observations = watch_parts(FakeCamera(pictures, clock=clock), clock)

    assert [event.outcome for event in events(observations)] == ["interrupted"]


def test_an_interval_asks_for_frames_that_stand_alone() -> None:
    clock, sink = JumpingClock(), ListSink()
    watching = watcher(clock, smooth=1)
    watching.shots = OnShots("interval:1", every(1.0))
    levels = itertools.cycle([40, 230])
    statistics = Statistics()

    run_loop(
        FakeCamera((gray_picture(next(levels), number) for number in range(35)), clock=clock, fps=10),
        watching,
        [sink],
        statistics=statistics,
    )

    assert [event.number for event in events(sink.observations)] == [1, 2, 3, 4]
    shown = [each.frame.image_bgr.mean() for each in sink.observations if each.frame is not None]
    assert [each.predictions[0].smoothed.label for each in sink.observations] == [
        "dark" if level < 86 else "light" for level in shown
    ]
    assert statistics.gated == 31
    assert statistics.events == {"answered": 4}


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    gpiozero = pytest.importorskip("gpiozero")
    mock = pytest.importorskip("gpiozero.pins.mock")
    factory = mock.MockFactory()
    monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
    yield factory
    factory.close()


def test_an_edge_on_a_pin_is_answered_by_the_first_frame_after_it(pins: Any) -> None:
    clock = JumpingClock(100.0)
    edges = PinEdges("17", fps=30, bounce_s=0, clock=clock)
    asked = [edges(frame(at_s=100.0))]
    clock.now_s = 100.1
    pins.pin(17).drive_high()

    asked += [edges(frame(at_s=at_s)) for at_s in (100.09, 100.12, 100.15)]
    edges.close()

    assert asked == [None, None, "answered", None]


def test_an_edge_that_no_frame_followed_in_time_is_interrupted(pins: Any) -> None:
    clock = JumpingClock(100.0)
    edges = PinEdges("17", fps=30, bounce_s=0, clock=clock)
    pins.pin(17).drive_high()

    asked = [edges(frame(at_s=105.0)), edges(frame(at_s=105.1))]
    edges.close()

    assert asked == ["interrupted", None]


def test_a_pin_that_is_taken_or_unknown_is_refused_with_its_name(pins: Any) -> None:
    edges = PinEdges("17", fps=30, bounce_s=0)

    with pytest.raises(InputError, match="gpio:17"):
        PinEdges("17", fps=30)
    with pytest.raises(InputError, match="gpio:nowhere"):
        PinEdges("nowhere", fps=30)
    edges.close()


def test_without_gpiozero_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiozero", None)

    with pytest.raises(MissingDependencyError, match=r"edgecnn\[gpio\]"):
        PinEdges("17", fps=30)


@cache
def light_part() -> Observation:
    clock = JumpingClock()
    return watch_parts(belt_frames(clock, LIGHT_PARTS[:1]), clock)[1]


def answered(number: int = 1) -> Observation:
    """Return the observation of a light part."""
    event = light_part().event
    assert event is not None
    return replace(light_part(), event=replace(event, number=number))


def unanswered() -> Observation:
    return Observation("belt", answered().state, frame(), event=Event(2, "line", "partial", 3, 0.1, "left"))


def test_json_lines_carry_the_event_as_the_schema_says() -> None:
    for observation in (answered(), unanswered()):
        line = json_line(observation)

        assert json.loads(line)["event"] == json.loads(json.dumps(observation.to_json()))["event"]
        check("observation", json.loads(line))


def test_csv_has_the_event_in_its_last_columns() -> None:
    rows = csv.DictReader(io.StringIO((HEADER + csv_rows(answered()) + csv_rows(unanswered())).decode()))

    found = [(row["event"], row["outcome"], row["direction"], row["smoothed_label"]) for row in rows]
    assert found == [("1", "answered", "right", "light"), ("2", "partial", "left", "")]


def test_the_terminal_says_what_has_passed() -> None:
    assert describe(answered()) == "motion 1: light 0.90, moved right"
    assert describe(unanswered()) == "line 2: no answer: it was never whole in view, moved left"


def test_no_event_is_left_out_of_a_log_of_changes_however_many_come() -> None:
    chosen = Changes(Timeline(live=True, fps=30), burst=2, per_s=0.001)
    assert all(chosen(answered(number)) for number in range(1, 50))


def test_home_assistant_hears_of_two_alike_parts_twice() -> None:
    answers = Answers(Classes(("dark", "gray", "light")), clock=JumpingClock())

    assert answers.take(answered(1)) is not None
    assert answers.take(answered(2)) is not None


def test_the_page_counts_each_part() -> None:
    today = Today(Classes(("dark", "gray", "light")), clock=JumpingClock())

    for number in (1, 2, 3):
        today.add(answered(number))

    assert today.appearances()["light"].count == 3


def test_a_kept_sample_is_the_best_view_with_the_whole_passage(tmp_path: Path) -> None:
    with SampleSink(SampleOptions(tmp_path, below=0.95, every_s=None)) as sink:
        sink.write(answered())

    (body,) = (json.loads(path.read_text()) for path in tmp_path.glob("*Z-*.json"))
    assert body["event"]["frames"] > 5
    assert body["event"]["outcome"] == "answered"


def test_a_view_has_the_shape_of_the_input_and_repeats_the_border_beyond_the_frame() -> None:
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, -1] = 200

    region = view_of(image, (80, 10, 20, 40), 0.5, watcher().model())

    assert region.view.shape == (80, 80, 3)
    assert region.box == (50, 0, 50, 60)
    assert (region.view[:, -1] == 200).all()


def test_the_command_answers_each_part_of_a_video_once(tmp_path: Path) -> None:
    task = find_task("neu")
    assert task.synthesize is not None
    stills = task.synthesize(1, 3)
    write_video(tmp_path / "belt.avi", stills.images)

    options = ["--trigger", "line:x=0.5,right", "--jsonl", str(tmp_path / "out.jsonl"), "--csv", str(tmp_path / "out.csv")]
    ended = CliRunner().invoke(camera, ["neu", "--source", str(tmp_path / "belt.avi"), *options], catch_exceptions=False)

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for line in lines:
        check("observation", line)
    right = Classifier.open("neu").classify([image[..., 0] for image in stills.images])
    found = [line["regions"][0]["smoothed"]["class_id"] for line in lines if "event" in line]
    assert found == [answer.class_id for answer in right]
    assert ended.output.count("moved right") == len(stills.images)
    assert f"{len(stills.images)} events answered" in ended.stderr


def write_video(path: Path, stills: Any) -> None:
    """Write a belt with these pictures as parts."""
    video = None
    for each in play_belt(stills, Belt(speed=0.2)):
        video = video or cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, each.image_bgr.shape[1::-1])
        video.write(each.image_bgr)
    assert video is not None
    video.release()
