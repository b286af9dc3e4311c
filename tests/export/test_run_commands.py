"""A run remembers its pictures: each command works from the run's folder alone, while they are there unchanged."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.artifacts import Artifact
from edgecnn.cli.main import main

COMMANDS = {
    "export": ("export", "RUN", "--out", "OUT"),
    "parity": ("parity", "RUN", "FILE"),
    "evaluate": ("evaluate", "RUN"),
    "robustness": ("robustness", "RUN", "--severity", "3", "--pictures", "8"),
    "filters": ("filters", "PICTURE", "--model", "RUN", "--out", "OUT.png"),
}
NEED_PICTURES = [name for name in COMMANDS if name != "filters"]
PLAIN = ("--network", "compact", "--teacher", "none")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(str(end.value.code))


def draw_parts(folder: Path, count: int = 70, seed: int = 0) -> Path:
    """Bright and dark noise, each picture of its own grain."""
    random = np.random.default_rng(seed)
    for label, level in (("bright", 180), ("dark", 60)):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            grain = np.clip(random.normal(level, 25, (32, 32)), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / label / f"{label}_{i}.png"), grain)
    return folder


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the page, which takes seconds: see test_report.py."""
    monkeypatch.setattr("edgecnn_export.studies.report.write_report", lambda run, *_, **__: run.folder / "report.html")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `my-parts`, the run `runs/my-parts-compact` and its export `exports/my-parts`, as README makes them."""
    folder = tmp_path_factory.mktemp("workshop")
    parts = draw_parts(folder / "my-parts")
    assert run("train", str(parts), *PLAIN, "--epochs", "2", "--out", str(folder / "runs" / "my-parts")) == 0
    assert run("export", str(folder / "runs" / "my-parts"), "--out", str(folder / "exports")) == 0
    return folder


def arguments(name: str, trained: Path, out: Path) -> list[str]:
    places = {
        "RUN": trained / "runs" / "my-parts",
        "OUT": out / "out",
        "FILE": trained / "exports" / "my-parts-float32.tflite",
        "PICTURE": trained / "my-parts" / "dark" / "dark_0.png",
        "OUT.png": out / "out.png",
    }
    return [str(places.get(each, each)) for each in COMMANDS[name]]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_works_from_the_run_alone(name: str, trained: Path, tmp_path: Path) -> None:
    assert run(*arguments(name, trained, tmp_path)) == 0


def test_a_run_whose_export_will_choose_thresholds_gets_no_warning(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("evaluate", str(trained / "runs" / "my-parts"))

    assert "no thresholds" not in capsys.readouterr().err


def test_an_export_of_a_run_is_proven_on_its_own_validation_pictures(trained: Path) -> None:
    record = json.loads((trained / "runs" / "my-parts" / "training.json").read_text())

    contract = Artifact.open(trained / "exports" / "my-parts-float32.tflite").contract

    assert contract.parity.verdict in ("pass", "undecided")
    assert contract.parity.data is not None
    assert contract.parity.data.digest == record["data"]["validation"]["digest"]
    assert contract.training_data is not None
    assert contract.training_data.digest == record["data"]["train"]["digest"]


@pytest.mark.parametrize("command", ["evaluate", "rejection"])
def test_an_exported_file_is_measured_on_the_split_of_the_run_that_it_is_given(
    command: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(trained / "exports" / "my-parts-float32.tflite")
    assert run(command, file, "--data", str(trained / "runs" / "my-parts"), "--seed", "5") == 0

    assert "was trained on other pictures" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "rejection"])
def test_a_measurement_on_another_split_than_that_of_the_training_says_so(
    command: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(command, str(trained / "exports" / "my-parts-float32.tflite"), "--data", str(trained / "my-parts"), "--seed", "5")

    assert "my-parts-float32.tflite was trained on other pictures" in capsys.readouterr().err


def test_a_seed_changes_nothing_about_the_split_of_a_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("evaluate", str(trained / "runs" / "my-parts"), "--json")
    first = json.loads(capsys.readouterr().out)

    run("evaluate", str(trained / "runs" / "my-parts"), "--json", "--seed", "7")

    assert json.loads(capsys.readouterr().out) == first


@pytest.fixture
def moved(trained: Path, tmp_path: Path) -> Path:
    """The same workshop after its pictures were moved away."""
    copy = tmp_path / "workshop"
    shutil.copytree(trained, copy)
    record = copy / "runs" / "my-parts" / "training.json"
    record.write_text(record.read_text().replace(str(trained), str(copy)))
    (copy / "my-parts").rename(copy / "elsewhere")
    return copy


@pytest.mark.parametrize("name", NEED_PICTURES)
def test_without_its_pictures_each_command_is_one_line(
    name: str, moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(*arguments(name, moved, tmp_path))

    assert code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edgecnn:")]
    assert len(lines) == 1
    assert re.search(r"my-parts, which is gone.*--data", lines[0])
    assert lines[0].count("--data") == 1


def test_moved_pictures_are_known_again_by_their_content(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((moved / "runs" / "my-parts" / "training.json").read_text())

    run("export", str(moved / "runs" / "my-parts"), "--data", str(moved / "elsewhere"), "--out", str(moved / "out"))

    contract = Artifact.open(moved / "out" / "my-parts-float32.tflite").contract
    assert contract.parity.data is not None
    assert contract.parity.data.digest == record["data"]["validation"]["digest"]


def test_some_of_the_pictures_in_another_place_are_not_divided_anew(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Else the run would be judged by pictures that it was trained on."""
    (moved / "elsewhere" / "dark" / "dark_3.png").unlink()

    code = run("evaluate", str(moved / "runs" / "my-parts"), "--data", str(moved / "elsewhere"))

    assert code == 2
    assert "dark/dark_3.png is missing" in capsys.readouterr().err


