"""The tutorials run as they stand: each command, each block of Python, each cell of the notebook."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from nbclient import NotebookClient

from edgecnn.cli.main import cli

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
COMMANDS = Path(sys.executable).parent


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with drawn pictures only, on which `edgecnn` is installed."""
    monkeypatch.delenv("EDGECNN_DATA", raising=False)
    monkeypatch.setenv("PATH", f"{COMMANDS}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("no_data")
def test_every_cell_of_the_course_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_QUICK", "1")
    notebook = nbformat.read(TUTORIALS / "course.ipynb", as_version=4)

    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}, extra_arguments=["--log-level=ERROR"]
    ).execute()

    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 4
    assert sum("text/html" in output.get("data", {}) for output in shown) >= 8
    assert "seen" in shown[-2]["text"]


def test_the_course_is_kept_without_outputs() -> None:
    notebook = nbformat.read(TUTORIALS / "course.ipynb", as_version=4)

    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.usefixtures("no_data")
def test_own_parts_in_fifteen_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (TUTORIALS / "your-own-parts.md").read_text("utf-8")
    commands = [line.removeprefix("$ ") for line in re.findall(r"^\$ edgecnn .*$", page, re.MULTILINE)]
    (script,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    small = "--epochs 1 --size 64x64 --network compact --teacher none --out runs/my-parts"
    quick = {
        "--count 40": "--count 18",
        # Both networks at once are trained in test_distillation.py, and lite by `make demo`.
        "train my-parts --minutes 10": f"train my-parts {small}",
        "epochs=60": 'epochs=1, network="compact", teacher=False',
    }

    monkeypatch.chdir(tmp_path)
    for command in commands:  # in this process: TensorFlow takes longer to load than most of them to run
        done = CliRunner().invoke(cli, shlex.split(shorter(command, quick))[1:], catch_exceptions=False)
        assert (done.exit_code or done.return_value or 0) == 0, f"{command}: {done.stderr}"
    said = run(["python", "-c", shorter(script, quick)], tmp_path)

    assert (tmp_path / "exports" / "my-parts" / "parity.html").exists()
    assert (tmp_path / "answers.png").exists()
    assert "<h2>Suspects</h2>" in (tmp_path / "runs" / "my-parts" / "report.html").read_text("utf-8")
    assert len(commands) == 9
    assert "undecided" in said


def shorter(text: str, replacements: dict[str, str]) -> str:
    """Make few pictures and short trainings of what the page takes its time for."""
    for usual, quick in replacements.items():
        text = text.replace(usual, quick)
    return text


def run(command: list[str], folder: Path) -> str:
    """Run a command of the page and return what it prints."""
    program = str(COMMANDS / command[0])
    ran = subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, f"{command}: {ran.stderr}"
    return ran.stdout
