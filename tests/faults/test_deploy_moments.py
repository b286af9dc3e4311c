"""A deployment that is killed or cut off at any moment: the old or the new model runs, never none, never a mix."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import SHIPPED, fill
from ledger import SEED, Ledger, counted
from local_board import ThreadCamera, make_ssh, variant

from edgecnn.artifacts import Artifact
from edgecnn_device.deploy import DeployOptions, Plan, deploy, history
from edgecnn_device.deploy.plan import PROTOCOL, Request
from edgecnn_device.deploy.store import Store, digest_of

pytestmark = pytest.mark.timeout(3600)
MOMENTS = int(os.environ.get("EDGECNN_FAULT_KILLS", "200"))
TABLE = "kills"
PLAN = {"before_s": 0.2, "watch_s": 0.6, "confirm_s": 20.0}


@pytest.fixture
def live(tmp_path: Path) -> Path:
    (tmp_path / "board").mkdir()
    return variant(Artifact.open(SHIPPED / "neu-int8.tflite"), tmp_path / "board" / "old.tflite")


@pytest.fixture
def camera(live: Path) -> Iterator[ThreadCamera]:
    with ThreadCamera(live) as running:
        yield running


class Half:
    """The board's half of a deployment as a process of its own, to whose ends this test holds."""

    def __init__(self, file: Path, live: Path) -> None:
        data = file.read_bytes()
        request = Request("deploy", Plan(live=str(live), **PLAN), PROTOCOL, file.name, str(digest_of(file)), len(data))  # type: ignore[arg-type]
        command = [sys.executable, "-m", "edgecnn", "deploy", "--on-board"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(command, start_new_session=True, **pipes)  # type: ignore[call-overload]
        # By a thread, since a board that has the file already takes no byte of it.
        words = json.dumps(dataclasses.asdict(request)).encode() + b"\n" + data
        self._writer = threading.Thread(target=self._write, args=(words,), daemon=True)
        self._writer.start()

    def _write(self, words: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(words)
            self._process.stdin.flush()

    def end(self, how: str) -> bool:
        """Kill it with its children, or go away and let it end; False when it had ended already."""
        if self._process.poll() is not None:
            self._close()
            return False
        if how == "kill -9":
            os.killpg(self._process.pid, signal.SIGKILL)
        self._close()
        return True

    def wait(self) -> float:
        """Let it do all of it; return the seconds."""
        started_s = time.monotonic()
        self._process.wait(300)
        self._close()
        return time.monotonic() - started_s

    def _close(self) -> None:
        """Go away, and wait for what the board makes of that."""
        self._process.stdout.close()  # type: ignore[union-attr]
        self._process.wait(120)
        self._writer.join()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["kill -9", "cut connection"])
def test_the_old_or_the_new_model_runs_whenever_a_deployment_ends(
    how: str, live: Path, camera: ThreadCamera, tmp_path: Path, ledger: Ledger
) -> None:
    rng, counts = random.Random(f"{SEED} {how}"), Counter[str]()
    shipped = Artifact.open(live)
    files = [variant(shipped, tmp_path / f"{name}.tflite") for name in ("one", "other")]
    known = {digest_of(path) for path in [*files, live]}
    store, longest_s = Store(live), Half(files[0], live).wait()
    for number in range(MOMENTS // 2):
        before = digest_of(live)
        half = Half(next(path for path in (files[number % 2], files[1 - number % 2]) if digest_of(path) != before), live)
        time.sleep(rng.uniform(0.0, longest_s))
        counts["in time"] += half.end(how)
        assert digest_of(live) in known and camera.running in {"old", "one", "other"}
        assert Artifact.open(live).contract.export_id in {"old", "one", "other"}
        store.settle()
        assert store.journal().pending is None
        counts["the new model"] += digest_of(live) != before
        counts["the old model"] += digest_of(live) == before

    assert counts["in time"] > MOMENTS // 4, counts
    outcome = counted({name: counts[name] for name in ("the old model", "the new model")})
    ledger.note(TABLE, f"{how} in a deployment to a camera that runs", MOMENTS // 2, f"{outcome}; never none or half of one")


def test_a_full_disk_of_the_board_keeps_the_live_model(small_disk: Path, tmp_path: Path, ledger: Ledger) -> None:
    live = variant(Artifact.open(SHIPPED / "neu-int8.tflite"), small_disk / "old.tflite")
    new = variant(Artifact.open(live), tmp_path / "new.tflite")
    before, environment = live.read_bytes(), os.environ["PATH"]
    os.environ["PATH"] = f"{make_ssh(tmp_path / 'bin')}:{environment}"
    counts: Counter[str] = Counter()
    options = DeployOptions(Plan(live=str(live), watch_s=0.0, find_s=0.0), program=str(tmp_path / "bin/edgecnn"))
    try:
        for spare in (0, 4_000, 20_000, 100_000, 300_000):
            ballast = fill(small_disk, leave=spare)
            try:
                outcome = deploy(new, "board", options)
            except OSError as error:
                assert "no space left" in str(error), error
                counts["refused in one line"] += 1
                assert live.read_bytes() == before
            else:
                counts["went live"] += outcome.live
                assert live.read_bytes() in (before, new.read_bytes())
            ballast.unlink()
    finally:
        os.environ["PATH"] = environment

    assert counts["refused in one line"], counts
    ledger.note(TABLE, "disk full on the board during a deployment", counts.total(), counted(dict(counts)))


def test_a_clock_that_is_decades_wrong_changes_no_decision(live: Path, tmp_path: Path, ledger: Ledger) -> None:
    """The board's clock is read for the history alone, which is ordered by numbers."""
    environment = os.environ["PATH"]
    programs = make_ssh(tmp_path / "bin")
    os.environ["PATH"] = f"{programs}:{environment}"
    start = "import sys, datetime\nclass Wrong(datetime.datetime):\n    @classmethod\n    def now(cls, tz=None):\n"
    start += "        return cls(1970, 1, 2, tzinfo=tz)\ndatetime.datetime = Wrong\nfrom edgecnn.cli.main import main\nmain()\n"
    (programs / "start.py").write_text(start)
    text = (programs / "edgecnn").read_text().replace("-m edgecnn", f'"{programs / "start.py"}"')
    (programs / "edgecnn").write_text(text)
    options = DeployOptions(Plan(live=str(live), **PLAN), program=str(programs / "edgecnn"))  # type: ignore[arg-type]
    try:
        with ThreadCamera(live):
            outcome = deploy(variant(Artifact.open(live), tmp_path / "new.tflite"), "board", options)
        found = history("board", options)
    finally:
        os.environ["PATH"] = environment

    assert outcome.live, outcome
    assert [(event.what, event.at[:4]) for event in found.events] == [("adopted", "1970"), ("live", "1970")]
    ledger.note(TABLE, "clock of the board at 1970 during a deployment", 1, "live and watched as ever")
