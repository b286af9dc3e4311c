"""A board's install: the wheel with its base dependencies, in an environment of its own, with no ML framework in it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn import shipped
from edgecnn.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "keras", "onnx", "onnxruntime", "matplotlib", "jinja2", "starlette", "paho")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh environment's programs, with edgecnn installed from this checkout."""
    folder = tmp_path_factory.mktemp("board")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(ROOT)]
    subprocess.run(pip, check=True, stdout=subprocess.DEVNULL)
    return folder / "bin"


def _run(board: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(board / arguments[0]), *arguments[1:]], capture_output=True, text=True, cwd=cwd, check=False)


def test_no_framework_is_installed(board: Path, tmp_path: Path) -> None:
    code = f"from importlib.util import find_spec; print([name for name in {HEAVY} if find_spec(name)])"

    found = _run(board, "python", "-c", code, cwd=tmp_path)

    assert found.stdout.strip() == "[]"


def test_the_camera_runs_at_once_with_the_shipped_steel_model(board: Path, tmp_path: Path) -> None:
    options = ["--source", "synthetic", "--no-realtime", "--no-terminal", "--frames", "300", "--jsonl", "out.jsonl"]

    run = _run(board, "edgecnn", "camera", "neu", *options, cwd=tmp_path)

    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 300
    assert all(line["state"] == "ok" and len(line["regions"]) == 1 for line in lines)


def test_the_camera_reads_digits_in_a_folder_of_photographs(board: Path, tmp_path: Path, photos_folder: Path | None) -> None:
    pictures = photos_folder or _sheets(tmp_path / "sheets")

    run = _run(board, "edgecnn", "camera", "mnist", "--source", str(pictures), "--jsonl", "out.jsonl", cwd=tmp_path)

    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert {Path(line["source"]).parent for line in lines} == {pictures}
    assert sum(region["label"] is not None for line in lines for region in line["regions"]) >= 10


def test_a_picture_is_classified_and_the_artifact_verified(board: Path, tmp_path: Path) -> None:
    _run(board, "edgecnn", "data", "generate", "neu", "steel", "--count", "1", cwd=tmp_path)

    classified = _run(board, "edgecnn", "classify", "neu", "steel/patches", "--json", cwd=tmp_path)
    verified = _run(board, "edgecnn", "verify", "neu", "mnist", cwd=tmp_path)

    assert json.loads(classified.stdout)["pictures"][0]["label"] == "patches"
    assert verified.returncode == 0, verified.stdout


def test_the_systemd_unit_comes_with_the_wheel(board: Path, tmp_path: Path) -> None:
    unit = _run(board, "edgecnn", "service", "print", cwd=tmp_path)

    assert f"\nExecStart={board}/edgecnn camera --config /etc/edgecnn/camera.toml\n" in unit.stdout


@pytest.mark.parametrize("command", [("export", "neu", "--int8"), ("train", "neu"), ("parity", "neu", "x.tflite")])
def test_what_needs_a_workstation_says_so_in_one_line(board: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    assert command[0] in COMMANDS
    shutil.copy(shipped.int8_path("neu"), tmp_path / "x.tflite")

    run = _run(board, "edgecnn", *command, cwd=tmp_path)

    assert run.returncode == 2
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert "pip install" in run.stderr


def _sheets(folder: Path) -> Path:
    """Write synthetic sheets of digits where there are no photographs."""
    import cv2
    from drawn_sheet import draw_sheet

    folder.mkdir()
    for seed in range(3):
        cv2.imwrite(str(folder / f"sheet_{seed}.png"), draw_sheet(seed).image_bgr)
    return folder
