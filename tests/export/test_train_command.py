"""`edgecnn train` from the command line to the files, on generated pictures."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.cli.main import main
from edgecnn.cli.train import _telling_what_is_kept
from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.split_table import load_stored_splits, read_splits_table
from edgecnn.errors import InputError
from edgecnn_export.models import open_reference
from edgecnn_export.plots.contact_sheet import draw_contact_sheet
from edgecnn_export.reference import ENTRY
from edgecnn_export.run_folder import CHECKPOINT_FILE, RunFolders

PLAIN = ("--network", "compact", "--teacher", "none")


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the page, which takes seconds: see test_report.py."""
    monkeypatch.setattr("edgecnn_export.studies.report.write_report", lambda run, *_, **__: run.folder / "report.html")


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
    code = run("train", str(parts_folder), *PLAIN, "--epochs", "1", "--batch-size", "16", "--out", str(tmp_path / "run"))

    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "95 % interval" in printed.out
    assert "epoch 1/1" in printed.err
    assert "WARNING: an export of this model will call no picture unsure or novel" in printed.out
    assert open_reference(tmp_path / "run").task.labels == ("bright", "dark")


def test_a_run_shows_what_the_network_sees(parts_folder: Path, tmp_path: Path) -> None:
    run("train", str(parts_folder), *PLAIN, "--epochs", "1", "--size", "24x40", "--fit", "pad", "--out", str(tmp_path / "run"))

    sheet = cv2.imread(str(tmp_path / "run" / "pictures.png"))
    assert sheet is not None and min(sheet.shape[:2]) > 200
    found = open_reference(tmp_path / "run").task.preprocessing
    assert (found.shape, found.fit) == ((24, 40, 1), "pad")


@pytest.mark.parametrize("size", ["7", "128x", "12x4000", "big"])
def test_a_size_that_is_none_is_one_line(parts_folder: Path, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", str(parts_folder), "--size", size) == 2
    assert "is not a size of 8 to 1024 pixels per side, such as 128 or 96x160" in capsys.readouterr().err


def test_a_run_remembers_its_pictures_and_their_split(parts_folder: Path, tmp_path: Path) -> None:
    run("train", str(parts_folder), *PLAIN, "--epochs", "1", "--batch-size", "16", "--out", str(tmp_path / "run"))

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


def test_a_training_says_and_records_what_it_made_of_the_folder(
    parts_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(parts_folder, tmp_path / "my-parts"))
    (folder / "dark" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")

    code = run("train", str(folder), *PLAIN, "--epochs", "1", "--color", "rgb", "--out", str(tmp_path / "run"))

    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading pictures")]  # if slow
    record = json.loads((tmp_path / "run" / "training.json").read_text())["folder_summary"]
    assert (code, said[:3]) == (
        0,
        [
            "my-parts: 48 pictures in 2 classes: bright 24, dark 24",
            "  input: color, 32 x 32; all pictures 32 x 32; 48 of 48 gray (train --color gray decides otherwise)",
            "  left out 1 file: 1 HEIC, which OpenCV cannot read (dark/photo.heic)",
        ],
    )
    assert record["left_out"] == {"dark/photo.heic": "HEIC, which OpenCV cannot read"}
    assert open_reference(tmp_path / "run").task.preprocessing.color == "rgb"


def test_a_folder_that_contradicts_itself_is_not_trained_in_silence(
    parts_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(parts_folder, tmp_path / "my-parts"))
    shutil.copy(folder / "dark" / "dark_0.png", folder / "bright" / "twin.png")

    refused = run("train", str(folder), *PLAIN, "--epochs", "1", "--out", str(tmp_path / "run"))
    err = capsys.readouterr().err
    dropped = run("train", str(folder), *PLAIN, "--epochs", "1", "--conflicts", "drop", "--out", str(tmp_path / "run"))

    assert (refused, dropped) == (2, 0)
    assert err.startswith("edgecnn: bright/twin.png and dark/dark_0.png are the same picture under two labels")
    assert err.count("\n") == 1
    assert "2 the same picture under two labels" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--color", "gray"), ("--conflicts", "keep")])
def test_how_a_folder_is_read_is_no_option_of_a_named_task(option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code = run("train", "mnist", *option)

    assert (code, f"{option[0]} belongs to a folder of your own" in capsys.readouterr().err) == (2, True)


def test_an_owners_division_is_trained_on(parts_folder: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(parts_folder.rglob("*.png"))):
        target = tmp_path / "my-parts" / ("test" if number % 4 == 0 else "train") / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)

    code = run("train", str(tmp_path / "my-parts"), *PLAIN, "--epochs", "1", "--out", str(tmp_path / "run"))

    rows = read_splits_table(tmp_path / "run" / "splits.csv")
    assert code == 0
    assert {(row.file.split("/")[0], row.split) for row in rows} == {
        ("train", "train"),
        ("train", "validation"),
        ("test", "test"),
    }


def test_a_training_on_generated_pictures_keeps_no_table_of_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_DATA", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("edgecnn.datasets.load.SYNTHETIC_COUNTS", {"train": 4, "validation": 2, "test": 1})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "splits.csv").write_text("file,sha256,label,split,group\n")

    code = run("train", "mnist", "--data", "synthetic", *PLAIN, "--epochs", "1", "--out", str(tmp_path / "run"))

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

    code = run("train", str(parts_folder), *PLAIN, "--epochs", "1", "--out", str(tmp_path / "file" / "run"))

    assert code == 2
    assert "cannot create the folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.keras", "training.json", "curves.png", "pictures.png", "splits.csv"])
