from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from device_fakes import frame, watcher
from tiny_broker import TinyBroker

from edgecnn.testing import JumpingClock, ListSink, gray_picture
from edgecnn_device.clock import ClockWatch, describe_jump, kernel_says, synchronisation
from edgecnn_device.frames import Frame, Missing
from edgecnn_device.loop import Statistics, run_loop
from edgecnn_device.sinks.csv_file import CsvSink
from edgecnn_device.sinks.jsonl import JsonLinesSink
from edgecnn_device.sinks.mqtt import MqttSink
from edgecnn_device.sinks.mqtt_broker import MqttOptions
from edgecnn_device.sinks.selection import WritePolicy, selected


def set_by(item: Frame, seconds: float) -> Frame:
    """Return the frame as it is stamped by a clock that was set forward by so much."""
    return replace(item, captured_at=item.captured_at + timedelta(seconds=seconds))


def frames(*set_s: float) -> list[Frame]:
    """Return a frame each tenth of a second, stamped by a clock that is ahead by `set_s`."""
    return [
        set_by(frame(gray_picture(128, number), number, at_s=100 + number / 10), ahead) for number, ahead in enumerate(set_s)
    ]


def observe(items: list[Frame] | list[Frame | Missing], **options: object) -> tuple[ListSink, list[str], Statistics]:
    sink, said = ListSink(), []
    watching = watcher(JumpingClock(100.0))
    watching.gate = options.get("gate", watching.gate)  # type: ignore[assignment]
    statistics = run_loop(items, watching, [sink], complain=said.append)
    return sink, said, statistics


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 5.0, 1.7e9])
def test_a_clock_that_was_set_is_marked_in_the_next_observation_and_in_the_journal(jump_s: float) -> None:
    sink, said, statistics = observe(frames(0, 0, jump_s, jump_s))

    marks = [observation.clock_jump_s for observation in sink.observations]
    assert marks == [None, None, pytest.approx(jump_s), None]
    assert [line.partition(" by ")[0] for line in said] == [f"the wall clock was set {'forward' if jump_s > 0 else 'back'}"]
    assert statistics.clock_jumps == 1


def test_a_clock_that_only_runs_a_little_fast_is_not_marked() -> None:
    sink, said, _ = observe(frames(*[number * 5e-5 for number in range(50)]))

    assert all(observation.clock_jump_s is None for observation in sink.observations)
    assert said == []


def test_a_jump_is_marked_at_once_although_the_gate_lets_nothing_pass() -> None:
    sink, said, _ = observe(frames(0, 0, 60, 60), gate=lambda item: False)

    assert [observation.clock_jump_s for observation in sink.observations] == [pytest.approx(60)]
    assert len(said) == 1


def test_a_jump_is_marked_while_the_camera_is_blind() -> None:
    black = [replace(item, image_bgr=gray_picture(0)) for item in frames(0, 0, 60, 60)]

    sink, _, _ = observe(black)

    assert [observation.clock_jump_s for observation in sink.observations] == [None, pytest.approx(60)]


def test_a_jump_during_an_outage_is_marked_when_frames_come_again() -> None:
    first, second = frames(0, 90)

    sink, _, _ = observe([first, Missing("fake", "lost", 99.0), second])

    assert sink.observations[-1].clock_jump_s == pytest.approx(90)


def test_the_journal_says_what_was_and_what_is() -> None:
    (item,) = frames(3723.0)

    assert describe_jump(3723.0, item) == (
        "the wall clock was set forward by 1 h 2 min 3 s: what was 2026-01-02T03:05:45+00:00 is 2026-01-02T04:07:48+00:00"
    )


