"""Processes under test: the camera, watched line by line, and servers that can die, hang, stall and come back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def wait_until(condition: Callable[[], bool], limit_s: float, what: str) -> float:
    """Wait for a condition; return how long that took."""
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() - started_s < limit_s, f"no {what} within {limit_s:g} s"
        time.sleep(0.02)
    return time.monotonic() - started_s


def need(program: str) -> str:
    """Return the path of a program; a test that cannot run without it fails with the way out."""
    found = shutil.which(program, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        pytest.fail(f"{program} is not installed; `make test-system` as root installs it", pytrace=False)
    return found


def a_second() -> float:
    """Return how long a second's limit is here: a machine with more to run than cores takes as many times longer."""
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def find_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Line:
    """One JSON line, and when it was seen here."""

    at: float
    body: dict[str, Any]

    @property
    def has_class(self) -> bool:
        """Whether it says a class."""
        return any(region["label"] is not None or region["smoothed"]["label"] is not None for region in self.body["regions"])

    @property
    def has_regions(self) -> bool:
        """Whether the model was asked at all."""
        return bool(self.body["regions"])


@dataclass(frozen=True)
class Holdings:
    """What a process holds: threads, open descriptors, child processes."""

    threads: int
    descriptors: int
    children: int


class CameraProcess:
    """`edgecnn camera` as a process of its own; `lines` grows as it writes them."""

    def __init__(self, folder: Path, model: str, *options: str) -> None:
        self.lines: list[Line] = []
        self._path = folder / "out.jsonl"
        self._errors_path = folder / "stderr.txt"
        with self._errors_path.open("wb") as errors:
            command = [sys.executable, "-m", "edgecnn", "camera", model, "--no-terminal"]
            command += ["--jsonl", str(self._path), "--write", "every", *options]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        self._watching = True
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """All that it wrote to stderr."""
        return self._errors_path.read_text()

    def state_since(self, at: float) -> str | None:
        """Return the newest state that was written after `at`."""
        newest = self.lines[-1] if self.lines else None
        return newest.body["state"] if newest and newest.at > at else None

    def holdings(self) -> Holdings:
        """Count what it holds all the time: the least of a second, for files come and go."""
        root = Path("/proc") / str(self.pid)
        counts = []
        for _ in range(20):
            counts.append((len(list((root / "task").iterdir())), len(list((root / "fd").iterdir())), len(self.children())))
            time.sleep(0.05)
        return Holdings(*(min(column) for column in zip(*counts, strict=True)))

    def children(self) -> list[int]:
        """Return the ids of its child processes."""
        tasks = (Path("/proc") / str(self.pid) / "task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]

    def end(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; return how many seconds it lived on."""
        started_s = time.monotonic()
        self._process.send_signal(number)
        self._process.wait(20)
        took_s = time.monotonic() - started_s
        self._watching = False
        self._watcher.join()
        return took_s

    @property
    def returncode(self) -> int | None:
        """The exit status."""
        return self._process.returncode

    def close(self) -> None:
        """End it if it still runs."""
        if self.alive:
            self.end(signal.SIGKILL)

    def _watch(self) -> None:
        rest = b""
        while not self._path.exists() and self._watching:
            time.sleep(0.02)
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            while True:
                ending = not self._watching
                rest += file.read()
                *whole, rest = rest.split(b"\n")
                self.lines += [Line(time.time(), json.loads(line)) for line in whole]
                if ending:
                    return
                time.sleep(0.02)


class CameraServer:
    """A server process at a port that it keeps."""

    def __init__(self, kind: str) -> None:
        self.port = find_port()
        path = {"mjpeg": "stream.mjpg", "rtsp": "camera"}[kind]
        self.address = f"{'http' if kind == 'mjpeg' else 'rtsp'}://127.0.0.1:{self.port}/{path}"
        # gst-rtsp-server comes with Debian's own Python.
        python = sys.executable if kind == "mjpeg" else "/usr/bin/python3"
        self._command = [python, str(HERE / f"serve_{kind}.py"), str(self.port)]
        self._process = self._start()

    def trouble(self, kind: str) -> None:
        """Die, hang or stall; it has come to that when this returns."""
        match kind:
            case "die":
                self.close()
            case "hang":
                self._process.send_signal(signal.SIGSTOP)
                wait_until(self._stands_still, 10, "stopped server")
            case "stall":
                self._toggle()

    def recover(self, kind: str) -> None:
        """Be well again."""
        match kind:
            case "die":
                self._process = self._start()
            case "hang":
                self._process.send_signal(signal.SIGCONT)
            case "stall":
                self._toggle()

    def close(self) -> None:
        """End at once, as a camera does that loses its power."""
        self._process.kill()
        self._process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {"GST_DEBUG": "0"}
        return subprocess.Popen(self._command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _toggle(self) -> None:
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGUSR1)
        self._process.stdout.readline()

    def _stands_still(self) -> bool:
        """Say whether every thread is stopped: a busy machine lets some run on for half a second."""
        stats = (Path("/proc") / str(self._process.pid) / "task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)
