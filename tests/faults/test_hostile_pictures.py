"""Hostile pictures, videos and streams: refused in one line, or counted and survived, and never a crash of the camera."""

from __future__ import annotations

import contextlib
import json
import random
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import SHIPPED, run_edgecnn
from ledger import SEED, Ledger, counted
from mjpeg_server import MjpegServer
from numpy.typing import NDArray
from running import CameraProcess, wait_until

pytestmark = pytest.mark.timeout(900)
TABLE = "pictures"
MODEL = str(SHIPPED / "neu-int8.tflite")
FORMS = (".jpg", ".png", ".bmp", ".webp", ".tiff")


def scene(seed: int, size_wh: tuple[int, int] = (160, 120)) -> NDArray[np.uint8]:
    """Draw a gray ramp with a sensor's noise, `(h, w, 3)`."""
    ramp = np.linspace(40, 200, size_wh[0])[None, :, None] + np.random.default_rng(seed).integers(
        -9, 10, (size_wh[1], size_wh[0], 3)
    )
    return np.clip(ramp, 0, 255).astype(np.uint8)


def encoded(suffix: str, image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def run_fuzzer(kind: str, folder: Path, *, cases: int, limit_s: float) -> dict[str, int]:
    """Decode in a process of its own that has to come to its end; return its counts."""
    script = Path(__file__).parent / "decoding.py"
    command = [sys.executable, str(script), kind, str(folder), str(SEED), str(cases), str(limit_s)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=limit_s + 300, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-3000:])
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


@pytest.mark.parametrize("form", FORMS)
def test_no_damaged_picture_is_another_error(form: str, tmp_path: Path, ledger: Ledger) -> None:
    counts = run_fuzzer(form, tmp_path, cases=2000, limit_s=45)

    assert sum(counts.values()) > 200
    ledger.note(TABLE, f"`{form}`: bytes and blocks changed, cut short", sum(counts.values()), counted(counts))


@pytest.mark.parametrize("form", [".mp4", ".avi", ".mkv"])
def test_no_damaged_video_is_a_crash(form: str, tmp_path: Path, ledger: Ledger) -> None:
    counts = run_fuzzer(form, tmp_path, cases=400, limit_s=45)

    assert sum(counts.values()) > 50
    ledger.note(TABLE, f"`{form}`: bytes and blocks changed, cut short, wrong rates", sum(counts.values()), counted(counts))


