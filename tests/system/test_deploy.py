"""A board from its first model to the third: a real sshd, a camera of its own, models that are better, sabotaged and worse."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from boards import Sshd, command_of, install_program
from hostile_models import endless
from local_board import variant
from running import find_port, wait_until

from edgecnn.artifacts import Artifact
from edgecnn_device.deploy.store import Store, digest_of

pytestmark = pytest.mark.timeout(600)


class Board:
    """An sshd, a model file, and a camera that runs it and starts again when it ends, as by its unit."""

    def __init__(self, folder: Path, model: Path, pictures: Path) -> None:
        self.folder = folder
        self.live = folder / "board" / "model.tflite"
        self.live.parent.mkdir()
        shutil.copy(model, self.live)
        self.sshd = Sshd(folder)
        self.program = install_program(folder)
        self.lacked: list[str] = []  # moments at which there was no whole model
        self._command = [str(self.program), "camera", str(self.live), "--source", str(pictures), "--loop", "--realtime"]
        self._command += ["--fps", "20", "--no-terminal", "--state-dir", str(folder / "state")]
        self._ended = threading.Event()
        self._camera = self._start()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._keep_running, self._look)]
        for thread in self._threads:
            thread.start()

    @property
    def said(self) -> str:
        """What the camera wrote."""
        return (self.folder / "camera.log").read_text()

    def runs(self, export_id: str) -> bool:
        """Whether the camera said last that it runs this."""
        said = self.said
        return 0 <= said.rfind("now running") == said.rfind(f"now running {self.live} of {export_id}")

    def deploy(self, *words: str | Path, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run `edgecnn deploy` from the workstation."""
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=limit_s, check=False)

    def command(self, *words: str | Path) -> list[str]:
        """Return the command that the workstation runs."""
        ssh = ["-F", str(self.sshd.ssh_config), "--program", str(self.program), "--model", str(self.live)]
        return [sys.executable, "-m", "edgecnn", "deploy", *ssh, *map(str, words), self.sshd.board]

    def history(self) -> dict[str, object]:
        """Return what `--history --json` says."""
        found: dict[str, object] = json.loads(self.deploy("--history", "--json").stdout)["history"]
        return found

    def halves(self) -> list[int]:
        """Return the processes on the board that carry a deployment out."""
        return [pid for pid in self.sshd.sessions() if b"--on-board" in command_of(pid)]

    def close(self) -> None:
        """End all of it."""
        self._ended.set()
        self._camera.kill()
        for thread in self._threads:
            thread.join()
        self._camera.wait()
        self.sshd.close()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "camera.log").open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log)

    def _keep_running(self) -> None:
        while not self._ended.is_set():
            if self._camera.poll() is not None:
                self._camera = self._start()
            time.sleep(0.1)

    def _look(self) -> None:
        while not self._ended.is_set():
            try:
                Artifact.open(self.live)
            except Exception as error:
                self.lacked.append(str(error))
            time.sleep(0.002)


@pytest.fixture(scope="module")
def shipped(model: str) -> Artifact:
    return Artifact.open(model)


