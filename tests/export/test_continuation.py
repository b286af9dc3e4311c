"""Going on from a run: its split is kept, nothing is forgotten, and what measures is never trained on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sample_files import START, keep

import edgecnn as ec
from edgecnn.cli.continuation import _tell_verdict
from edgecnn.cli.main import main
from edgecnn.datasets.dataset import SplitInfo, Splits
from edgecnn.datasets.split_table import IN_RUN, SPLITS, SplitRow, read_splits_table, split_rows
from edgecnn.errors import DatasetError, InputError
from edgecnn.samples.labels import LabelLog
from edgecnn.shipped import find_task
from edgecnn.tasks import Task
from edgecnn_export.models import open_reference
from edgecnn_export.run_folder import CHECKPOINT_FILE, next_folder
from edgecnn_export.run_pictures import RunPictures
from edgecnn_export.successor import Comparison, Paired
from edgecnn_export.training import continuation
from edgecnn_export.training.continuation import ContinuedRun, Start, continue_training, open_start

LEVELS = {"bright": 200, "dark": 40, "gray": 120, "_other": 250, "_bad": 0}
Lines = list[str]


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    return int(str(end.value.code))


def grain(label: str, number: int) -> NDArray[np.uint8]:
    random = np.random.default_rng((len(label), number))
    return np.clip(random.normal(LEVELS[label], 20, (32, 32)), 0, 255).astype(np.uint8)


def draw(folder: Path, label: str, numbers: range) -> Path:
    """Draw noise of a class's brightness, each picture of its own grain."""
    (folder / label).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / label / f"{label}_{number}.png"), grain(label, number))
    return folder


def sample(folder: Path, label: str | None, number: int, **about: object) -> str:
    """Keep a sample an hour after the one before, as a camera does, and label it."""
    folder.mkdir(exist_ok=True)
    name = keep(folder, number, after_s=3600.0 * number, **about)  # type: ignore[arg-type]
    cv2.imwrite(str(folder / f"{name}.png"), grain(label or "gray", 1000 + number))
    if label is not None:
        LabelLog(folder).label([name], label, by="anna")
    return name


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder: Path) -> dict[str, SplitRow]:
    return {row.sha256: row for row in read_splits_table(folder / "splits.csv")}


@dataclasses.dataclass(frozen=True)
class Workshop:
    """A run of two classes, samples of a camera, and the run that went on from it, with what it said."""

    folder: Path
    before: dict[str, str]
    found: ContinuedRun
    said: Lines

    @property
    def old(self) -> Path:
        return self.folder / "runs" / "parts"

    @property
    def new(self) -> Path:
        return self.folder / "runs" / "parts-2"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    parts = draw(draw(folder / "parts", "bright", range(40)), "dark", range(40))
    plain = ("--network", "compact", "--teacher", "none", "--epochs", "2", "--no-report")
    assert run("train", parts, *plain, "--out", folder / "runs" / "parts") == 0
    samples = folder / "samples"
    for number in range(24):
        sample(samples, "gray", number, kept=["novel"])
    for number, label in enumerate(["gray", "dark", "bright", "_other"] * 2, 24):
        sample(samples, label, number, kept=["random"])
    sample(samples, None, 40)
    sample(samples, "_bad", 41)
    old = folder / "runs" / "parts"
    before, said = content(old), Lines()
    start = open_start(old, new_classes=["gray"])
    found = continue_training(start, [samples], out=next_folder(old), epochs=2, progress=said.append)
    return Workshop(folder, before, found, said)


def test_the_old_run_is_left_as_it_is(workshop: Workshop) -> None:
    assert content(workshop.old) == workshop.before


def test_no_old_picture_moves_and_new_ones_are_dealt(workshop: Workshop) -> None:
    old, new = rows(workshop.old), rows(workshop.new)

    assert {sha: new[sha].split for sha in old} == {sha: row.split for sha, row in old.items()}
    assert {row.split for sha, row in new.items() if sha not in old} == {"train", "validation", "test"}


def test_a_new_class_is_learned_and_the_old_ones_are_not_forgotten(workshop: Workshop) -> None:
    runtime = workshop.found.run.reference.runtime()
    unseen = np.stack([grain(label, 5000 + i) for label in ("bright", "dark", "gray") for i in range(10)])[..., None]

    answers = runtime.run(unseen).argmax(axis=1)

    assert workshop.found.run.reference.task.labels == ("bright", "dark", "gray")
    assert (answers == np.repeat(np.arange(3), 10)).mean() > 0.9


