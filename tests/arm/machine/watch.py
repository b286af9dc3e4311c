"""Runs in the machine: `edgecnn camera` on a real V4L2 device, in 256 MB with its page, through the loss of its camera.

Prints one line that begins with RESULT and goes on as JSON; tests/arm/test_arm_machine.py judges it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DEVICE, PORT, FPS = "/dev/video0", 8080, 5
GROUP = Path("/sys/fs/cgroup/camera")
LIMIT_BYTES = 256 * 2**20
LINES, ERRORS = Path("/tmp/out.jsonl"), Path("/tmp/stderr.txt")
PATIENCE_S = 240  # an emulated processor on a busy machine
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41


def main() -> None:
    """Go through one camera's life."""
    raise_loopback()
    limit_memory()
    result: dict[str, Any] = {"kernel": os.uname().release, "memory_total_mb": memory_mb("MemTotal")}
    writer = write()
    camera = watch()
    viewer = threading.Thread(target=view, daemon=True)
    try:
        wait("20 frames with an answer", lambda: len(answers()) >= 20)
        viewer.start()
        wait("an answer to each picture", lambda: len({answer(line) for line in answers()}) >= 2)
        result["lost"] = lose(writer)
        at = time.time()
        writer = write()
        wait("an answer after the camera came back", lambda: any(line["at"] > at for line in answers()))
        result["recovered_s"] = round(next(line["at"] for line in answers() if line["at"] > at) - at, 1)
        wait("20 frames more", lambda: sum(line["at"] > at for line in answers()) >= 20)
    except TimeoutError as error:
        result["failure"] = str(error)
    result |= judge(camera)
    writer.kill()
    print("RESULT " + json.dumps(result), flush=True)


def lose(writer: subprocess.Popen[bytes]) -> dict[str, Any]:
    """End the writer; return how soon that was said, for what reason, and how many answers came after that."""
    writer.kill()
    writer.wait()
    at = time.time()
    wait("a word that the camera is lost", lambda: bool(troubles(at)))
    first = troubles(at)[0]
    time.sleep(20)
    late = [line for line in answers() if line["at"] > first["at"]]
    states = {line["state"] for line in read_lines() if line["at"] >= first["at"]}
    return {
        "said_after_s": round(first["at"] - at, 1),
        "reasons": sorted({line["reason"] for line in troubles(at)}, key=len)[:3],
        "answers_meanwhile": len(late),
        "states": sorted(states),
    }


def judge(camera: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Measure what the camera holds, end it, and gather what it wrote."""
    processes = [camera.pid, *children(camera.pid)]
    found: dict[str, Any] = {
        "answers": len(answers()),
        "labels": sorted({answer(line) for line in answers()}),
        "ages_ms": [line["age_ms"] for line in answers()],
        "frame_size": line_size(),
        "peak_rss_mb": {name(pid): status_mb(pid, "VmHWM") for pid in processes},
        "group_peak_mb": round(int((GROUP / "memory.peak").read_text()) / 2**20, 1),
        "group_anonymous_mb": round(counter("memory.stat", "anon") / 2**20, 1),
        "oom_kills": counter("memory.events", "oom_kill"),
        "memory_available_mb": memory_mb("MemAvailable"),
        "page": VIEWED,
    }
    started_s = time.monotonic()
    camera.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        camera.wait(60)
    found["ended_after_s"] = round(time.monotonic() - started_s, 1)
    found["exit_code"] = camera.poll()
    found["stderr"] = ERRORS.read_text().splitlines()[-8:]
    return found


def watch() -> subprocess.Popen[bytes]:
    """Start the camera in the memory group."""
    enter = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(GROUP / "cgroup.procs")]
    command = ["edgecnn", "camera", "neu", "--source", DEVICE, "--web", str(PORT), "--no-terminal"]
    command += ["--jsonl", str(LINES), "--write", "every"]
    with ERRORS.open("wb") as errors:
        return subprocess.Popen([*enter, *command, *sys.argv[1:]], stderr=errors)


def write() -> subprocess.Popen[bytes]:
    """Start the second program."""
    command = [sys.executable, str(HERE / "write_frames.py"), DEVICE, "/exchange/machine/frames.npy", str(FPS)]
    return subprocess.Popen(command)


VIEWED = {"page_bytes": 0, "stream_bytes": 0, "statistics": {}}


def view() -> None:
    """Open the page, and then look at the stream for as long as there is one."""
    address = f"http://127.0.0.1:{PORT}"
    with contextlib.suppress(OSError, HTTPException, ValueError):  # the camera ends in the middle of a picture
        VIEWED["page_bytes"] = len(urllib.request.urlopen(f"{address}/", timeout=60).read())
        VIEWED["statistics"] = json.load(urllib.request.urlopen(f"{address}/api/stats", timeout=60))
        with urllib.request.urlopen(f"{address}/stream.mjpg", timeout=600) as stream:
            while data := stream.read(65536):
                VIEWED["stream_bytes"] += len(data)


def read_lines() -> list[dict[str, Any]]:
    """Return all whole lines so far, each with the time that it was written about, `at`."""
    text = LINES.read_text() if LINES.exists() else ""
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    at = 0.0
    for line in lines:
        # Lines without a frame have no time of their own: they come after the one before.
        stamp = line["captured_at"]
        at = at if stamp is None else parse_time(stamp)
        line["at"] = at + (line["age_ms"] or 0.0) / 1000
    return lines


def parse_time(text: str) -> float:
    """Return seconds since 1970 of an ISO time."""
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def answers() -> list[dict[str, Any]]:
    """Return the lines that say a class."""
    return [line for line in read_lines() if any(region["label"] is not None for region in line["regions"])]


def answer(line: dict[str, Any]) -> str:
    """Return the class of a line."""
    return str(line["regions"][0]["label"])


def troubles(since: float) -> list[dict[str, Any]]:
    """Return the lines after a time that say that no camera is to be believed."""
    return [line for line in read_lines() if line["state"] != "ok" and line["at"] > since]


def line_size() -> list[int]:
    """Return the width and height that were looked at."""
    return list(answers()[0]["regions"][0]["box"][2:]) if answers() else []


def wait(what: str, condition: Callable[[], bool]) -> None:
    """Wait for a condition; TimeoutError names it."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no {what} within {PATIENCE_S} s; {ERRORS.read_text()[-600:]}")
        time.sleep(0.5)


def limit_memory() -> None:
    """Make the group that the camera will run in."""
    (GROUP.parent / "cgroup.subtree_control").write_text("+memory")
    GROUP.mkdir(exist_ok=True)
    (GROUP / "memory.max").write_text(str(LIMIT_BYTES))


def raise_loopback() -> None:
    """Do what `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))


def counter(file: str, key: str) -> int:
    """Return one number of a file of the memory group."""
    return next(int(line.split()[1]) for line in (GROUP / file).read_text().splitlines() if line.split()[0] == key)


def status_mb(pid: int, key: str) -> float:
    """Return one size of /proc/PID/status in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return next(round(int(line.split()[1]) / 1024, 1) for line in text.splitlines() if line.startswith(f"{key}:"))


def memory_mb(key: str) -> float:
    """Return one size of /proc/meminfo in MB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith(f"{key}:"))


def children(pid: int) -> list[int]:
    """Return the ids of child processes: the camera's reader."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def name(pid: int) -> str:
    """Say which of the two processes this is."""
    return "reader" if b"reader" in Path(f"/proc/{pid}/cmdline").read_bytes() else "camera"


if __name__ == "__main__":
    main()
