"""A camera destroys no file: what is there and not its own is refused before anything is begun."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from test_video_file import shown

from edgecnn.cli.camera import camera
from edgecnn.errors import EdgecnnError, OutputError
from edgecnn_device.sinks.video_file import VideoOptions, VideoSink, check_video


def run(artifacts: Path, *arguments: str | Path) -> Result:
    model = str(artifacts / "neu.tflite")
    return CliRunner().invoke(camera, [model, "--no-terminal", *map(str, arguments)])


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in (30, 90, 150):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("option", ["--jsonl", "--csv"])
def test_a_foreign_file_is_refused_before_the_camera_is_opened(artifacts: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "notes").write_text("my thesis")
    begun_s = time.monotonic()

    done = run(artifacts, "--source", "rtsp://192.0.2.1/never", option, tmp_path / "notes")

    assert isinstance(done.exception, OutputError)
    assert "edgecnn has not begun it" in str(done.exception)
    assert time.monotonic() - begun_s < 5
    assert (tmp_path / "notes").read_text() == "my thesis"
    assert list(tmp_path.iterdir()) == [tmp_path / "notes"]


@pytest.mark.parametrize("option", ["--jsonl", "--csv", "--video"])
def test_standard_output_is_no_file(artifacts: Path, tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    done = run(artifacts, "--source", "synthetic", "--frames", "1", option, "-")

    assert isinstance(done.exception, OutputError) and f"{option} -: name a file" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_two_sinks_do_not_share_a_file(artifacts: Path, tmp_path: Path) -> None:
    done = run(artifacts, "--source", "synthetic", "--jsonl", tmp_path / "a", "--csv", tmp_path / "a")

    assert "--jsonl and --csv cannot both be" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("as_link", ["", "symbolic", "hard"])
@pytest.mark.parametrize("options", [[], ["--loop", "--frames", "4"], ["--realtime", "--frames", "2"]])
def test_a_video_never_overwrites_its_own_source(
    artifacts: Path, tmp_path: Path, clip: Path, as_link: str, options: list[str]
) -> None:
    before, out = clip.read_bytes(), clip
    if as_link:
        out = tmp_path / "link.avi"
        (out.symlink_to if as_link == "symbolic" else out.hardlink_to)(clip)

    done = run(artifacts, "--source", clip, "--video", out, *options)

    assert clip.read_bytes() == out.read_bytes() == before
    refused = isinstance(done.exception, EdgecnnError) and "it exists already" in str(done.exception)
    assert refused if not options else done.exit_code == 0, done


def test_a_recording_that_is_played_again_and_again_is_not_removed_as_the_oldest(tmp_path: Path, clip: Path) -> None:
    recorded = clip.rename(tmp_path / "v-20200101T000000Z.avi")
    (tmp_path / "link.avi").symlink_to(recorded)

    for source in (recorded, tmp_path / "link.avi"):
        with pytest.raises(OutputError, match="would be one of its files"):
            check_video(VideoOptions(tmp_path / "v.avi"), endless=True, source=source)
    check_video(VideoOptions(tmp_path / "w.avi"), endless=True, source=recorded)


def test_a_file_that_comes_between_the_start_and_the_first_frame_is_not_overwritten(tmp_path: Path) -> None:
    with VideoSink(VideoOptions(tmp_path / "v.avi"), live=False, fps=10, endless=False) as sink:
        (tmp_path / "v.avi").write_text("precious")
        with pytest.raises(OutputError, match="it exists already"):
            sink.write(shown(30))

    assert (tmp_path / "v.avi").read_text() == "precious"


def test_a_video_that_cannot_be_written_leaves_no_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.VideoWriter, "isOpened", lambda self: False)
    with VideoSink(VideoOptions(tmp_path / "v.avi"), live=False, fps=10, endless=False) as sink:
        for _ in range(2):
            with pytest.raises(OutputError, match="cannot write the video"):
                sink.write(shown(30))

    assert list(tmp_path.iterdir()) == []
