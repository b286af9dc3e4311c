"""A camera that nobody looks after: days at full speed and years of quiet, by a clock that jumps from frame to frame."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from device_fakes import frame
from ledger import Ledger

from edgecnn.classifier import Prediction
from edgecnn.testing import JumpingClock, gray_picture
from edgecnn_device.frames import OK, Observation, Region, RegionPrediction
from edgecnn_device.sinks.jsonl import JsonLinesSink
from edgecnn_device.sinks.selection import WritePolicy, selected
from edgecnn_device.sinks.terminal import TerminalSink
from edgecnn_device.sinks.video_file import VideoOptions, VideoSink

TABLE = "months"
FPS, DAY_S = 30, 86400
START_S = datetime(2026, 11, 28, tzinfo=UTC).timestamp()


def seen(label: str | None) -> Observation:
    """Return an observation of six tiles with one answer, as a model gives it that tells what is novel."""
    picture = gray_picture(128, size_hw=(24, 32))
    verdict = "novel" if label is None else "label"
    answer = Prediction(
        label, 0, 0.9, np.array([0.9], np.float32), verdict=verdict, novelty=0.412 if label else 1.412, nearest="scratches"
    )
    tiles = tuple(RegionPrediction(n, Region((n, 0, 9, 9), picture), picture, answer, answer) for n in range(6))
    return Observation("rtsp://10.0.0.5:554", OK, frame(picture), tiles, 12.0, {"capture": 33.0, "invoke": 9.0})


@pytest.mark.parametrize(("what", "labels"), [("quiet", ("scratches",)), ("another answer in each frame", ("scratches", None))])
def test_a_day_at_full_speed_leaves_room_on_the_card_and_a_journal_that_can_be_read(
    what: str, labels: tuple[str | None, ...], tmp_path: Path, ledger: Ledger
) -> None:
    clock, journal, observations = JumpingClock(0.0), io.StringIO(), [seen(label) for label in labels]
    lines = JsonLinesSink(tmp_path / "out.jsonl", max_bytes=50_000_000, keep=5)
    file = selected(lines, WritePolicy(), live=True, fps=FPS)
    terminal = TerminalSink(journal, clock=clock)

    for number in range(FPS * DAY_S):
        observation = observations[number % len(observations)]
        assert observation.frame is not None
        # Written into in place: three million copies would take longer than all that is tried here.
        object.__setattr__(observation.frame, "monotonic_s", number / FPS)
        file.write(observation)
        terminal.write(observation)
    lines.file.close()

    written, printed = lines.file.appended_bytes, journal.getvalue().count("\n")
    count = sum(path.read_bytes().count(b"\n") for path in tmp_path.iterdir())
    assert count <= DAY_S + 60 and printed <= DAY_S / 10 + 30
    # Six regions, each with its own and its smoothed answer: 1.6 kB a line, at most one a second but for the first minute.
    assert written < 150_000_000
    ledger.note(
        TABLE,
        f"a day of a camera at {FPS} frames a second, {what}",
        FPS * DAY_S,
        f"{count:,} lines of JSON ({written / 1e6:.1f} MB), {printed:,} lines in the journal",
    )


def test_years_of_quiet_days_fill_what_they_may_and_no_more(tmp_path: Path, ledger: Ledger) -> None:
    wall = JumpingClock(START_S)
    sink = JsonLinesSink(tmp_path / "out.jsonl", max_bytes=2_000_000, keep=5)
    sink.file._wall_clock = wall
    observation, days = seen("scratches"), 1200
    for day in range(days):
        for hour in range(24):  # a line an hour stands for sixty
            wall.now_s = START_S + DAY_S * day + 3600 * hour
            sink.write(replace(observation, age_ms=float(day)))
    sink.file.close()

    files = list(tmp_path.iterdir())
    stored = sum(path.stat().st_size for path in files)
    assert stored <= sink.file.capacity_bytes
    assert 300 < len(files) <= 1001
    ledger.note(TABLE, "files that end at midnight, 12 MB allowed", days, f"{len(files):,} days kept in {stored / 1e6:.1f} MB")


def test_the_videos_of_a_week_have_their_hours_and_their_bound(tmp_path: Path, ledger: Ledger) -> None:
    wall, allowed, hours = JumpingClock(START_S), 400_000, 7 * 24
    sink = VideoSink(VideoOptions(tmp_path / "v.avi", 0.5, allowed), live=True, fps=1.0, wall_clock=wall)
    observation, largest = seen("scratches"), 0
    with sink:
        for number in range(hours * 1800):
            wall.now_s = START_S + 2 * number
            assert observation.frame is not None
            object.__setattr__(observation.frame, "monotonic_s", 2.0 * number)
            sink.write(observation)
            if number % 1800 == 0:
                largest = max(largest, sum(path.stat().st_size for path in tmp_path.iterdir()))

    names = sorted(path.name for path in tmp_path.iterdir())
    assert largest <= 1.25 * allowed
    assert names[-1] == "v-20261204T230000Z.avi"
    ledger.note(
        TABLE, "a week of video, 0.4 MB allowed", hours, f"{len(names)} files of an hour kept, {largest / 1e6:.2f} MB at most"
    )
