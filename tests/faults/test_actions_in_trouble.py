"""A camera that acts, killed at any moment, before a server that refuses: all it has to say arrives, its pins fail safe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from commands import SHIPPED, run_edgecnn
from ledger import Ledger

pytestmark = pytest.mark.timeout(900)
TABLE = "system"
KILLS = 8


class Server(ThreadingHTTPServer):
    """Refuses every other message with 503, and remembers the ids of the others."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked, self.came = 0, list[str]()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked += 1
        is_refused = server.asked % 2 == 1
        if not is_refused:
            server.came.append(body["id"])
        self.send_response(503 if is_refused else 204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    assert run_edgecnn("data", "generate", "neu", folder / "neu", "--count", "4").code == 0
    return folder / "neu"


def start(pictures: Path, *options: str | Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgecnn", "camera", SHIPPED / "neu-int8.tflite", "--source", pictures, "--loop"]
    pace = ["--realtime", "--fps", "10", "--no-terminal", "--on-debounce", "1"]
    return subprocess.Popen([*command, *pace, *options], stderr=subprocess.PIPE, text=True, env=os.environ | environment)


def wait_until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    ends_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.02)


def waiting(state: Path) -> set[str]:
    return {event[0] for file in state.glob("action-*.json") for event in json.loads(file.read_text())}


def test_what_waits_for_a_webhook_arrives_however_often_the_camera_is_killed(
    pictures: Path, tmp_path: Path, server: Server, ledger: Ledger
) -> None:
    state, url = tmp_path / "state", f"http://127.0.0.1:{server.server_port}/"
    options = ("--state-dir", state, "--on", f"scratches:webhook:{url}", "--on", f"patches:webhook:{url}x")
    known = set[str]()
    for number in range(KILLS):
        process = start(pictures, *options)
        enough = 3 * number
        wait_until(lambda enough=enough: server.asked > enough or bool(waiting(state)))  # type: ignore[misc]
        time.sleep(0.13 * number)
        process.kill()
        process.communicate()
        known |= waiting(state)

    last = start(pictures, *options)
    wait_until(lambda: known <= set(server.came))
    last.send_signal(signal.SIGTERM)
    _, said = last.communicate(timeout=60)

    assert known
    assert "Traceback" not in said
    ledger.note(TABLE, "kill -9 of a camera whose webhooks wait, the other side refusing every second one", KILLS, "all arrive")


def test_a_camera_that_is_killed_leaves_nobody_who_keeps_its_pins(pictures: Path, ledger: Ledger) -> None:
    pytest.importorskip("gpiozero")
    process = start(pictures, "--on", "scratches:gpio:17", GPIOZERO_PIN_FACTORY="mock")
    wait_until(lambda: bool(children(process.pid)))
    (keeper,) = children(process.pid)
    time.sleep(1)

    process.kill()
    process.communicate()

    wait_until(lambda: not Path(f"/proc/{keeper}").exists(), 10)
    ledger.note(TABLE, "kill -9 of a camera with a pin", 1, "its keeper sets the fail-safe level and ends")


def children(pid: int) -> list[int]:
    """Return the keepers among the children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            if b"pin_keeper" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
    return found
