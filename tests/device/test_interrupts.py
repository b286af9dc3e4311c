"""Ctrl-C reaches the whole group of a terminal: the camera and the process that reads for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def silent_address() -> Iterator[str]:
    """Return the address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/stream"


def readers(pid: int) -> list[int]:
    """Return the children that run another program: a model is tried in a fork of the camera itself before that."""
    tasks = (Path("/proc") / str(pid) / "task").iterdir()
    found = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return [child for child in found if command_of(child) not in (b"", command_of(pid))]


def command_of(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:  # it has gone
        return b""


def interrupted(model: str, source: str, after_s: float) -> tuple[int, str]:
    """Press Ctrl-C so long after the reader process is there; return exit code and what was said on stderr."""
    command = [sys.executable, "-m", "edgecnn", "camera", model, "--source", source, "--no-terminal"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline_s = time.monotonic() + 60
    while not readers(process.pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    return process.returncode, said


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.15, 0.3, 1.0])
def test_ctrl_c_while_the_camera_is_being_connected_to_gives_no_traceback(
    artifacts: Path, silent_address: str, after_s: float
) -> None:
    code, said = interrupted(str(artifacts / "neu.tflite"), silent_address, after_s)

    assert "Traceback" not in said
    assert "KeyboardInterrupt" not in said
    assert said.splitlines()[-1].startswith("0 frames, 0 answers")
    assert "loss" not in said
    assert code == 0
