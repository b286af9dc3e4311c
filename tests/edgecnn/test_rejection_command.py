"""`edgecnn rejection` on a shipped model and little data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgecnn.cli.main import cli


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("EDGECNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return CliRunner().invoke(
        cli, ["rejection", "mnist", "--data", "synthetic", "--per-kind", "3", "--json", "--plot", str(tmp_path / "curve.png")]
    )


def test_it_reports_each_kind_and_says_when_the_pictures_are_synthetic(measured: Result, tmp_path: Path) -> None:
    assert measured.exit_code == 0, measured.output

    report = json.loads(measured.stdout)

    assert report["data"]["synthetic"] is True
    assert report["auroc_by_kind"].keys() == report["wanted"]["by_kind"].keys() >= {"letters", "blank paper"}
    assert report["out_of_distribution"]["per_kind"] == 3
    assert (tmp_path / "curve.png").stat().st_size > 10_000