def test_what_was_kept_at_random_measures_and_is_in_no_split(workshop: Workshop) -> None:
    in_field = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (workshop.new / "field").rglob("*.png")}

    assert len(in_field) == 8
    assert not in_field & rows(workshop.new).keys()
    assert workshop.found.field is not None
    assert workshop.found.field.count == 6  # the two of no class are none of the classes' pictures
    assert workshop.found.comparison is not None
    assert workshop.found.comparison.overall["of no class, accepted"].count == 2


def test_samples_kept_in_doubt_are_shown_and_do_not_decide(workshop: Workshop) -> None:
    dealt = sum(row.file.startswith(IN_RUN) for row in rows(workshop.new).values() if row.split == "test")

    assert workshop.found.comparison is not None
    assert workshop.found.comparison.chosen["right"].count == dealt


def test_samples_without_a_label_and_bad_ones_are_counted_and_said(workshop: Workshop) -> None:
    said = "\n".join(workshop.said)

    assert "1 sample of" in said and "without a label; label them with: edgecnn review" in said
    assert "labelled as bad pictures" in said


def test_the_record_says_from_which_run_it_went_on(workshop: Workshop) -> None:
    about = json.loads((workshop.new / "training.json").read_text())["continued"]

    assert about["run"] == str(workshop.old)
    assert about["model_sha256"] == workshop.before["model.keras"]
    assert (about["added"], about["field"]) == (24, 8)
    assert about["comparison"]["verdict"] in ("better", "no worse", "worse", "undecided")


def test_its_pictures_are_found_again_when_the_camera_has_let_go_of_its_samples(workshop: Workshop, tmp_path: Path) -> None:
    moved = tmp_path / "parts-2"
    shutil.copytree(workshop.new, moved)

    assert run("evaluate", moved) == 0


