"""Videos as FFmpeg makes them: what it says of their frames' times is what the camera writes down, and plays again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from running import need

# Of the pattern's 25 frames a second those whose number 5 or 7 divides: gaps of 40 to 200 ms.
_UNEVEN = "testsrc=size=160x120:rate=25:duration=4", r"select='not(mod(n\,7))+not(mod(n\,5))'"


@pytest.fixture
def uneven(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A video of variable rate, with frames that are decoded in another order than they are shown."""
    path = tmp_path / f"uneven{request.param}"
    codec = "mjpeg" if path.suffix == ".avi" else "libx264"
    pattern, selection = _UNEVEN
    command = [need("ffmpeg"), "-v", "error", "-f", "lavfi", "-i", pattern, "-vf", selection, "-fps_mode", "vfr", "-c:v", codec]
    subprocess.run([*command, str(path)], check=True)
    return path


def times_of(video: Path) -> list[float]:
    """Return the times of the frames as ffprobe tells them."""
    ask = [
        need("ffprobe"),
        "-v",
        "error",
        "-select_streams",
        "v",
        "-show_entries",
        "frame=pts_time",
        "-of",
        "csv=p=0",
        str(video),
    ]
    text = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
    return [float(line.strip(",")) for line in text.split()]


def run_camera(model: str, *options: str) -> None:
    subprocess.run([sys.executable, "-m", "edgecnn", "camera", model, "--no-terminal", *options], check=True, timeout=120)


@pytest.mark.parametrize("uneven", [".mp4", ".mkv", ".avi"], indirect=True)
def test_lines_carry_the_times_that_ffprobe_tells(model: str, uneven: Path, tmp_path: Path) -> None:
    run_camera(model, "--source", str(uneven), "--jsonl", str(tmp_path / "out.jsonl"))

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(32))
    assert [line["media_time_s"] for line in lines] == pytest.approx(times_of(uneven), abs=0.002)


@pytest.mark.parametrize("uneven", [".mp4"], indirect=True)
@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mp4"])
def test_the_annotated_video_takes_as_long_as_the_one_it_is_made_of(
    model: str, uneven: Path, tmp_path: Path, suffix: str
) -> None:
    made = tmp_path / f"made{suffix}"

    run_camera(model, "--source", str(uneven), "--video", str(made), "--video-fps", "25")

    assert times_of(made)[-1] == pytest.approx(times_of(uneven)[-1], abs=0.05)