@pytest.fixture
def board(tmp_path: Path, model: str, shipped: Artifact, pictures: Path) -> Iterator[Board]:
    made = Board(tmp_path, variant(shipped, tmp_path / "first.tflite"), pictures)
    wait_until((tmp_path / "state/models").is_dir, 60, "camera")
    yield made
    made.close()
    assert made.lacked == []


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic steel, in one folder and in turns of the classes."""
    folder = tmp_path_factory.mktemp("steel")
    command = [
        sys.executable,
        "-m",
        "edgecnn",
        "data",
        "generate",
        "neu",
        str(folder / "classes"),
        "--count",
        "10",
        "--seed",
        "5",
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (folder / "all").mkdir()
    for path in (folder / "classes").rglob("*.png"):
        path.rename(folder / "all" / f"{path.stem.rpartition('_')[2]}-{path.name}")
    return folder / "all"


def worse(artifact: Artifact, path: Path) -> Path:
    """Write the model with thresholds that call far more pictures novel."""
    evidence = artifact.contract.evidence
    assert evidence is not None
    return variant(artifact, path, evidence=dataclasses.replace(evidence, novel_above=0.4 * evidence.novel_above))


def test_a_better_model_goes_live_and_sabotaged_ones_do_not(board: Board, shipped: Artifact, tmp_path: Path) -> None:
    better = variant(shipped, tmp_path / "better.tflite")
    done = board.deploy(better, "--shadow", "60", "--watch", "5s")
    assert done.returncode == 0, done.stderr
    assert "shadow: 100.0% of" in done.stderr and board.runs("better")

    swapped = variant(shipped, tmp_path / "swapped.tflite", labels=tuple(reversed(shipped.contract.labels)))
    endless(shipped).save(tmp_path / "endless.tflite")
    sabotaged = {
        swapped: ((), "the same classes in another order"),
        tmp_path / "endless.tflite": (("--verify-timeout", "2"), "it never ends"),
        worse(shipped, tmp_path / "worse.tflite"): (("--shadow", "60"), "are unsure or novel"),
    }
    for path, (options, reason) in sabotaged.items():
        done = board.deploy(path, "--watch", "10s", *options)
        assert (done.returncode, reason in done.stdout) == (1, True), (done.stdout, done.stderr)
        assert digest_of(board.live) == digest_of(better)

    done = board.deploy(tmp_path / "worse.tflite", "--watch", "60s")
    assert done.returncode == 1 and "rolled back" in done.stdout, (done.stdout, done.stderr)
    assert digest_of(board.live) == digest_of(better) and board.runs("better")

    assert board.deploy("--rollback").returncode == 0
    assert board.runs("first")
    assert [event["what"] for event in board.history()["events"]] == [  # type: ignore[attr-defined]
        "adopted",
        "live",
        "refused",
        "refused",
        "refused",
        "rolled back",
        "live",
    ]


def test_the_board_decides_by_itself_when_the_connection_is_cut(board: Board, shipped: Artifact, tmp_path: Path) -> None:
    path = variant(shipped, tmp_path / "better.tflite")
    with subprocess.Popen(board.command(path, "--watch", "8s"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: board.runs("better"), 60, "switch")
        board.sshd.cut()
        out, errors = process.communicate(timeout=120)

    assert process.returncode == 0, (out, errors)
    assert b"the connection is lost; waiting for the board" in errors
    assert (digest_of(board.live), Store(board.live).journal().pending) == (digest_of(path), None)


def test_a_model_in_mid_watch_is_taken_back_after_a_loss_of_power(board: Board, shipped: Artifact, tmp_path: Path) -> None:
    before = digest_of(board.live)
    path = variant(shipped, tmp_path / "better.tflite")
    with subprocess.Popen(board.command(path, "--watch", "60s"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_until(lambda: board.runs("better"), 60, "switch")
        process.kill()
        for pid in [*board.halves(), board._camera.pid]:
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=60)

    wait_until(lambda: "is what it was before version" in board.said, 60, "start of the camera")
    assert (digest_of(board.live), Store(board.live).journal().pending) == (before, None)


def test_two_deployments_at_once_are_one_line_for_the_second(board: Board, shipped: Artifact, tmp_path: Path) -> None:
    path = variant(shipped, tmp_path / "better.tflite")
    with subprocess.Popen(board.command(path, "--watch", "30s"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        wait_until(lambda: board.runs("better"), 60, "switch")
        second = board.deploy(variant(shipped, tmp_path / "other.tflite"))
        first.communicate(timeout=120)

    assert (first.returncode, second.returncode) == (0, 2)
    assert "is going on" in second.stderr and len(second.stderr.splitlines()) == 1


def other_host_key(board: Board) -> None:
    (board.folder / "known_hosts").write_text(f"[127.0.0.1]:{board.sshd.port} {(board.folder / 'user.pub').read_text()}")


def unknown_host(board: Board) -> None:
    (board.folder / "known_hosts").write_text("")


def other_user(board: Board) -> None:
    (board.folder / "authorized_keys").write_text("")


def no_sshd(board: Board) -> None:
    text = board.sshd.ssh_config.read_text()
    board.sshd.ssh_config.write_text(text.replace(f" Port {board.sshd.port}", f" Port {find_port()}"))


def no_host(board: Board) -> None:
    text = board.sshd.ssh_config.read_text()
    board.sshd.ssh_config.write_text(text.replace("127.0.0.1\n", "line-1.invalid\n", 1))


def no_edgecnn(board: Board) -> None:
    board.program.unlink()


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (other_host_key, "another host key"),
        (unknown_host, "or none is known"),
        (other_user, "refuses your keys"),
        (no_sshd, "nothing answers at ssh's port"),
        (no_host, "no host is called"),
        (no_edgecnn, "has no edgecnn"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_board_that_cannot_be_reached_is_one_line(
    trouble: Callable[[Board], None], reason: str, board: Board, shipped: Artifact, tmp_path: Path
) -> None:
    before = digest_of(board.live)
    trouble(board)

    done = board.deploy(variant(shipped, tmp_path / "better.tflite"))

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done
    assert reason in done.stderr, done.stderr
    assert digest_of(board.live) == before


def test_a_board_that_never_comes_back_is_left_alone_in_time(board: Board, shipped: Artifact, tmp_path: Path) -> None:
    path = variant(shipped, tmp_path / "better.tflite")
    alive = [
        "--ssh-option",
        "ServerAliveInterval=1",
        "--ssh-option",
        "ServerAliveCountMax=2",
        "--ssh-option",
        "ConnectTimeout=2",
    ]
    command = board.command(path, "--watch", "2s", "--patience", "6s", *alive)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: board.runs("better"), 60, "switch")
        stopped = [board.sshd.pid, *board.sshd.sessions()]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            _, errors = process.communicate(timeout=120)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)

    assert process.returncode == 2
    assert "the connection to" in errors and "decides by itself" in errors


def test_new_labels_restart_the_camera(board: Board, shipped: Artifact, tmp_path: Path) -> None:
    """Stated labels in another order stand here for other labels, of which a running camera cannot take over either."""
    path = variant(shipped, tmp_path / "relabelled.tflite", labels=tuple(reversed(shipped.contract.labels)))
    restart = ("--new-labels", "--restart", f"sh -c 'kill {board._camera.pid}'")

    done = board.deploy(path, "--watch", "4s", *restart)

    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "restarting the camera" in done.stderr
    assert digest_of(board.live) == digest_of(path) and board.lacked == []