@pytest.fixture
def uncompared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the comparison, which takes two exports."""
    monkeypatch.setattr(continuation, "_compare", lambda *_: (None, None))


class EnoughError(Exception):
    """Ends a training before it begins."""


@dataclasses.dataclass
class Asked:
    """What a training was asked for that did not begin."""

    shown: Splits
    stored: Splits
    said: Lines
    task: Task

    def row(self, sha256: str) -> SplitRow:
        return next(row for row in split_rows(self.task, self.stored) if row.sha256 == sha256)


def ask(monkeypatch: pytest.MonkeyPatch, start: Start, add: Sequence[Path], out: Path) -> Asked:
    """Go on from a run as far as the beginning of the training."""
    asked, said = list[Asked](), Lines()

    def begin(task: Task, shown: Splits, *, stored: Splits, **_: object) -> None:
        asked.append(Asked(shown, stored, said, task))
        raise EnoughError

    monkeypatch.setattr(continuation, "train", begin)
    with pytest.raises(EnoughError):
        continue_training(start, add, out=out, progress=said.append)
    return asked[0]


def test_a_run_that_went_on_goes_on(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = draw(tmp_path / "more", "gray", range(60, 70))

    asked = ask(monkeypatch, open_start(workshop.new), [added], tmp_path / "again")

    before, after = rows(workshop.new), {row.sha256: row for row in split_rows(asked.task, asked.stored)}
    assert {sha: after[sha].split for sha in before} == {sha: row.split for sha, row in before.items()}
    assert len(after) == len(before) + 10
    assert len(list((tmp_path / "again" / "field").rglob("*.png"))) == 8


@pytest.mark.usefixtures("uncompared")
def test_the_same_seed_gives_the_same_model(workshop: Workshop, tmp_path: Path) -> None:
    start = open_start(workshop.old, new_classes=["gray"])

    again = continue_training(start, [workshop.samples], out=tmp_path / "again", epochs=2)

    for one, other in zip(
        again.run.reference.model.get_weights(), open_reference(workshop.new).model.get_weights(), strict=True
    ):
        assert np.array_equal(one, other)


def test_old_pictures_that_moved_are_found_by_their_folder(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(workshop.folder / "parts", tmp_path / "elsewhere")
    added = draw(tmp_path / "more", "dark", range(60, 64))

    asked = ask(monkeypatch, open_start(workshop.old, data=tmp_path / "elsewhere"), [added], tmp_path / "on")

    assert asked.stored.folder == tmp_path / "elsewhere"


def test_few_old_pictures_are_shown_again_and_all_stay_in_the_table(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuation, "MOST_REPLAYED", 10)
    added = draw(tmp_path / "more", "dark", range(60, 72))

    asked = ask(monkeypatch, open_start(workshop.old), [added], tmp_path / "on")

    trained_on = sum(name.startswith(IN_RUN) for name in asked.stored.train.names)
    assert len(asked.shown.train) == 10 + trained_on
    assert sum(len(asked.stored[part]) for part in SPLITS) == 92


def test_what_decides_is_shown_when_it_is_not_the_share_of_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    overall = {
        "right": Paired("right", 100, 0.95, 0.96, (-0.01, 0.03), 0, 1),
        "right label given": Paired("right label given", 100, 0.9, 0.7, (-0.3, -0.1), 20, 0),
    }

    _tell_verdict(Comparison("worse", (), "right label given", overall, {}, {}, 0.95, 1.0))

    assert "right label given before and now, which decides: 90.0% and 70.0% of 100" in capsys.readouterr().out


@pytest.mark.parametrize(("part", "is_vain"), [("train", False), ("validation", True), ("test", True), (None, False)])
def test_it_is_said_loudly_when_no_added_picture_is_trained_on(workshop: Workshop, part: str | None, is_vain: bool) -> None:
    splits = workshop.found.splits
    none = splits.test.take(np.arange(0))
    one = dataclasses.replace(splits.test.take(np.arange(1)), names=(IN_RUN + "added/a.png",))
    parts = {each: one if each == part else none for each in SPLITS}

    said = continuation._counts(dataclasses.replace(splits, **parts), [], [])

    assert ("WARNING: none is trained on" in said) is is_vain


def test_a_label_that_the_run_does_not_know_is_refused_with_the_option(workshop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labelled 'gray'.*\(bright, dark\).*--new-class 'gray'"):
        continue_training(open_start(workshop.old), [workshop.samples], out=tmp_path / "on")

    assert not (tmp_path / "on").exists()


def test_a_picture_with_another_label_in_the_data_folder_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    draw(tmp_path / "more", "dark", range(60, 62))
    shutil.copy(workshop.folder / "parts" / "bright" / "bright_3.png", tmp_path / "more" / "dark")

    with pytest.raises(InputError, match=r"labelled 'dark', is the same picture as .*bright_3.png.*as 'bright'"):
        continue_training(open_start(workshop.old), [tmp_path / "more"], out=tmp_path / "on")


def test_two_folders_that_contradict_each_other_are_refused(workshop: Workshop, tmp_path: Path) -> None:
    draw(tmp_path / "one", "dark", range(60, 62))
    shutil.copytree(tmp_path / "one" / "dark", tmp_path / "two" / "bright")

    with pytest.raises(InputError, match="are the same picture under two labels, 'dark' and 'bright'"):
        continue_training(open_start(workshop.old), [tmp_path / "one", tmp_path / "two"], out=tmp_path / "on")


def test_labels_that_people_contradict_are_named(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [sample(tmp_path / "samples", "dark", number) for number in range(3)]
    LabelLog(tmp_path / "samples").label(names[:1], "bright", by="ben", at=START + timedelta(days=1000))

    asked = ask(monkeypatch, open_start(workshop.old), [tmp_path / "samples"], tmp_path / "on")

    assert any("bright by ben is the latest and holds; before: dark by anna" in line for line in asked.said)


def test_a_later_label_of_an_added_picture_holds(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrected = next((workshop.new / "added" / "gray").glob("*.png"))
    (tmp_path / "more" / "dark").mkdir(parents=True)
    shutil.copy(corrected, tmp_path / "more" / "dark")

    asked = ask(monkeypatch, open_start(workshop.new), [tmp_path / "more"], tmp_path / "on")

    sha = hashlib.sha256(corrected.read_bytes()).hexdigest()
    assert (asked.row(sha).label, asked.row(sha).split) == ("dark", rows(workshop.new)[sha].split)
    assert any("is labelled 'dark' now, and no longer 'gray'" in line for line in asked.said)


def test_what_was_of_the_field_is_not_learned_later(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = next((workshop.new / "field" / "dark").glob("*.png"))
    draw(tmp_path / "more", "dark", range(60, 62))
    shutil.copy(measured, tmp_path / "more" / "dark" / "again.png")

    asked = ask(monkeypatch, open_start(workshop.new), [tmp_path / "more"], tmp_path / "on")

    sha = hashlib.sha256(measured.read_bytes()).hexdigest()
    assert all(sha not in (asked.stored[part].digests or ()) for part in SPLITS)


def test_an_added_picture_that_is_gone_is_one_line(workshop: Workshop, tmp_path: Path) -> None:
    shutil.copytree(workshop.new, tmp_path / "parts-2")
    next((tmp_path / "parts-2" / "added" / "gray").glob("*.png")).unlink()
    added = draw(tmp_path / "more", "dark", range(60, 62))

    with pytest.raises(DatasetError, match=r"1 of the 24 pictures .* is missing or changed"):
        continue_training(open_start(tmp_path / "parts-2"), [added], out=tmp_path / "on")


def test_old_pictures_that_are_gone_are_one_line(workshop: Workshop, tmp_path: Path) -> None:
    shutil.copytree(workshop.folder / "parts", tmp_path / "parts")
    (tmp_path / "parts" / "dark" / "dark_7.png").unlink()
    added = draw(tmp_path / "more", "dark", range(60, 62))

    with pytest.raises(DatasetError, match=r"1 of the 80 pictures .* dark/dark_7.png is missing"):
        continue_training(open_start(workshop.old, data=tmp_path / "parts"), [added], out=tmp_path / "on")
    with pytest.raises(InputError, match="which is gone; name their folder with --data"):
        open_start(workshop.old, data=tmp_path / "nowhere")


def test_what_cannot_be_started_from_is_refused_in_one_line(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copy(workshop.old / "model.keras", tmp_path / "model.keras")
    for source, reason in (
        (Path("exports/parts-int8.tflite"), "name the folder of the run that it was exported from"),
        (Path("neu"), "is not the folder of a training run"),
        (tmp_path / "empty", "holds no model.keras"),
        (tmp_path, "has no training.json"),
    ):
        with pytest.raises(InputError, match=reason):
            open_start(source)
    with pytest.raises(InputError, match="knows this class already"):
        open_start(workshop.old, new_classes=["dark"])


def test_a_run_of_digits_says_in_one_line_why_it_cannot_be_continued(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = dataclasses.replace(open_start(workshop.old).reference, task=find_task("mnist"))
    monkeypatch.setattr(continuation, "open_reference", lambda path: digits)
    monkeypatch.setattr(RunPictures, "of", lambda _: RunPictures(digits.task, None, None, SplitInfo("generated", "")))
    run = shutil.copytree(workshop.old, tmp_path / "digits")

    with pytest.raises(InputError, match=f"^{run} was trained on the arrays of mnist, not on a folder of pictures"):
        open_start(run)


def test_no_run_is_replaced(workshop: Workshop) -> None:
    start = open_start(workshop.old, new_classes=["gray"])

    for out in (workshop.old, workshop.new):
        with pytest.raises(InputError, match="holds a run, which is left as it is"):
            continue_training(start, [workshop.samples], out=out)
    assert [next_folder(each).name for each in (workshop.old, workshop.new)] == ["parts-3", "parts-3"]


def test_the_folder_of_the_next_run_is_called_as_the_run_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert next_folder(Path("runs/parts")) == Path("runs/parts-2")
    assert next_folder(Path()) == Path(f"{tmp_path}-2")


def test_what_the_new_folder_holds_is_seen_before_the_run_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(continuation, "open_start", None)
    going_on = ("train", "--from", "runs/parts", "--add", "kept")

    assert run(*going_on, "--resume") == 2
    Path("runs/parts-2").mkdir(parents=True)
    Path("runs/parts-2", CHECKPOINT_FILE).touch()
    assert run(*going_on) == 2

    first, second = capsys.readouterr().err.splitlines()
    assert "no checkpoint in runs/parts-2; leave --resume out" in first
    assert "runs/parts-2 holds an unfinished training; go on with --resume" in second


def test_options_of_a_training_from_the_beginning_are_refused(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    going_on = ("train", "--from", workshop.old, "--add", workshop.samples)
    for more in (("--network", "lite"), ("--splits", "new"), ("--only-good",), (str(workshop.folder / "parts"),)):
        assert run(*going_on, *more) == 2
    assert run("train", "--from", workshop.old) == 2
    assert run("train", "--add", workshop.samples, workshop.folder / "parts") == 2

    assert [line.count("--") > 0 for line in capsys.readouterr().err.splitlines()] == [True] * 6


def test_a_notebook_goes_on_from_a_run(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuation, "continue_training", lambda *_, **__: workshop.found)

    went_on = ec.train(start=workshop.old, add=[workshop.samples], new_classes=["gray"])

    assert went_on.comparison is workshop.found.comparison
    assert went_on.data.labels == ("bright", "dark", "gray")
    for wrong in ({}, {"start": workshop.old}, {"data": went_on.data, "add": [tmp_path]}):
        with pytest.raises(InputError):
            ec.train(**wrong)  # type: ignore[arg-type]
