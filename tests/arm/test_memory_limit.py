"""The camera with its page in a memory group of 256 MB on this machine; for ARM see test_arm_machine.py."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest
from arm_figures import Page

pytestmark = pytest.mark.timeout(900)
LIMIT_MB = 256
FRAMES = 600


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory group below our own, of cgroup version 1, which root may make."""
    own = re.search(r"^\d+:memory:(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    parent = Path("/sys/fs/cgroup/memory") / own[1].lstrip("/") if own else Path("/nowhere")
    if not os.access(parent, os.W_OK):
        pytest.skip("no memory group of cgroup version 1 that may be divided")
    folder = parent / f"edgecnn-{os.getpid()}"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(str(LIMIT_MB * 2**20))
    yield folder
    folder.rmdir()


def test_the_camera_runs_with_its_page_in_256_mb(group: Path, page: Page) -> None:
    options = ["--source", "synthetic", "--frames", str(FRAMES), "--no-terminal", "--web", "0"]
    enter = ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(group / "cgroup.procs")]

    camera = subprocess.Popen(
        [*enter, sys.executable, "-m", "edgecnn", "camera", "neu", *options], stderr=subprocess.PIPE, text=True
    )
    viewed = Viewer(camera)
    viewed.join()
    camera.wait()

    kills = re.search(r"^oom_kill (\d+)$", (group / "memory.oom_control").read_text(), re.MULTILINE)
    page.add("memory", ("machine", "figure"), "x86-64: largest resident memory of the camera", f"{viewed.peak_mb:.0f} MB")
    assert camera.returncode == 0, viewed.said
    assert kills is not None and kills[1] == "0"
    assert viewed.page_bytes > 1000
    assert viewed.stream_bytes > 100_000
    assert 0 < viewed.peak_mb < LIMIT_MB


class Viewer(threading.Thread):
    """Reads the camera's notices, and looks at its page and stream as soon as they say where that is."""

    def __init__(self, camera: subprocess.Popen[str]) -> None:
        super().__init__()
        self.said = ""
        self.page_bytes = self.stream_bytes = 0
        self.peak_mb = 0.0
        self._camera = camera
        self.start()

    def run(self) -> None:
        assert self._camera.stderr is not None
        with self._camera.stderr as lines:
            for line in lines:
                self.said += line
                if found := re.search(r"http://\S+", line):
                    self._look(found[0].rstrip("/"))

    def _look(self, address: str) -> None:
        with contextlib.suppress(OSError, HTTPException, ValueError):  # the camera ends in the middle of a picture
            self.page_bytes = len(urllib.request.urlopen(address, timeout=30).read())
            with urllib.request.urlopen(f"{address}/stream.mjpg", timeout=30) as stream:
                while data := stream.read(65536):
                    self.stream_bytes += len(data)
                    self.peak_mb = self._peak_mb()

    def _peak_mb(self) -> float:
        """Return the camera's own peak: what wait4 tells begins with the memory of the process that started it."""
        status = Path(f"/proc/{self._camera.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
