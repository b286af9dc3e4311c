"""Boards that were never set up: a user's bare home on this system, and a bare Debian, without an index, over a real sshd."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from boards import BareBoard, Sshd
from running import need

from edgecnn.shipped import int8_path

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of this edgecnn and all that it needs."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder), str(Path(__file__).parents[2])]
    subprocess.run(build, check=True, timeout=500, capture_output=True)
    return folder


def bootstrap(board: Sshd, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `edgecnn deploy --bootstrap` for a board whose camera sees drawn pictures."""
    options = ["-F", board.ssh_config, "--bootstrap", "--source", "synthetic", *words, board.board]
    command = [sys.executable, "-m", "edgecnn", "deploy", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


def content(folder: Path) -> dict[str, str]:
    """Return the digest of each file, without the compiled code that Python writes when it likes."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def test_a_bare_home_is_set_up_without_an_index_and_once(tmp_path: Path, wheels: Path) -> None:
    sshd = Sshd(tmp_path)
    try:
        first = bootstrap(sshd, "--wheels", wheels, int8_path("neu"))
        config = sshd.home / ".config/edgecnn/camera.toml"
        config.write_text(config.read_text() + "# the user's own\n")
        second = bootstrap(sshd, "--wheels", wheels, int8_path("neu"))
        ask = [sys.executable, "-m", "edgecnn", "deploy", "-F", str(sshd.ssh_config), "--history", sshd.board]
        listed = subprocess.run(ask, capture_output=True, text=True, check=False)
    finally:
        sshd.close()

    assert "installed edgecnn" in first.stderr and " live" in first.stdout, (first.stdout, first.stderr)
    assert "is installed" in second.stderr and "camera.toml is there, and kept" in second.stderr, second.stderr
    assert config.read_text().endswith("# the user's own\n")
    assert (sshd.home / ".config/systemd/user/edgecnn-camera.service").is_file()
    assert "live is" in listed.stdout, (listed.stdout, listed.stderr)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make a system of its own and enter it")
def test_a_bare_debian_becomes_a_board_whose_camera_answers_and_stays_as_it_is_the_second_time(
    tmp_path: Path, wheels: Path
) -> None:
    need("mmdebstrap")
    (tmp_path / "ssh").mkdir()
    board = BareBoard(tmp_path / "ssh", tmp_path / "root")
    see = ".local/share/edgecnn/venv/bin/edgecnn camera --config .config/edgecnn/camera.toml --frames 5 --jsonl seen.jsonl"
    try:
        first = bootstrap(board, "--wheels", wheels, int8_path("neu"))
        before = content(board.home)
        second = bootstrap(board, "--wheels", wheels, int8_path("neu"))
        after = content(board.home)
        seen = subprocess.run(
            ["ssh", "-F", str(board.ssh_config), board.board, see], capture_output=True, text=True, timeout=120, check=False
        )
        answers = (board.home / "seen.jsonl").read_text().splitlines()
    finally:
        board.close()

    # Nothing is left to do but what systemd has to: there is none in this system.
    assert " live" in first.stdout and first.returncode == 1, (first.stdout, first.stderr)
    left = [line for line in first.stderr.splitlines() if line.startswith("left to do: ")]
    assert [line.split()[3] for line in left] == ["systemctl", "loginctl"], first.stderr
    assert "is installed" in second.stderr, second.stderr
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()
    assert seen.returncode == 0 and any(json.loads(line)["regions"] for line in answers), seen.stderr
