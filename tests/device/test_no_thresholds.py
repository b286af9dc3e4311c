"""A model that never says unsure or novel is loud about it wherever it is met."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from edgecnn.classifier import NO_THRESHOLDS
from edgecnn.cli.main import main
from edgecnn.testing import gray_picture


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Return what a command prints, which must succeed."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    printed = capsys.readouterr()
    return printed.out, printed.err


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), gray_picture(128))
    return str(path)


def test_inspect_says_so(artifacts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"NONE: {NO_THRESHOLDS}" in run(capsys, "inspect", str(artifacts / "neu.tflite"))[0]


def test_classify_says_so_for_people_and_for_programs(
    artifacts: Path, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(capsys, "classify", str(artifacts / "neu.tflite"), picture, "--json")

    assert NO_THRESHOLDS in err
    assert json.loads(out)["warning"] == NO_THRESHOLDS


def test_with_a_threshold_of_the_users_nothing_is_said(
    artifacts: Path, picture: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(capsys, "classify", str(artifacts / "neu.tflite"), picture, "--json", "--reject", "0.9")

    assert "no thresholds" not in err
    assert "warning" not in json.loads(out)


def test_a_camera_says_so_at_its_start_and_in_every_line(
    artifacts: Path, picture: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "lines.jsonl"

    err = run(capsys, "camera", str(artifacts / "neu.tflite"), "--source", picture, "--jsonl", str(lines), "--no-terminal")[1]

    assert NO_THRESHOLDS in err
    assert json.loads(lines.read_text())["warning"] == NO_THRESHOLDS
