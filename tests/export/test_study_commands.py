"""`edgecnn data suspects` and `edgecnn study learning-curve` say as text and as JSON what was found, and write a plot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from frozen_clusters import clusters

from edgecnn.cli.main import main


@pytest.fixture(autouse=True)
def features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn features, whatever folder is named."""
    monkeypatch.setattr("edgecnn.cli.study.frozen_features", lambda *_: clusters(groups=10))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(str(end.value.code))


def test_suspects_are_listed_and_exit_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "suspects", "parts") == 0

    assert "among 90 pictures" in capsys.readouterr().out


def test_suspects_as_json_say_what_they_rest_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "suspects", "parts", "--json") == 0

    said = json.loads(capsys.readouterr().out)
    assert {"schema", "source", "seed", "pictures", "right", "threshold", "suspects"} == said.keys()


def test_planted_errors_are_counted_seed_by_seed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "suspects", "parts", "--plant", "10%", "--seeds", "2", "--json") == 0

    said = json.loads(capsys.readouterr().out)
    assert [each["planted"] for each in said["seeds"]] == [9, 9]
    assert all(each["hits"] <= min(each["listed"], each["planted"]) for each in said["seeds"])


@pytest.mark.parametrize("option", [("--plant-by", "group"), ("--seeds", "5")])
def test_options_of_planting_need_it(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "suspects", "parts", *option) == 2

    assert f"{option[0]} needs --plant" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "60%", "many", "-5%", "5%%"])
def test_a_share_that_is_none_is_one_line(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "suspects", "parts", f"--plant={share}") == 2

    assert "is no share above 0 and up to 50%" in capsys.readouterr().err


def test_a_learning_curve_is_told_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("study", "learning-curve", "parts", "--more", "5", "--plot", str(tmp_path / "curve.png")) == 0

    assert "5 more pictures of class" in capsys.readouterr().out
    assert (tmp_path / "curve.png").stat().st_size > 5000