def test_a_folder_with_files_of_somebody_elses_is_not_trained_into(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")

    with pytest.raises(InputError, match=f"{name} was not written by edgecnn train"):
        RunFolders(tmp_path, tmp_path).check(resume=False)


def test_a_folder_that_a_killed_training_has_left_is_trained_into(tmp_path: Path) -> None:
    pictures = Dataset(np.zeros((4, 32, 32, 1), np.uint8), np.array([0, 0, 1, 1]), ("a", "b", "c", "d"))
    draw_contact_sheet(pictures, ("bright", "dark"), tmp_path / "pictures.png", title="what the network sees")

    RunFolders(tmp_path, tmp_path).check(resume=False)  # before its first checkpoint
    (tmp_path / CHECKPOINT_FILE).touch()
    RunFolders(tmp_path, tmp_path).check(resume=True)


def _begun(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr(ENTRY, "{}")


@pytest.mark.parametrize(("network", "stage"), [("auto", "lite"), ("auto", "compact"), ("compact", "lite"), ("compact", ".")])
def test_an_unfinished_teacher_or_student_is_refused_before_pictures_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], network: str, stage: str
) -> None:
    monkeypatch.setattr("edgecnn.datasets.folder.task_from_folder", None)
    _begun(tmp_path / "run" / stage, CHECKPOINT_FILE)

    code = run("train", str(tmp_path), "--network", network, "--out", str(tmp_path / "run"))

    assert (code, f"{tmp_path / 'run'} holds an unfinished training; go on with --resume" in capsys.readouterr().err) == (
        2,
        True,
    )


@pytest.mark.parametrize("network", ["auto", "compact", "lite"])
def test_resuming_without_a_checkpoint_is_refused_before_pictures_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], network: str
) -> None:
    monkeypatch.setattr("edgecnn.datasets.folder.task_from_folder", None)

    code = run("train", str(tmp_path), "--network", network, "--out", str(tmp_path / "run"), "--resume")

    assert (code, "no checkpoint in" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize("network", ["auto", "compact"])
@pytest.mark.parametrize(
    ("left", "said"),
    [
        (
            (f"lite/{CHECKPOINT_FILE}", "lite/model.keras"),
            "the teacher's best weights so far are kept in run/lite",
        ),
        (("lite/model.keras",), "what was trained is kept in run"),
    ],
)
def test_a_training_that_ends_before_its_student_has_begun_says_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, left: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = RunFolders.of(Path("run"), network, teacher=True)

    with pytest.raises(KeyboardInterrupt) as end, _telling_what_is_kept(folders):
        for name in left:
            _begun((folders.out / name).parent, Path(name).name)
        raise KeyboardInterrupt

    assert str(end.value) == f"{said}; continue with --resume"
    folders.check(resume=True)


def test_a_training_that_has_kept_nothing_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"^$"), _telling_what_is_kept(RunFolders(tmp_path, tmp_path)):
        raise KeyboardInterrupt


def test_a_teacher_that_was_interrupted_within_its_first_pass_is_not_complete(tmp_path: Path) -> None:
    folders = RunFolders.of(tmp_path, "auto", teacher=True)
    _begun(tmp_path / "lite", "model.keras")
    (tmp_path / "lite" / "training.json").write_text('{"interrupted": true}')

    assert (folders.is_between, folders.kept()) == (False, None)
