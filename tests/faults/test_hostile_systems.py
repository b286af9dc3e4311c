"""A system that lacks something: each lack has a defined answer, one line and exit code 2, or a camera that goes on."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import SHIPPED, fill, run_edgecnn
from large_camera import Kind, LargeCamera
from ledger import Ledger, counted
from mjpeg_server import MjpegServer
from running import CameraProcess, wait_until

pytestmark = pytest.mark.timeout(900)
TABLE = "system"
MODEL = str(SHIPPED / "neu-int8.tflite")


def _lines(path: Path) -> list[dict[str, object]]:
    """Read JSON Lines, all of which must be whole."""
    data = path.read_bytes()
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


def test_a_full_disk_keeps_the_export_of_before(small_disk: Path, ledger: Ledger) -> None:
    out = small_disk / "out"
    assert run_edgecnn("export", "mnist", "--data", "synthetic", "--format", "tflite", "--out", out, timeout_s=600).code in (
        0,
        1,
    )
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    fill(small_disk, leave=20_000)

    done = run_edgecnn("export", "mnist", "--data", "synthetic", "--int8", "--out", out, timeout_s=600)

    assert "no space left on device" in done.complaint and done.code == 2, done
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    ledger.note(TABLE, "disk full during `edgecnn export`", 1, f"exit code 2, `{_short(done.complaint, small_disk)}`")


def test_a_full_disk_is_counted_and_the_camera_goes_on(small_disk: Path, ledger: Ledger) -> None:
    ballast = fill(small_disk, leave=60_000)
    sinks: list[str | Path] = [
        "--jsonl",
        small_disk / "o.jsonl",
        "--csv",
        small_disk / "o.csv",
        "--video",
        small_disk / "o.avi",
    ]
    kept: list[str | Path] = ["--keep", small_disk / "kept", "--keep-every", "0.001"]

    options = ["--no-realtime", "--frames", "300", "--no-terminal"]
    done = run_edgecnn("camera", MODEL, *options, *sinks, *kept, timeout_s=300)

    assert done.code == 0 and "300 frames" in done.err and "Traceback" not in done.err, done
    errors = {name: f"errors of {name}" in done.err for name in ("jsonl", "csv", "video", "samples")}
    assert errors["samples"] and errors["video"], done.err
    assert all(line["state"] == "ok" for line in _lines(small_disk / "o.jsonl"))
    for picture in (small_disk / "kept").glob("*.png"):
        assert cv2.imread(str(picture)) is not None
    ballast.unlink()
    again = run_edgecnn("camera", MODEL, *options, *sinks[:4], timeout_s=300)
    assert again.code == 0 and "errors of jsonl" not in again.err, again
    ledger.note(
        TABLE, "disk full under all files of a camera", 1, "all 300 frames seen, each failed write counted, one line each"
    )


def test_a_full_disk_keeps_the_labels_of_before(small_disk: Path, ledger: Ledger) -> None:
    kept = small_disk / "kept"
    options = ["--no-realtime", "--frames", "5", "--no-terminal", "--keep-every", "0.001"]
    assert run_edgecnn("camera", MODEL, *options, "--keep", kept, timeout_s=300).code == 0
    names = sorted(path.stem for path in kept.glob("*.png"))
    assert run_edgecnn("samples", "label", kept, names[0], "--as", "dent").code == 0
    before = (kept / "labels.jsonl").read_bytes()
    fill(small_disk, leave=0)

    refused = [run_edgecnn("samples", "label", kept, names[0], "--as", f"{number} {'x' * 90}") for number in range(30)]
    exported = run_edgecnn("samples", "export", kept, small_disk / "out", "--with-random")

    last = [done for done in refused if done.code != 0]
    assert last and all(done.code == 2 and "the label was not kept" in done.complaint for done in last), refused[-1]
    assert exported.code == 2 and "no space left on device" in exported.complaint, exported
    lines = (kept / "labels.jsonl").read_bytes()
    assert lines.startswith(before) and lines.endswith(b"\n")
    assert lines.count(b"\n") == before.count(b"\n") + len(refused) - len(last)
    outcome = "exit code 2, one line; every label before it is there, none in part"
    ledger.note(TABLE, "disk full while labelling", len(last), outcome)


def test_a_limit_on_file_sizes_is_one_line(tmp_path: Path, picture: Path, ledger: Ledger) -> None:
    limit = {resource.RLIMIT_FSIZE: 3000}

    exported = run_edgecnn(
        "export", "mnist", "--data", "synthetic", "--format", "tflite", "--out", tmp_path / "out", limits=limit, timeout_s=600
    )
    plotted = run_edgecnn("classify", MODEL, picture, "--plot", tmp_path / "p.png", limits=limit, timeout_s=300)

    assert (exported.code, plotted.code) == (2, 2), (exported, plotted)
    assert "file too large" in exported.complaint.lower() and "file too large" in plotted.complaint.lower()
    assert not list((tmp_path / "out").glob("mnist-*")) and not (tmp_path / "p.png").exists()
    ledger.note(TABLE, "files limited to 3 kB (RLIMIT_FSIZE): export, plot", 2, "exit code 2, one line, nothing half-written")


def test_a_read_only_folder_is_one_line(small_disk: Path, picture: Path, ledger: Ledger) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    camera = ["camera", MODEL, "--frames", "1", "--no-realtime"]
    commands: list[list[str | Path]] = [
        [*camera, "--jsonl", small_disk / "a"],
        [*camera, "--csv", small_disk / "a"],
        [*camera, "--keep", small_disk / "a", "--keep-every", "1"],
        ["classify", MODEL, picture, "--plot", small_disk / "a.png"],
        ["data", "generate", "neu", small_disk / "a", "--count", "1"],
        ["export", "mnist", "--data", "synthetic", "--out", small_disk / "a"],
        ["train", "mnist", "--data", "synthetic", "--out", small_disk / "a", "--epochs", "1"],
        ["sign", _copy_of_model(small_disk), "--key", _key(picture.parent)],
    ]

    answers = [run_edgecnn(*command, timeout_s=600) for command in commands]

    for command, done in zip(commands, answers, strict=True):
        assert done.code == 2 and "read-only file system" in done.complaint, (command, done)
    ledger.note(
        TABLE, "read-only folder: " + ", ".join(f"`{c[0]}`" for c in commands[2:]), len(commands), "exit code 2, one line"
    )


def _copy_of_model(read_only: Path) -> Path:
    """Put a model on the read-only disk."""
    subprocess.run(["mount", "-o", "remount,rw", str(read_only)], check=True)
    (read_only / "model.tflite").write_bytes(Path(MODEL).read_bytes())
    subprocess.run(["mount", "-o", "remount,ro", str(read_only)], check=True)
    return read_only / "model.tflite"


def _key(folder: Path) -> Path:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / "key.pem"
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return path


def _short(complaint: str, folder: Path) -> str:
    return complaint.replace(str(folder), "DISK")


def test_commands_with_few_descriptors_end_in_one_line(picture: Path, ledger: Ledger) -> None:
    counts: Counter[str] = Counter()
    limits = [6, 7, 8, 9, 10, 12, 14, 16, 20, 24]
    for command in (["verify", MODEL], ["classify", MODEL, str(picture)], ["camera", MODEL, "--frames", "2", "--no-realtime"]):
        for most in limits:
            done = run_edgecnn(*command, limits={resource.RLIMIT_NOFILE: most}, timeout_s=120)
            assert done.code == 0 or done.is_one_line, (command, most, done)
            counts["did their work" if done.code == 0 else "refused in one line"] += 1

    assert counts["did their work"]
    ledger.note(
        TABLE, f"only {limits[0]} to {limits[-1]} descriptors: `verify`, `classify`, `camera`", counts.total(), counted(counts)
    )


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    camera = MjpegServer(fps=15)
    yield camera
    camera.die()


def test_a_camera_that_runs_out_of_descriptors_recovers(tmp_path: Path, server: MjpegServer, ledger: Ledger) -> None:
    camera = CameraProcess(
        tmp_path, MODEL, "--source", server.address, "--read-timeout", "1", "--reject", "0", "--novelty", "100", "--web", "0"
    )
    with contextlib.ExitStack() as stack:
        stack.callback(camera.close)
        wait_until(lambda: any(line.has_class for line in camera.lines[-3:]), 90, "class")
        held = len(list((Path("/proc") / str(camera.pid) / "fd").iterdir()))
        before = resource.prlimit(camera.pid, resource.RLIMIT_NOFILE, (held, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        server.die()
        began = time.time()
        wait_until(lambda: camera.state_since(began) == "stale", 30, "stale state")
        server.start()
        time.sleep(3)
        assert camera.alive, camera.said
        resource.prlimit(camera.pid, resource.RLIMIT_NOFILE, before)
        again = time.time()
        wait_until(lambda: any(line.has_class for line in camera.lines[-3:] if line.at > again), 90, "class")
        camera.end()

    assert camera.returncode == 0 and "Traceback" not in camera.said
    reasons = {str(line.body.get("reason", "")) for line in camera.lines}
    refused = any("Too many open files" in reason for reason in reasons)
    ledger.note(
        TABLE,
        "descriptors used up while the camera is lost",
        1,
        "stale" + ", with that reason" * refused + ", then frames again",
    )


def test_a_clock_that_is_set_changes_no_state_and_loses_nothing(tmp_path: Path, ledger: Ledger) -> None:
    jumps = [-(50 * 365 * 86400), 10 * 365 * 86400, -3600, 3600, -0.5, 86400 * 45]
    here = Path(__file__).parent
    command = [sys.executable, str(here / "clocks.py"), str(tmp_path), json.dumps(jumps)]
    environment = os.environ | {"PYTHONPATH": str(here.parent / "device")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)

    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout)
    # A machine that is busy elsewhere may make a frame late; no clock may.
    assert seen["states"].keys() <= {"ok", "stale"} and seen["states"]["ok"] >= 0.9 * seen["frames"], seen
    assert (seen["lines"], seen["history_grew"]) == (sum(seen["states"].values()), True), seen
    assert seen["samples"] > seen["jumps"], seen
    assert abs(seen["state_seconds"] - seen["seconds"]) < 0.5, seen
    outcome = f"{seen['frames']} frames, {seen['states']['ok']} of them `ok`, each with its line; seconds of states stay right"
    ledger.note(TABLE, "clock set back 50 years, forward 10, by an hour, 45 days", seen["jumps"], outcome)


def test_memory_that_is_short_is_one_line_or_enough(tmp_path: Path, ledger: Ledger) -> None:
    large = tmp_path / "large.png"
    cv2.imwrite(
        str(large), np.random.default_rng(0).integers(0, 256, (6000, 8000, 3), np.uint8), (cv2.IMWRITE_PNG_COMPRESSION, 0)
    )
    usual = _address_space()
    counts: Counter[str] = Counter()
    for spare_mb in (50, 100, 150, 200, 300, 400, 600, 1200):
        limits = {resource.RLIMIT_AS: usual + spare_mb * 2**20}
        done = run_edgecnn("classify", MODEL, large, limits=limits, timeout_s=120)
        assert done.code == 0 or done.is_one_line, (spare_mb, done)
        counts["did their work" if done.code == 0 else "refused in one line"] += 1

    assert counts["did their work"] and counts["refused in one line"], counts
    ledger.note(TABLE, "48 megapixels with 50 to 1,200 MB to spare (RLIMIT_AS)", counts.total(), counted(counts))


def _address_space() -> int:
    """Return how many bytes of addresses `classify` uses before it reads a picture."""
    code = (
        "from edgecnn.classifier import Classifier; import sys; Classifier.open(sys.argv[1])\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmPeak')).split()[1])"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, MODEL], capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout) * 1024


CGROUP = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory_group(most: int) -> Iterator[Path]:
    """Make a control group of so many bytes (version 1 or 2); skipped where this user may not."""
    version_1 = (CGROUP / "memory" / "memory.limit_in_bytes").exists()
    group = (CGROUP / "memory" if version_1 else CGROUP) / f"edgecnn-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("only root may limit a control group's memory")
    try:
        (group / ("memory.limit_in_bytes" if version_1 else "memory.max")).write_text(str(most))
        if not version_1 and (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text().strip(), 20, "empty group")
        group.rmdir()


def test_a_camera_fits_into_256_mb_and_one_that_does_not_leaves_whole_lines(tmp_path: Path, ledger: Ledger) -> None:
    with memory_group(256 * 2**20) as group:
        fits = CameraProcess(tmp_path, MODEL, "--no-realtime", "--frames", "400", "--web", "0")
        (group / "cgroup.procs").write_text(str(fits.pid))
        wait_until(lambda: not fits.alive, 300, "end")
        fits.close()
        assert fits.returncode == 0, fits.said
    with memory_group(256 * 2**20) as group:
        folder = tmp_path / "short"
        folder.mkdir()
        short = CameraProcess(folder, MODEL, "--no-realtime")
        (group / "cgroup.procs").write_text(str(short.pid))
        with contextlib.closing(short):
            wait_until(lambda: len(short.lines) > 20, 120, "lines")
            _take_memory(group, short, 236)
        assert short.returncode == -signal.SIGKILL, (short.returncode, short.said)
    again = run_edgecnn(
        "camera", MODEL, "--no-realtime", "--frames", "5", "--no-terminal", "--jsonl", folder / "out.jsonl", timeout_s=200
    )

    assert again.code == 0, again
    assert len(_lines(folder / "out.jsonl")) > 25
    ledger.note(TABLE, "control group of 256 MB, with the web page", 1, "400 frames, all seen")
    ledger.note(
        TABLE, "memory taken away until the kernel kills the camera", 1, "signal 9; the next start goes on behind whole lines"
    )


@pytest.mark.parametrize(
    ("kind", "options", "outcome"),
    [
        ("mjpeg", ["--web", "0"], "ok"),
        ("video", [], "--size 1280x720"),
        ("video", ["--size", "1280x720"], "ok"),
    ],
)
def test_a_4k_camera_stays_within_256_mb_or_is_refused_with_advice(
    tmp_path: Path, ledger: Ledger, kind: Kind, options: list[str], outcome: str
) -> None:
    with LargeCamera(kind, tmp_path) as server, memory_group(256 * 2**20) as group:
        camera = CameraProcess(tmp_path, MODEL, "--source", server.address, "--open-timeout", "30", *options)
        (group / "cgroup.procs").write_text(str(camera.pid))
        with contextlib.closing(camera):
            wait_until(lambda: _has_said(camera, outcome), 120, outcome)
            camera.end()
        kills = (group / ("memory.oom_control" if (group / "memory.oom_control").exists() else "memory.events")).read_text()

    assert camera.returncode == 0, camera.said
    assert "oom_kill 0" in kills
    assert outcome != "ok" or all("MB that there are here" not in json.dumps(line.body) for line in camera.lines)
    named = f"{'Motion JPEG' if kind == 'mjpeg' else 'MPEG-4'} {' '.join(options)}".strip()
    came_of_it = "20 frames, all seen" if outcome == "ok" else "`stale`, with the advice to use --size 1280x720"
    ledger.note(TABLE, f"control group of 256 MB, a camera of 3840x2160, {named}", 1, came_of_it)


def _has_said(camera: CameraProcess, outcome: str) -> bool:
    """Tell whether a camera has 20 usable frames, or has said why it has none."""
    if outcome == "ok":
        return sum(line.body["state"] == "ok" for line in list(camera.lines)) >= 20
    return any(outcome in line.body.get("reason", "") for line in list(camera.lines))


def _take_memory(group: Path, camera: CameraProcess, megabytes: int) -> None:
    """Let somebody else in the group take memory until the kernel ends the camera, which is the one to go."""
    code = "import sys; sys.stdin.read(1); held = b'x' * (int(sys.argv[1]) << 20); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(megabytes)], stdin=subprocess.PIPE) as other:
        assert other.stdin is not None
        (Path("/proc") / str(camera.pid) / "oom_score_adj").write_text("1000")
        (group / "cgroup.procs").write_text(str(other.pid))
        try:
            other.stdin.write(b"!")
            other.stdin.flush()
            wait_until(lambda: not camera.alive, 60, "end by the kernel")
        finally:
            other.kill()
    camera.close()


def _claiming(side: int) -> dict[str, bytes]:
    """Return small files of many forms that claim `side` x `side` pixels, and whole ones just below what is refused."""
    small = np.zeros((16, 16, 3), np.uint8)
    lossy = bytearray(cv2.imencode(".webp", small, (cv2.IMWRITE_WEBP_QUALITY, 50))[1].tobytes())
    lossy[26:30] = struct.pack("<HH", side & 0x3FFF, side & 0x3FFF)
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 273: 200, 277: 1, 278: side, 279: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    large = np.random.default_rng(0).integers(0, 256, (1100, 1100, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    return {
        "bomb.webp": bytes(lossy),
        "bomb.tif": b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(400),
        "bomb.pgm": b"P5\n%d %d\n255\n" % (side, side) + bytes(300),
        "bomb.png": b"GIF89a" + b"\xff" * 60,
        "scans.jpg": b"\xff\xd8\xff\xc2\0\x11\x08\x0f\xff\x0f\xff\3\1\x11\0\2\x11\0\3\x11\0"
        + b"\xff\xda\0\x08\1\1\0\0\0\0" * 60_000
        + b"\xff\xd9",
        "large.jpg": cv2.imencode(".jpg", large, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1))[1].tobytes(),
        "large.webp": cv2.imencode(".webp", large)[1].tobytes(),
        "large.tiff": cv2.imencode(".tiff", large)[1].tobytes(),
    }


def test_a_camera_survives_picture_bombs_in_the_memory_of_its_service(tmp_path: Path, ledger: Ledger) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    files = _claiming(16_383)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with memory_group(400 * 2**20) as group:
        # Its own limit, as systemd sets it: the camera asks for it when it starts.
        enter = f'echo $$ > {group / "cgroup.procs"} && exec "$@"'
        command = [
            sys.executable,
            "-m",
            "edgecnn",
            "camera",
            MODEL,
            "--source",
            str(folder),
            "--no-terminal",
            "--reject",
            "0",
            "--novelty",
            "100",
        ]
        done = subprocess.run(
            ["sh", "-c", enter, "sh", *command, "--jsonl", str(tmp_path / "o.jsonl")],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    states = {Path(str(line["source"])).name: line["state"] for line in _lines(tmp_path / "o.jsonl")}
    assert done.returncode == 0 and "Traceback" not in done.stderr, done
    assert states == {name: "ok" if name.startswith("large") else "blind" for name in files}
    outcome = f"{len(files) - 3} counted as blind, 3 of 19 megapixels classified; nothing was killed"
    ledger.note(
        TABLE, "control group of 400 MB, a folder of picture bombs: " + ", ".join(f"`{n}`" for n in files), len(files), outcome
    )


def test_a_port_that_is_taken_and_an_artifact_that_goes_are_one_line(tmp_path: Path, ledger: Ledger) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_edgecnn("camera", MODEL, "--web", str(port), "--frames", "1")
    gone = run_edgecnn("camera", str(tmp_path / "gone.tflite"), "--frames", "1")

    assert done.is_one_line and gone.is_one_line, (done, gone)
    ledger.note(TABLE, "port taken; model file gone", 2, "exit code 2, one line")