def test_other_pictures_judge_a_run_as_any_other_data_set(moved: Path, tmp_path: Path) -> None:
    draw_parts(tmp_path / "others", count=40, seed=9)

    assert run("evaluate", str(moved / "runs" / "my-parts"), "--data", str(tmp_path / "others")) == 0


def test_a_changed_picture_ends_the_export_in_one_line(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (moved / "elsewhere").rename(moved / "my-parts")
    cv2.imwrite(str(moved / "my-parts" / "dark" / "dark_3.png"), np.zeros((32, 32), np.uint8))

    code = run("export", str(moved / "runs" / "my-parts"), "--out", str(moved / "out"))

    assert code == 2
    assert "dark/dark_3.png has other content" in capsys.readouterr().err
    assert not (moved / "out").exists()


def test_an_export_without_pictures_must_be_wanted(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run("export", str(moved / "runs" / "my-parts"), "--out", str(moved / "out"), "--unproven")

    assert code == 0
    assert "not measured: there were no pictures to compare on" in capsys.readouterr().out


def test_too_few_pictures_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = draw_parts(tmp_path / "few", count=10)
    run("train", str(parts), *PLAIN, "--epochs", "1", "--out", str(tmp_path / "run"))
    capsys.readouterr()

    code = run("export", str(tmp_path / "run"), "--out", str(tmp_path / "out"))

    assert code == 2
    assert re.search(r"of 20 pictures \d are for comparing, at least 10 are needed there", capsys.readouterr().err)


def test_options_of_exported_files_are_refused_for_a_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run("evaluate", str(trained / "runs" / "my-parts"), "--threads", "2")

    assert code == 2
    assert "is run by Keras; --runtime and --threads are for exported files" in capsys.readouterr().err


def test_a_weak_class_is_named_behind_the_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two classes of the same pictures' kind, one of them rare: one epoch calls nearly all of them by the other's name."""
    parts, random = tmp_path / "alike", np.random.default_rng(1)
    for label, count in (("left", 40), ("right", 8)):
        (parts / label).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(parts / label / f"{i}.png"), random.integers(0, 256, (32, 32), np.uint8).astype(np.uint8))

    run("train", str(parts), *PLAIN, "--epochs", "1", "--out", str(tmp_path / "run"))

    confusion = json.loads((tmp_path / "run" / "training.json").read_text())["validation"]["confusion"]
    rows = zip(("left", "right"), confusion, strict=True)
    wanted = [f"weak: {label}, {row[i]} of {sum(row)}" for i, (label, row) in enumerate(rows) if 2 * row[i] < sum(row)]
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("weak: ")]
    assert told == [f"{line} validation pictures right" for line in wanted]
    assert told
