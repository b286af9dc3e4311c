"""The tutorials whose commands take minutes: they run as they stand on the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "wrong-answer.md"
RUN = re.compile(r"^<!-- run(?: silently)?: (.+?) -->$", re.MULTILINE)
BLOCK = re.compile(r"^```sh\n(.+?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Return what a page runs as it is built, and then what it shows to be typed after its heading on training."""
    built, typed = text.split("\n## Or train\n")
    return RUN.findall(built) + [line for block in BLOCK.findall(typed) for line in block.splitlines()]


def run(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    surroundings = {name: value for name, value in os.environ.items() if name != "EDGECNN_DATA"} | {"PATH": path}
    done = subprocess.run(
        command, shell=True, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=1800, check=False
    )
    assert done.returncode in ((0, 1) if "| tail" in command else (0,)), f"{command}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(3600)
def test_the_way_from_a_wrong_answer_to_a_trained_model_is_gone_as_it_is_written(tmp_path: Path) -> None:
    said = {command: run(command, tmp_path) for command in commands(PAGE.read_text("utf-8"))}

    trained = next(said[command] for command in said if "--from" in command)
    assert "the new model is" in trained
    assert "three" in list(said.values())[-1]
    assert (tmp_path / "runs" / "steel-2" / "splits.csv").is_file()
