"""The annotated video: its pace, its bound, its hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from device_fakes import frame

from edgecnn.errors import InputError, OutputError
from edgecnn.testing import JumpingClock, gray_picture
from edgecnn_device.frames import OK, Observation, State
from edgecnn_device.sinks.video_file import VideoOptions, VideoSink

TEN = datetime(2026, 11, 28, 10, 15, tzinfo=UTC).timestamp()
LEVELS = (30, 90, 150, 210)


def shown(level: int, at_s: float = 0.0, *, size_hw: tuple[int, int] = (48, 64), number: int = 0) -> Observation:
    """Return an observation of a gray frame in which nothing was looked for."""
    return Observation("cam", OK, frame(np.full((*size_hw, 3), level, np.uint8), number, at_s=at_s))


def lost(seconds: float) -> Observation:
    return Observation("cam", State("stale", f"lost: no frame for {seconds:.1f} s (refused)"))


def read(path: Path) -> tuple[float, list[float]]:
    """Return the rate of a video and the mean gray of each of its frames."""
    capture, means = cv2.VideoCapture(str(path)), []
    while (found := capture.read())[0]:
        means.append(float(found[1].mean()))
    return capture.get(cv2.CAP_PROP_FPS), means


def seconds_of(path: Path) -> dict[int, float]:
    """Return for how many seconds a video shows each of LEVELS."""
    fps, means = read(path)
    nearest = [min(LEVELS, key=lambda level: abs(level - mean)) for mean in means]
    return {level: nearest.count(level) / fps for level in LEVELS if level in nearest}


def camera_sink(folder: Path, clock: JumpingClock | None = None, **limits: float | None) -> VideoSink:
    options = VideoOptions(folder / "v.avi", limits.get("fps"), int(limits.get("max_bytes") or 2e9))
    wall = clock or JumpingClock(TEN)
    return VideoSink(options, live=True, fps=30, interval_s=limits.get("interval_s"), clock=JumpingClock(0), wall_clock=wall)


def record(sink: VideoSink, observations: Sequence[Observation]) -> None:
    with sink:
        for observation in observations:
            sink.write(observation)


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_frames_of_a_camera_are_shown_for_as_long_as_they_lasted(tmp_path: Path) -> None:
    starts_s = (0.0, 0.5, 3.5, 4.0)

    record(camera_sink(tmp_path), [shown(level, at_s) for level, at_s in zip(LEVELS, starts_s, strict=True)])

    assert seconds_of(only(tmp_path)) == pytest.approx({30: 0.5, 90: 3.0, 150: 0.5, 210: 0.1})


@pytest.mark.parametrize("camera_fps", [3, 7, 10, 24, 30, 60])
def test_ten_seconds_of_any_camera_play_for_ten_seconds(tmp_path: Path, camera_fps: int) -> None:
    jitter = np.random.default_rng(0).uniform(0, 0.5 / camera_fps, 10 * camera_fps + 1)

    record(camera_sink(tmp_path), [shown(128, number / camera_fps + late) for number, late in enumerate(jitter)])

    fps, means = read(only(tmp_path))
    assert fps == 10
    assert len(means) / fps == pytest.approx(10.0, abs=0.3)


def test_every_frame_of_a_file_stands_in_the_video_once(tmp_path: Path) -> None:
    sink = VideoSink(VideoOptions(tmp_path / "v.avi"), live=False, fps=25, endless=False)

    record(sink, [shown(20 + 10 * number, number=number) for number in range(20)])

    fps, means = read(tmp_path / "v.avi")
    assert (fps, len(means)) == (25, 20)
    assert np.all(np.diff(means) > 5)


def test_a_file_of_variable_rate_keeps_its_pace_and_every_frame(tmp_path: Path) -> None:
    times_s = [0.0, 0.02, 0.04, 0.06, 2.0, 2.02, 4.0]
    frames = [frame(np.full((48, 64, 3), 30 + 30 * n, np.uint8), n) for n in range(len(times_s))]
    told = [Observation("v", OK, replace(one, media_time_s=at_s)) for one, at_s in zip(frames, times_s, strict=True)]
    sink = VideoSink(VideoOptions(tmp_path / "v.avi"), live=False, fps=5, endless=False)

    record(sink, told)

    fps, means = read(tmp_path / "v.avi")
    assert len(means) / fps == pytest.approx(4.0, abs=0.5)
    assert len({round(mean / 10) for mean in means}) == len(times_s)


def test_the_camera_that_is_lost_is_a_placard_for_as_long(tmp_path: Path) -> None:
    clock = JumpingClock(0.0)
    options = VideoOptions(tmp_path / "v.avi")
    with VideoSink(options, live=True, fps=30, clock=clock, wall_clock=JumpingClock(TEN)) as sink:
        sink.write(shown(210, 0.0))
        for second in range(2, 8):
            clock.now_s = float(second)
            sink.write(lost(second))
        sink.write(shown(210, 8.0))

    fps, means = read(only(tmp_path))
    assert len(means) / fps == pytest.approx(8.1)
    assert sum(mean < 100 for mean in means) / fps == pytest.approx(6.0)


def test_a_camera_has_a_file_an_hour_named_by_its_start(tmp_path: Path) -> None:
    wall = JumpingClock(TEN)
    with camera_sink(tmp_path, wall) as sink:
        for number in range(3 * 3600):
            wall.now_s = TEN + number
            sink.write(shown(128, float(number), size_hw=(16, 16)))

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"v-20261128T{time}Z.avi" for time in ("101500", "110000", "120000", "130000")]
    lengths_s = [len(means) / fps for fps, means in (read(tmp_path / name) for name in names)]
    assert lengths_s == pytest.approx([2700, 3600, 3600, 900], abs=1.0)


def test_a_pause_begins_a_new_file_as_a_gate_of_motion_makes_them(tmp_path: Path) -> None:
    wall = JumpingClock(TEN)
    with camera_sink(tmp_path, wall) as sink:
        for at_s in (0.0, 1.0, 2.0, 900.0, 901.0):
            wall.now_s = TEN + at_s
            sink.write(shown(128, at_s))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["v-20261128T101500Z.avi", "v-20261128T103000Z.avi"]
    assert [round(len(read(path)[1]) / 10, 1) for path in sorted(tmp_path.iterdir())] == [2.1, 1.1]


def test_one_frame_a_minute_is_no_pause_and_costs_no_hundreds_of_copies(tmp_path: Path) -> None:
    record(camera_sink(tmp_path, interval_s=60.0), [shown(128, 60.0 * number) for number in range(10)])

    fps, means = read(only(tmp_path))
    assert len(means) < 100
    assert len(means) / fps == pytest.approx(540, abs=15)


def test_the_files_of_a_camera_have_a_bound_and_the_oldest_go(tmp_path: Path) -> None:
    foreign = [tmp_path / name for name in ("v.avi", "v-old.avi", "w-20200101T000000Z.avi", "v-20200101T000000Z.mkv")]
    for path in foreign:
        path.write_bytes(b"x" * 10_000)
    old = tmp_path / "v-20200101T000000Z.avi"
    old.write_bytes(b"RIFF" + b"x" * 300_000)
    wall = JumpingClock(TEN)
    with camera_sink(tmp_path, wall, max_bytes=2_000_000) as sink:
        for number in range(6000):
            wall.now_s = TEN + number / 10
            sink.write(Observation("cam", OK, frame(gray_picture(128, number, (120, 160)), at_s=number / 10)))

    ours = [path for path in tmp_path.iterdir() if path not in foreign]
    assert not old.exists() and all(path.stat().st_size == 10_000 for path in foreign)
    assert len(ours) > 2
    assert 1_000_000 < sum(path.stat().st_size for path in ours) <= 2_600_000


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_what_is_no_video_of_ours_is_neither_counted_nor_removed(tmp_path: Path, suffix: str) -> None:
    names = [f"v-20200101T00000{number}Z{suffix}" for number in range(3)]
    (tmp_path / names[0]).write_bytes(bytes(range(256)) * 4000)
    (tmp_path / names[1]).mkdir()
    (tmp_path / "mine").write_bytes(b"x" * 10_000)
    (tmp_path / names[2]).symlink_to(tmp_path / "mine")
    before = set(tmp_path.iterdir())

    with VideoSink(VideoOptions(tmp_path / f"v{suffix}", max_bytes=8), live=True, fps=10.0) as sink:
        sink.write(shown(90))

    assert before < set(tmp_path.iterdir())
    assert (tmp_path / names[0]).stat().st_size == 256 * 4000


def test_what_another_camera_of_the_same_name_is_writing_is_not_removed(tmp_path: Path) -> None:
    with camera_sink(tmp_path, max_bytes=8) as first:
        first.write(shown(90))
        own = only(tmp_path)
        record(camera_sink(tmp_path, JumpingClock(TEN + 60), max_bytes=8), [shown(90)])

        assert own.exists()
    record(camera_sink(tmp_path, JumpingClock(TEN + 120), max_bytes=8), [shown(90)])

    assert not own.exists()


def test_two_starts_in_one_second_take_two_names(tmp_path: Path) -> None:
    for level in (30, 90, 150):
        record(camera_sink(tmp_path), [shown(level)])

    names = [f"v-20261128T101500Z{again}.avi" for again in ("", "-1", "-2")]
    assert [list(seconds_of(tmp_path / name)) for name in names] == [[30], [90], [150]]


def test_a_rate_that_was_asked_for_is_that_of_the_video(tmp_path: Path) -> None:
    record(camera_sink(tmp_path, fps=2.0), [shown(128, number / 30) for number in range(91)])

    fps, means = read(only(tmp_path))
    assert (fps, len(means)) == (2, 7)


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_pictures_of_another_size_are_fitted_into_that_of_the_first(tmp_path: Path, suffix: str) -> None:
    options = VideoOptions(tmp_path / f"v{suffix}")
    sink = VideoSink(options, live=False, fps=10, endless=False)

    record(sink, [shown(128, size_hw=(120, 161), number=0), shown(128, size_hw=(50, 200), number=1)])

    capture = cv2.VideoCapture(str(options.path))
    images = [image for there, image in (capture.read() for _ in range(3)) if there]
    assert [image.shape for image in images] == [(120, 160, 3)] * 2


def test_a_full_disk_is_an_error_of_the_video_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))

    with camera_sink(tmp_path) as sink, pytest.raises(OSError, match="no space left"):
        sink.write(shown(128))


def test_a_video_of_an_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.avi"):
        VideoSink(VideoOptions(tmp_path / "v.gif"), live=True, fps=10)


def test_a_video_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such folder"):
        VideoSink(VideoOptions(tmp_path / "missing" / "v.avi"), live=True, fps=10)


def test_the_video_of_a_file_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "v.avi").write_bytes(b"mine")

    with pytest.raises(OutputError, match="exists already"):
        VideoSink(VideoOptions(tmp_path / "v.avi"), live=False, fps=10, endless=False)

    assert (tmp_path / "v.avi").read_bytes() == b"mine"


def test_a_bound_for_the_video_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--video-mb is for cameras"):
        VideoSink(VideoOptions(tmp_path / "v.avi", max_bytes=1), live=False, fps=10, endless=False)
