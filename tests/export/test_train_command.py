"""`edgecnn train` from the command line to the files, on generated pictures."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.cli.main import main
from edgecnn.datasets.split_table import load_stored_splits
from edgecnn_export.reference import open_reference


@pytest.fixture(scope="module")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures per class: bright and dark noise, each picture of its own grain."""
    folder = tmp_path_factory.mktemp("data") / "my-parts"
    random = np.random.default_rng(0)
    for label, level in (("bright", 180), ("dark", 60)):
        (folder / label).mkdir(parents=True)
        for i in range(24):
            grain = random.normal(level, 25, (32, 32))
            cv2.imwrite(str(folder / label / f"{label}_{i}.png"), np.clip(grain, 0, 255).astype(np.uint8))
    return folder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(str(end.value.code))


def test_a_folder_of_pictures_is_trained_to_a_model(
    parts_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run("train", str(parts_folder), "--epochs", "1", "--batch-size", "16", "--out", str(tmp_path / "run"))

    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "95 % interval" in printed.out
    assert "epoch 1/1" in printed.err
    assert open_reference(tmp_path / "run").task.labels == ("bright", "dark")


def test_a_run_remembers_its_pictures_and_their_split(parts_folder: Path, tmp_path: Path) -> None:
    run("train", str(parts_folder), "--epochs", "1", "--batch-size", "16", "--out", str(tmp_path / "run"))

    record = json.loads((tmp_path / "run" / "training.json").read_text())
    table = tmp_path / "run" / record["splits_table"]["file"]
    reference = open_reference(tmp_path / "run")
    splits = load_stored_splits(reference.task, Path(record["data_folder"]), table)
    assert hashlib.sha256(table.read_bytes()).hexdigest() == record["splits_table"]["sha256"]
    assert {name: splits[name].digest() for name in record["data"]} == {
        name: data["digest"] for name, data in record["data"].items()
    }
    # The model may be given away.
    assert str(parts_folder) not in json.dumps(reference.training)


def test_a_training_on_generated_pictures_keeps_no_table_of_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_DATA", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("edgecnn.datasets.loading.SYNTHETIC_COUNTS", {"train": 4, "validation": 2, "test": 1})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "splits.csv").write_text("of another training")

    code = run("train", "mnist", "--epochs", "1", "--out", str(tmp_path / "run"))

    assert (code, (tmp_path / "run" / "splits.csv").exists()) == (0, False)


def test_an_unknown_task_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = run("train", "cifar")

    assert code == 2
    assert capsys.readouterr().err.startswith("edgecnn: unknown task 'cifar'; known tasks: mnist, neu")


def test_data_belongs_to_named_tasks_only(parts_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run("train", str(parts_folder), "--data", str(parts_folder))

    assert code == 2
    assert "--data belongs to a named task" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_line(
    parts_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")

    code = run("train", str(parts_folder), "--epochs", "1", "--out", str(tmp_path / "file" / "run"))

    assert code == 2
    assert "cannot create the folder" in capsys.readouterr().err