def test_every_log_has_the_mark(tmp_path: Path) -> None:
    lines, rows = tmp_path / "o.jsonl", tmp_path / "o.csv"
    with JsonLinesSink(lines, max_bytes=10**6, keep=1) as one, CsvSink(rows, max_bytes=10**6, keep=1) as other:
        run_loop(frames(0, 3600), watcher(JumpingClock(100.0)), [one, other])

    first, second = [json.loads(line) for line in lines.read_text().splitlines()]
    assert "clock_jump_s" not in first
    assert second["clock_jump_s"] == 3600.0
    header, *cells = [row.split(",") for row in rows.read_text().splitlines()]
    assert [row[header.index("clock_jump_s")] for row in cells] == ["", "3600.0"]


def test_subscribers_hear_of_a_jump_on_a_topic_of_its_own() -> None:
    broker = TinyBroker()
    try:
        with MqttSink(MqttOptions(f"mqtt://127.0.0.1:{broker.port}/edge")) as sink:
            run_loop(frames(0, -60), watcher(JumpingClock(100.0)), [sink])
            deadline_s = time.monotonic() + 10
            while sink.waiting and time.monotonic() < deadline_s:
                time.sleep(0.01)
    finally:
        broker.die()

    (said,) = [json.loads(text) for text in broker.topics("/clock")]
    assert said["clock_jump_s"] == -60.0
    assert said["captured_at"].startswith("2026-01-02T03:04:45")
    assert not any(message.retained for message in broker.received if message.topic.endswith("/clock"))


def test_a_log_of_changes_has_the_mark_although_nothing_else_changed(tmp_path: Path) -> None:
    lines = tmp_path / "o.jsonl"
    sink = selected(JsonLinesSink(lines, max_bytes=10**6, keep=1), WritePolicy("changes"), live=True, fps=10)
    with sink:
        run_loop(frames(0, 0, 0, 60, 60), watcher(JumpingClock(100.0)), [sink])

    assert [json.loads(line).get("clock_jump_s") for line in lines.read_text().splitlines()] == [None, 60.0]


def test_two_frames_without_a_jump_say_nothing() -> None:
    watch = ClockWatch()

    assert [watch.jump_s(item) for item in frames(7, 7, 7)] == [None, None, None]


CHRONY = "Reference ID    : C0A80001 (192.168.0.1)\nStratum         : 3\nLeap status     : {}\n"
PEERS = (
    "     remote           refid      st t when poll reach\n=====\n{}192.0.2.1  .GPS.  1 u 33 64 377\n 192.0.2.2  .INIT. 16\n"
)


def answering(**texts: str) -> Callable[[list[str]], str]:
    """Return a shell in which these commands print these texts, and others are not there."""
    return lambda command: texts.get(command[0], "")


@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        ({"timedatectl": "Timezone=UTC\nNTP=yes\nNTPSynchronized=yes\n"}, ("yes", "timedatectl")),
        ({"timedatectl": "NTP=yes\nNTPSynchronized=no\n"}, ("no", "timedatectl")),
        ({"timedatectl": "NTPSynchronized=no\n", "chronyc": CHRONY.format("Normal")}, ("yes", "chronyc")),
        ({"chronyc": CHRONY.format("Not synchronised")}, ("no", "chronyc")),
        ({"ntpq": PEERS.format("*")}, ("yes", "ntpq")),
        ({"ntpq": PEERS.format(" ")}, ("no", "ntpq")),
        ({"chronyc": "506 Cannot talk to daemon\n"}, None),
        ({}, None),
    ],
)
def test_the_systems_own_word_on_synchronisation_is_heard(texts: dict[str, str], answer: tuple[str, str] | None) -> None:
    assert synchronisation(answering(**texts), kernel=lambda: None) == answer


@pytest.mark.parametrize(("says", "answer"), [(True, ("yes", "the kernel")), (False, ("no", "the kernel"))])
def test_without_any_tool_the_kernel_is_asked(says: bool, answer: tuple[str, str]) -> None:
    assert synchronisation(answering(), kernel=lambda: says) == answer


def test_the_kernel_here_gives_an_answer_or_none() -> None:
    assert kernel_says() in (True, False, None)
