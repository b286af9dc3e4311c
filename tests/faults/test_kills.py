"""`kill -9` at random moments: nothing half-written is ever taken for whole, and what goes on goes on to the same result."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import NO_DATA, run_edgecnn
from ledger import SEED, Ledger

from edgecnn.artifacts import Artifact

pytestmark = pytest.mark.timeout(1200)
KILLS = int(os.environ.get("EDGECNN_FAULT_KILLS", "200"))
WHOLE_KILLS = int(os.environ.get("EDGECNN_FAULT_WHOLE_KILLS", "5"))
HERE = Path(__file__).parent
TABLE = "kills"
WHAT = {
    "export": "putting an export of four files and their report in place",
    "checkpoint": "writing training checkpoints",
    "samples": "keeping samples in a ring",
    "jsonl": "appending JSON Lines, set aside every 100 lines",
    "shared samples": "two cameras that are given one ring, among files of somebody else",
    "shared jsonl": "two cameras that append to one file, among files of somebody else",
    "labels": "two people who label the same samples, and take back labels",
    "deployment": "putting versions of a model live on a board, every other one taken back",
}
PROMISE = {
    "export": "each file whole, none missing, no report beside files of another export",
    "checkpoint": "each checkpoint whole, never older than the last one that was done",
    "samples": "each picture whole with its own JSON, the last one done is there",
    "jsonl": "whole lines only, none of those done missing, in order",
    "shared samples": "one has it, the other one is refused until it is gone; the bound holds, nothing foreign was touched",
    "shared jsonl": "whole lines only, of each camera none of those done missing; the bound holds, nothing foreign was touched",
    "labels": "no label missing that was done, whoever said it; a line that was cut is not counted and harms no other",
    "deployment": "the old or the new model is live, whole; one that was not proven is taken back at the next start",
}


@pytest.mark.parametrize("kind", WHAT)
def test_nothing_half_written_is_taken_for_whole(kind: str, tmp_path: Path, ledger: Ledger) -> None:
    command = [sys.executable, str(HERE / "killing.py"), kind, str(tmp_path), str(SEED), str(KILLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["written"] > KILLS
    within = counts["in the middle of a file"]
    outcome = f"{PROMISE[kind]} ({counts['written']:,} written{f', {within} kills within a file' if within else ''})"
    ledger.note(TABLE, WHAT[kind], KILLS, outcome)


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    # One thread: sums of floats depend on who adds first.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    environment = os.environ | threads | {"EDGECNN_DATA": str(NO_DATA), "TF_CPP_MIN_LOG_LEVEL": "3"}
    silent = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdout=silent, stderr=silent, start_new_session=True)


def _kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill a process with its children after a time; False when it had ended by itself."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def test_an_export_that_is_killed_leaves_whole_files_or_none(tmp_path: Path, ledger: Ledger) -> None:
    export = ("export", "mnist", "--data", "synthetic", "--int8", "--format", "tflite", "--out", str(tmp_path / "out"))
    command = [sys.executable, "-m", "edgecnn", *export]
    started_s, rng = time.monotonic(), random.Random(f"{SEED} export")
    assert _start(command).wait(600) in (0, 1)
    usual_s, killed, whole = time.monotonic() - started_s, 0, 0
    for _ in range(WHOLE_KILLS):
        killed += _kill_after(_start(command), rng.uniform(0.3, 1.0) * usual_s)
        for path in (tmp_path / "out").glob("mnist-*"):
            Artifact.open(path)  # raises for a file that is not whole
            whole += 1
    done = run_edgecnn(*export, timeout_s=600)

    assert done.code in (0, 1), done
    outcome = f"{whole} files found, all whole; the next export works"
    ledger.note(TABLE, "`edgecnn export mnist --int8`, anywhere", killed, outcome)


def _train(folder: Path) -> list[str]:
    return [sys.executable, str(HERE / "training.py"), str(folder)]


def _kill_after_a_checkpoint(process: subprocess.Popen[bytes], checkpoint: Path, seconds: float) -> bool:
    """Kill a training some time after it wrote its next checkpoint; False when it had ended by itself."""
    before, ends_s = _written_ns(checkpoint), time.monotonic() + 600
    while process.poll() is None and time.monotonic() < ends_s:
        if _written_ns(checkpoint) not in (None, before):
            return _kill_after(process, seconds)
        time.sleep(0.005)
    return _kill_after(process, 0)


def _written_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def test_a_training_that_is_killed_goes_on_to_the_same_result(tmp_path: Path, ledger: Ledger) -> None:
    rng, folder = random.Random(f"{SEED} train"), tmp_path / "killed"
    assert _start(_train(tmp_path / "straight")).wait(900) == 0
    killed = 0
    while killed < WHOLE_KILLS and _kill_after_a_checkpoint(
        _start(_train(folder)), folder / "checkpoint.npz", rng.uniform(0, 0.3)
    ):
        killed += 1
    assert _start(_train(folder)).wait(900) == 0

    straight, gone_on = ((tmp_path / name / "weights.sha256").read_text() for name in ("straight", "killed"))
    assert killed >= 2
    assert gone_on == straight
    outcome = "resumed each time; the weights are bit-identical to those of an uninterrupted training"
    ledger.note(TABLE, "`edgecnn train`, up to 0.3 s after a checkpoint, then `--resume`", killed, outcome)


def test_a_training_from_a_run_that_is_killed_leaves_that_run_and_whole_files(tmp_path: Path, ledger: Ledger) -> None:
    kills = min(KILLS, 50)
    command = [sys.executable, str(HERE / "continuing.py"), str(tmp_path), str(SEED), str(kills)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
    done = subprocess.run(command, capture_output=True, text=True, timeout=1100, env=os.environ | threads, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert (counts["kills"], counts["files"] > 0) == (kills, True)
    whole = (
        f"the old run bit-identical, {counts['files']} files of the new one found, all whole; it goes on to the same weights"
    )
    ledger.note(TABLE, "`edgecnn train --from`, anywhere, then the same command again", kills, whole)


def test_a_page_that_is_killed_while_two_people_label_loses_no_label_that_it_answered(tmp_path: Path, ledger: Ledger) -> None:
    kills = min(KILLS, 50)
    command = [sys.executable, str(HERE / "labelling.py"), str(tmp_path), str(SEED), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)

    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["answered"] > kills
    outcome = (
        f"each of {counts['answered']:,} answered labels and undone labels stands in the log once and whole, none that was not "
        f"sent, {counts['cut']} lines cut; the page says the same after each start"
    )
    ledger.note(TABLE, "the page on which two people label at once", kills, outcome)