def claiming_png(side: int) -> bytes:
    """Return a small PNG that claims `side` x `side` pixels."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    packed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty.jpg": lambda: b"",
    "text.jpg": lambda: b"this is no picture\n" * 9,
    "cut.jpg": lambda: encoded(".jpg", scene(1))[:900],
    "cut.png": lambda: encoded(".png", scene(1))[:900],
    "flipped.png": lambda: encoded(".png", scene(1))[:2000] + b"\0" + encoded(".png", scene(1))[2001:],
    "huge.png": lambda: claiming_png(60_000),
    "zero.png": lambda: claiming_png(0),
    "header.bmp": lambda: encoded(".bmp", scene(1))[:54],
    "noise.webp": lambda: b"RIFF\x00\x10\x00\x00WEBPVP8 " + np.random.default_rng(0).bytes(4000),
}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of good and hostile pictures in turns."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, (name, make) in enumerate(HOSTILE.items()):
        (folder / f"{number}a_{name}").write_bytes(make())
        (folder / f"{number}b_good.png").write_bytes(encoded(".png", scene(number)))
    return folder


def test_a_folder_with_hostile_pictures_is_seen_to_its_end(mixed: Path, tmp_path: Path, ledger: Ledger) -> None:
    lines = tmp_path / "o.jsonl"

    done = run_edgecnn("camera", MODEL, "--source", mixed, "--jsonl", lines, "--no-terminal", timeout_s=200)

    states = Counter(json.loads(line)["state"] for line in lines.read_text().splitlines())
    assert done.code == 0 and "Traceback" not in done.err, done
    assert states == {"ok": len(HOSTILE), "blind": len(HOSTILE)}
    outcome = f"{len(HOSTILE)} good ones classified, {len(HOSTILE)} hostile ones counted as blind"
    ledger.note(TABLE, "a folder: " + ", ".join(f"`{name}`" for name in HOSTILE), 2 * len(HOSTILE), outcome)


def test_classify_refuses_a_hostile_picture_in_one_line(tmp_path: Path, ledger: Ledger) -> None:
    for name, make in HOSTILE.items():
        (tmp_path / name).write_bytes(make())

        done = run_edgecnn("classify", MODEL, tmp_path / name)

        assert done.is_one_line and name in done.complaint, (name, done)

    ledger.note(TABLE, "the same, each by `edgecnn classify`", len(HOSTILE), "refused in one line that names the file")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 120))
    for number in range(40):
        writer.write(scene(number))
    writer.release()
    return path


def test_a_video_that_is_cut_short_says_so(video: Path, tmp_path: Path, ledger: Ledger) -> None:
    data, lines = video.read_bytes(), tmp_path / "o.jsonl"
    video.write_bytes(data[: len(data) // 2])

    done = run_edgecnn("camera", MODEL, "--source", video, "--jsonl", lines, "--no-terminal", timeout_s=200)

    states = Counter(json.loads(line)["state"] for line in lines.read_text().splitlines())
    assert done.code == 0 and 10 < states["ok"] < 25 and states["blind"] == 1, (done, states)
    ledger.note(TABLE, "a video of 40 frames cut in half", 1, f"{states['ok']} frames classified, the loss counted as blind")


class HostileStream(MjpegServer):
    """An MJPEG camera that sends good pictures and, in between, whatever its script says."""

    def __init__(self, script: list[bytes]) -> None:
        self.script = script
        self.size_wh = (160, 120)
        self.sent = 0
        super().__init__(fps=25)

    def pictures(self) -> Iterator[bytes]:
        rng = random.Random(f"{SEED} stream")
        while self._server is not None:
            time.sleep(1 / self.fps)
            self.sent += 1
            if self.script and self.sent % 3 == 0:
                yield self.script[rng.randrange(len(self.script))]
            else:
                yield encoded(".jpg", scene(self.sent, self.size_wh))


def claiming_jpeg(side: int) -> bytes:
    """Return a small JPEG that claims `side` x `side` pixels."""
    data = bytearray(encoded(".jpg", scene(1)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(data)


SCRIPTS: dict[str, list[bytes]] = {
    "flipped, cut and empty parts": [
        b"", b"\xff\xd8", b"no picture at all", encoded(".jpg", scene(1))[:500],
        encoded(".jpg", scene(1))[:400] + b"\x55" * 300 + encoded(".jpg", scene(1))[700:], encoded(".png", scene(1)),
    ],
    "parts that claim 65,500 x 65,500 pixels": [claiming_jpeg(65_500)],
    "parts of other sizes": [encoded(".jpg", scene(3, size)) for size in ((320, 240), (16, 16), (1280, 720), (161, 121))],
}  # fmt: skip


@pytest.mark.parametrize("what", SCRIPTS)
def test_a_hostile_stream_is_survived(what: str, tmp_path: Path, ledger: Ledger) -> None:
    server = HostileStream(SCRIPTS[what])
    camera = CameraProcess(
        tmp_path, MODEL, "--source", server.address, "--reject", "0", "--novelty", "100", "--read-timeout", "3",
        "--video", str(tmp_path / "o.avi"),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(server.die)
        stack.callback(camera.close)
        wait_until(lambda: any(line.has_class for line in camera.lines[-5:]), 90, "class")
        began = server.sent
        wait_until(lambda: server.sent > began + 250 or not camera.alive, 120, "stream")
        assert camera.alive, camera.said
        server.script = []
        well = time.time()
        wait_until(lambda: any(line.has_class for line in camera.lines[-3:] if line.at > well), 60, "class afterwards")
        memory_mb = max(_memory_mb(pid) for pid in (camera.pid, *camera.children()))
        camera.end()

    states = Counter(str(line.body["state"]) for line in camera.lines)
    assert camera.returncode == 0 and "Traceback" not in camera.said
    assert memory_mb < 600
    outcome = f"{counted(states)}; frames again afterwards; at most {memory_mb:.0f} MB a process"
    ledger.note(TABLE, f"MJPEG stream, every third part hostile: {what}", server.sent // 3, outcome)


def _memory_mb(pid: int) -> float:
    """Return the most memory that a process ever held, in MB."""
    with contextlib.suppress(OSError):
        status = (Path("/proc") / str(pid) / "status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return 0.0
