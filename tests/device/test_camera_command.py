"""The command as a process of its own, as systemd runs it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import pytest
from click.testing import CliRunner
from hostile_models import endless
from mjpeg_server import MjpegServer

from edgecnn.artifacts import Artifact
from edgecnn.classifier import NO_THRESHOLDS
from edgecnn.cli.camera import _sentence, camera
from edgecnn.errors import ArtifactError, InputError, UnknownTaskError
from edgecnn.testing import gray_picture
from edgecnn_device.camera import Summary
from edgecnn_device.loop import Statistics


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    stream = MjpegServer()
    yield stream
    stream.die()


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a camera that writes a line for every frame."""
    command = [sys.executable, "-m", "edgecnn", "camera", "--write", "every", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[float, str]:
    """Send a signal; return how long the process then lived, and what it had said on stderr."""
    started_s = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    return time.monotonic() - started_s, said


def test_three_hundred_synthetic_frames_end_by_themselves(artifacts: Path, tmp_path: Path) -> None:
    arguments = [str(artifacts / "neu.tflite"), "--source", "synthetic", "--no-realtime", "--frames", "300", "--no-terminal"]

    result = CliRunner().invoke(camera, [*arguments, "--jsonl", str(tmp_path / "out.jsonl")], catch_exceptions=False)

    assert result.exit_code == 0
    assert [line["frame"] for line in lines(tmp_path / "out.jsonl")] == list(range(300))


def test_the_summary_counts_one_of_each_in_the_singular() -> None:
    counters = Statistics(frames=1, regions=1, sink_errors=Counter(mqtt=1), events=Counter(partial=1), reasons=Counter(dark=1))

    said = _sentence(Summary(counters, skipped=0, losses=1, swaps=0))

    assert said == "1 frame, 1 answer; 1 event partial; 1 frame unusable (dark); camera lost 1 time; 1 error of mqtt"


def test_a_live_source_is_written_when_something_changes_and_its_reach_is_told(artifacts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    arguments = [str(artifacts / "neu.tflite"), "--source", "synthetic", "--frames", "60", "--no-terminal"]

    result = CliRunner().invoke(camera, [*arguments, "--jsonl", str(out)], catch_exceptions=False)

    said = [[region["smoothed"]["label"] for region in line["regions"]] for line in lines(out)]
    assert 1 <= len(said) < 60
    assert all(one != other for one, other in pairwise(said))
    assert "out.jsonl and its old files hold 300 MB: about" in result.stderr
    assert "when nothing changes" in result.stderr and "with a change every second" in result.stderr


def test_a_live_source_is_written_as_it_was_asked(artifacts: Path, tmp_path: Path) -> None:
    arguments = [str(artifacts / "neu.tflite"), "--source", "synthetic", "--frames", "45", "--fps", "30", "--no-terminal"]
    for name, policy in (("every", "every"), ("seconds", "every 0.5 s")):
        CliRunner().invoke(camera, [*arguments, "--csv", str(tmp_path / name), "--write", policy], catch_exceptions=False)

    assert len((tmp_path / "every").read_text().splitlines()) == 1 + 45
    assert 1 + 3 <= len((tmp_path / "seconds").read_text().splitlines()) < 1 + 10


def test_every_picture_of_a_folder_is_one_line_with_its_own_path(artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / "photos" / name), gray_picture(128))
    (tmp_path / "photos" / "c.png").write_bytes(b"no picture")
    out = tmp_path / "out.jsonl"

    CliRunner().invoke(
        camera,
        [str(artifacts / "neu.tflite"), "--source", str(tmp_path / "photos"), "--jsonl", str(out)],
        catch_exceptions=False,
    )

    assert [(Path(line["source"]).name, line["state"]) for line in lines(out)] == [
        ("a.png", "ok"),
        ("b.png", "ok"),
        ("c.png", "blind"),
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_camera_within_a_second_with_everything_written(artifacts: Path, tmp_path: Path, number: int) -> None:
    out, video = tmp_path / "out.jsonl", tmp_path / "v.avi"
    process = start(str(artifacts / "neu.tflite"), "--jsonl", str(out), "--video", str(video), "--csv", str(tmp_path / "o.csv"))
    wait_until(lambda: len(lines(out)) > 20)

    lived_s, said = stop(process, number)

    (recorded,) = tmp_path.glob("v-*.avi")
    capture, times = cv2.VideoCapture(str(recorded)), [datetime.fromisoformat(line["captured_at"]) for line in lines(out)]
    played_s = capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS)
    assert (process.returncode, lived_s < 1.0) == (0, True), (lived_s, said)
    assert played_s == pytest.approx((times[-1] - times[0]).total_seconds(), abs=0.3)
    assert out.read_bytes().endswith(b"\n")


def test_a_signal_ends_a_camera_within_a_second_while_its_server_hangs(
    artifacts: Path, tmp_path: Path, server: MjpegServer
) -> None:
    out = tmp_path / "out.jsonl"
    process = start(str(artifacts / "neu.tflite"), "--source", server.address, "--read-timeout", "30", "--jsonl", str(out))
    wait_until(lambda: len(lines(out)) > 5)
    server.mood = "hang"
    wait_until(lambda: lines(out)[-1]["state"] == "stale")

    lived_s, _ = stop(process)

    assert lived_s < 1.0


def test_a_lost_camera_gives_no_class_until_it_is_back(artifacts: Path, tmp_path: Path, server: MjpegServer) -> None:
    out = tmp_path / "out.jsonl"
    process = start(str(artifacts / "neu.tflite"), "--source", server.address, "--jsonl", str(out))
    wait_until(lambda: len(lines(out)) > 5)
    server.die()
    died_s = time.monotonic()
    wait_until(lambda: lines(out)[-1]["state"] == "stale")
    reported_s = time.monotonic() - died_s
    server.start()
    wait_until(lambda: lines(out)[-1]["state"] == "ok")
    stop(process)

    assert reported_s < 2.0
    assert all(not line["regions"] and "lost" in line["reason"] for line in lines(out) if line["state"] != "ok")


def test_sighup_exchanges_the_model_and_a_bad_file_does_not(artifacts: Path, tmp_path: Path) -> None:
    model, out = Path(shutil.copy(artifacts / "neu.tflite", tmp_path / "m.tflite")), tmp_path / "out.jsonl"
    process = start(str(model), "--jsonl", str(out))
    wait_until(lambda: len(lines(out)) > 5)
    for content, is_refused in ((b"rubbish", True), ((artifacts / "neu-other.tflite").read_bytes(), False)):
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").replace(model)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda wanted=is_refused: ("refused" in lines(out)[-1]["warning"]) is wanted)  # type: ignore[misc]

    _, said = stop(process)

    assert said.count("the new model was refused, the old one keeps running") == 1
    assert said.count("now running") == 1


def test_a_new_model_that_never_ends_stops_neither_the_frames_nor_the_end(artifacts: Path, tmp_path: Path) -> None:
    model, out = Path(shutil.copy(artifacts / "neu.tflite", tmp_path / "m.tflite")), tmp_path / "out.jsonl"
    process = start(str(model), "--jsonl", str(out), "--verify-timeout", "5")
    wait_until(lambda: len(lines(out)) > 5)
    endless(Artifact.open(artifacts / "neu-other.tflite")).save(model)
    process.send_signal(signal.SIGHUP)
    seen = len(lines(out))
    wait_until(lambda: len(lines(out)) > seen + 20)

    lived_s, said = stop(process)

    assert (process.returncode, lived_s < 1.0, "Traceback" in said) == (0, True, False)
    assert all(line["state"] == "ok" for line in lines(out)[seen:])


def test_a_camera_starts_after_a_power_cut_with_the_model_that_was_refused_before_it(artifacts: Path, tmp_path: Path) -> None:
    model, out = Path(shutil.copy(artifacts / "neu.tflite", tmp_path / "m.tflite")), tmp_path / "out.jsonl"
    process = start(str(model), "--jsonl", str(out), "--state-dir", str(tmp_path / "state"))
    wait_until(lambda: len(lines(out)) > 5)
    model.write_bytes(model.read_bytes()[:2000])
    process.kill()
    process.communicate(timeout=20)
    out.unlink()

    process = start(str(model), "--jsonl", str(out), "--state-dir", str(tmp_path / "state"), "--web", "0")
    wait_until(lambda: len(lines(out)) > 5)
    assert process.stderr is not None
    warning = process.stderr.readline()
    page = next(line.split()[-1] for line in process.stderr if "the page is at" in line)
    stats = json.loads(urllib.request.urlopen(f"{page}api/stats", timeout=5).read())
    metrics = urllib.request.urlopen(f"{page}metrics", timeout=5).read().decode()
    stop(process)

    assert "running the last good model, of 2" in warning
    assert lines(out)[-1]["warning"] == stats["warning"]
    assert stats["warning"] == f"{warning.removeprefix('edgecnn: ').strip()}; {NO_THRESHOLDS}"
    assert "\nedgecnn_model_refused 1.0\n" in metrics


@pytest.mark.parametrize("harm", ["removed", "a folder", "empty", "cut short", "rubbish"])
def test_a_camera_starts_with_the_last_good_model_whatever_has_become_of_the_file(
    artifacts: Path, tmp_path: Path, harm: str
) -> None:
    model = Path(shutil.copy(artifacts / "neu.tflite", tmp_path / "m.tflite"))
    options = [str(model), "--state-dir", str(tmp_path / "state"), "--source", "synthetic", "--frames", "2", "--no-terminal"]
    CliRunner().invoke(camera, options, catch_exceptions=False)
    content = {"empty": b"", "cut short": model.read_bytes()[:3000], "rubbish": bytes(range(256)) * 50}
    model.unlink()
    if harm == "a folder":
        model.mkdir()
    elif harm != "removed":
        model.write_bytes(content[harm])

    result = CliRunner().invoke(camera, options, catch_exceptions=False)

    assert result.exit_code == 0
    assert "running the last good model, of 2" in result.stderr
    with pytest.raises((ArtifactError, InputError), match=r"m\.tflite"):
        CliRunner().invoke(camera, [*options, "--pixel-range", "0..1"], catch_exceptions=False)


def test_a_folder_of_pictures_is_not_looked_at_by_another_model_than_the_one_that_is_named(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Path(shutil.copy(artifacts / "neu.tflite", tmp_path / "m.tflite"))
    cv2.imwrite(str(tmp_path / "a.png"), gray_picture(128))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    CliRunner().invoke(camera, [str(model), "--frames", "1"], catch_exceptions=False)
    model.write_bytes(b"rubbish")

    with pytest.raises(ArtifactError, match="carries no edgecnn contract"):
        CliRunner().invoke(camera, [str(model), "--source", str(tmp_path / "a.png")], catch_exceptions=False)


@pytest.mark.parametrize("reads", [1, 0])
def test_a_camera_whose_reader_leaves_ends_with_everything_written(artifacts: Path, tmp_path: Path, reads: int) -> None:
    """As in `edgecnn camera ... | head -1`."""
    out = tmp_path / "out.jsonl"
    with start(str(artifacts / "neu.tflite"), "--jsonl", str(out)) as process:
        assert process.stdout is not None and process.stderr is not None
        for _ in range(reads):
            assert process.stdout.readline()
        process.stdout.close()

        said = process.stderr.read()

    assert "Traceback" not in said and "Broken pipe" not in said
    assert out.read_bytes()[-1:] in (b"\n", b"")


def test_a_camera_without_a_model_says_what_to_give() -> None:
    with pytest.raises(InputError, match="no model"):
        CliRunner().invoke(camera, ["--source", "synthetic"], catch_exceptions=False)


def test_a_task_that_nobody_shipped_is_one_clear_error() -> None:
    with pytest.raises(UnknownTaskError, match="no such file and no shipped model"):
        CliRunner().invoke(camera, ["cifar"], catch_exceptions=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--keep-below", "0.5"],
        ["--keep-every", "5"],
        ["--roi", "1"],
        ["--tiles", "6"],
        ["--write", "every"],
        ["--video-fps", "5"],
    ],
)
def test_options_that_make_no_sense_are_refused(artifacts: Path, arguments: list[str]) -> None:
    with pytest.raises(InputError, match=arguments[0]):
        CliRunner().invoke(camera, [str(artifacts / "neu.tflite"), "--no-realtime", *arguments], catch_exceptions=False)
