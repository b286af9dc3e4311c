"""How far back files of lines reach."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgecnn.testing import JumpingClock
from edgecnn_device.frames import OK, Observation
from edgecnn_device.sinks.line_file import LineFile
from edgecnn_device.sinks.reach import Pace, Reach, duration
from edgecnn_device.sinks.selection import WritePolicy, paces

NOTHING = Observation("cam", OK)


@pytest.fixture
def file(tmp_path: Path) -> LineFile:
    return LineFile(tmp_path / "a.jsonl", max_bytes=10_000_000, keep=2)


def test_the_start_says_how_far_the_history_will_reach(file: LineFile) -> None:
    said: list[str] = []

    with Reach([(file, 500.0)], paces(WritePolicy(), 30.0), said.append):
        pass

    assert said == [
        f"{file.path} and its old files hold 30 MB: about 42 days when nothing changes, 17 hours with a change every second"
    ]


@pytest.mark.parametrize(
    ("policy", "words"),
    [(WritePolicy("every"), "33 minutes at 30 lines a second"), (WritePolicy("every", 10.0), "7 days with a line every 10 s")],
)
def test_the_policy_decides_how_far(file: LineFile, policy: WritePolicy, words: str) -> None:
    said: list[str] = []

    with Reach([(file, 500.0)], paces(policy, 30.0), said.append):
        pass

    assert words in said[0]


def test_lines_that_are_there_tell_how_long_lines_are(file: LineFile) -> None:
    said: list[str] = []
    for _ in range(100):
        file.append(b"x" * 999 + b"\n")

    with Reach([(file, 500.0)], [Pace(1.0, "here")], said.append):
        pass

    assert "8 hours here" in said[0]


def test_a_disk_with_less_room_than_the_files_may_have_counts(file: LineFile, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5_000_000))

    with Reach([(file, 500.0)], [Pace(1.0, "here")], said.append):
        pass

    assert "hold 5 MB: about 3 hours here" in said[0]


def test_after_an_hour_and_then_each_day_the_journal_says_what_it_came_to(file: LineFile) -> None:
    said: list[str] = []
    clock = JumpingClock(0.0)
    reach = Reach([(file, 500.0)], [Pace(1.0, "here")], said.append, clock=clock)
    for minute in range(49 * 60):
        clock.now_s = 60.0 * minute
        if minute < 1500:
            file.append(b"x" * 999 + b"\n")
        reach.write(NOTHING)

    assert len(said) == 2  # after the third day begins nothing was written any more: there is no rate to tell
    assert said[0] == f"{file.path} grows by 1.46 MB a day: its 30 MB reach back 20 days"
    assert said[1].startswith(f"{file.path} grows by 1.4")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "0 minutes"), (90, "2 minutes"), (7000, "117 minutes"), (7200, "2 hours"), (3 * 86400, "3 days"), (1e8, "3 years")],
)
def test_words_for_a_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words
