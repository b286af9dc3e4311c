"""A new model in the place of an old one: what the pairs of answers prove, and on which pictures."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sample_files import keep

from edgecnn.cli.compare import compare as command
from edgecnn.errors import DatasetError, InputError
from edgecnn.samples.labels import LabelLog
from edgecnn.testing import FakeRuntime, fake_classifier
from edgecnn_export.successor import (
    EXIT_CODES,
    Comparison,
    LabelledPicture,
    compare_models,
    find_field_pictures,
    find_pictures,
)

LEVELS = {"dark": 30, "gray": 128, "light": 220}


class Failing(FakeRuntime):
    """Brightness, but wrong on pictures whose first pixel is below a number: there it says `says`."""

    def __init__(self, below: int, says: int = 0, probability: float = 0.9) -> None:
        super().__init__()
        self._below, self._says, self._probability = below, says, probability

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers = super().run(images)
        wrong = np.full(3, (1 - self._probability) / 2, np.float32)
        wrong[self._says] = self._probability
        answers[images[:, 0, 0, 0] < self._below] = wrong
        return answers


def draw(folder: Path, label: str, marks: list[int]) -> list[LabelledPicture]:
    """Write a 20 x 20 picture for each mark, which is its first pixel, and return them."""
    (folder / label).mkdir(parents=True, exist_ok=True)
    pictures = []
    for number, mark in enumerate(marks):
        image = np.full((20, 20), LEVELS.get(label, 220), np.uint8)
        image[0, 0] = mark
        image[1, :2] = number % 256, number // 256
        path = folder / label / f"{label}-{number}.png"
        cv2.imwrite(str(path), image)
        pictures.append(LabelledPicture(path, label))
    return pictures


@pytest.fixture
def pictures(tmp_path: Path) -> list[LabelledPicture]:
    """300 light pictures, whose first pixels are 0 to 99 three times over, and 100 dark ones that nobody gets wrong."""
    return draw(tmp_path, "light", [*range(100)] * 3) + draw(tmp_path, "dark", [255] * 100)


def judged(old_fails: int, new_fails: int, pictures: list[LabelledPicture], **options: float) -> Comparison:
    models = (fake_classifier(runtime=Failing(fails)) for fails in (old_fails, new_fails))
    return compare_models(*models, pictures, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old_fails", "new_fails", "verdict"),
    [(10, 0, "better"), (10, 10, "no worse"), (0, 10, "worse"), (1, 2, "undecided"), (0, 0, "no worse")],
)
def test_the_verdict_is_what_the_pairs_prove(
    pictures: list[LabelledPicture], old_fails: int, new_fails: int, verdict: str
) -> None:
    found = judged(old_fails, new_fails, pictures)

    assert found.verdict == verdict
    assert found.overall["right"].gain == pytest.approx(3 * (old_fails - new_fails) / 400)


def test_the_interval_holds_the_gain_and_turns_around_with_the_models(pictures: list[LabelledPicture]) -> None:
    there, back = judged(10, 3, pictures).overall["right"], judged(3, 10, pictures).overall["right"]

    assert there.interval[0] < there.gain < there.interval[1]
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))


def test_few_pictures_decide_nothing_and_say_how_many_would(tmp_path: Path) -> None:
    found = judged(0, 0, draw(tmp_path, "light", [100] * 20))

    assert found.verdict == "undecided"
    assert found.reasons[0].startswith("20 pictures are too few; about ")


def test_a_class_that_is_surely_lost_is_worse_whatever_the_others_gain(tmp_path: Path) -> None:
    gained, lost = draw(tmp_path, "light", [5] * 300), draw(tmp_path, "dark", [150] * 40 + [255] * 60)
    old = fake_classifier(runtime=Failing(10, says=1))
    new = fake_classifier(runtime=_Only(150, says=1))

    found = compare_models(old, new, [*gained, *lost])

    assert found.overall["right"].interval[0] > 0
    assert (found.verdict, found.reasons) == ("worse", ("dark is surely recognised less often",))


class _Only(FakeRuntime):
    def __init__(self, mark: int, says: int) -> None:
        super().__init__()
        self._mark, self._says = mark, says

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        answers = super().run(images)
        answers[images[:, 0, 0, 0] == self._mark] = np.eye(3, dtype=np.float32)[self._says]
        return answers


def test_a_model_that_is_only_unsure_more_often_is_worse(pictures: list[LabelledPicture]) -> None:
    old = fake_classifier(0.6, Failing(0))
    new = fake_classifier(0.6, Failing(20, says=2, probability=0.5))

    found = compare_models(old, new, pictures)

    assert (found.decides, found.verdict) == ("right label given", "worse")
    assert found.overall["right"].gain == 0
    assert found.overall["unsure"].gain == pytest.approx(60 / 400)


def test_pictures_of_no_class_that_get_a_label_are_a_loss(tmp_path: Path) -> None:
    strange = [replace(each, label="_other") for each in draw(tmp_path, "strange", [5] * 40)]
    old = fake_classifier(0.6, Failing(10, probability=0.5))
    new = fake_classifier(0.6, Failing(0))

    found = compare_models(old, new, draw(tmp_path, "dark", [255] * 300) + strange)

    assert (found.verdict, found.reasons) == ("worse", ("more pictures of no class surely get a label",))


def test_pictures_that_were_kept_for_the_old_models_doubt_do_not_decide(pictures: list[LabelledPicture]) -> None:
    chosen = [replace(each, is_chosen=True) for each in pictures]

    found = judged(50, 0, chosen)

    assert found.verdict == "undecided"
    assert found.chosen["right"].gain == pytest.approx(150 / 400)


def test_siblings_widen_the_interval(pictures: list[LabelledPicture]) -> None:
    grouped = [replace(each, group=str(int(each.path.stem.split("-")[1]) % 100 // 10)) for each in pictures]

    alone, together = judged(10, 0, pictures).overall["right"], judged(10, 0, grouped).overall["right"]

    assert together.interval[0] < alone.interval[0]


def test_a_model_with_one_more_class_is_compared_and_said_so(tmp_path: Path) -> None:
    old = replace(fake_classifier(runtime=Failing(0)), labels=("dark", "gray", "shiny"))

    found = compare_models(old, fake_classifier(), draw(tmp_path, "light", [255] * 50))

    assert found.verdict == "better"
    assert found.notes[0] == "the new model also knows light: the old one is wrong on them all"


def test_a_class_that_no_picture_shows_is_said_to_be_unmeasured(tmp_path: Path) -> None:
    old = replace(fake_classifier(runtime=Failing(0)), labels=("dark", "gray", "shiny"))

    found = compare_models(old, fake_classifier(), draw(tmp_path, "gray", [128] * 50))

    assert found.notes == ("not measured, for lack of test pictures: light, shiny, which only one of the models knows",)


def test_models_without_a_class_in_common_are_one_line(pictures: list[LabelledPicture]) -> None:
    with pytest.raises(InputError, match="no class in common"):
        compare_models(fake_classifier(), replace(fake_classifier(), labels=("a", "b", "c")), pictures)


def test_what_a_run_was_trained_on_is_left_out(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "data", "light", [1, 2, 3, 4]) + draw(tmp_path / "data", "dark", [5, 6])
    with (tmp_path / "splits.csv").open("w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "sha256", "label", "split", "group"))
        for number, each in enumerate(drawn[:4]):
            digest = hashlib.sha256(each.path.read_bytes()).hexdigest()
            table.writerow((f"{number}.png", digest, each.label, ("train", "validation", "test")[number % 3], ""))

    found = find_pictures(tmp_path / "data", splits=[tmp_path / "splits.csv"])

    assert sorted(each.path.name for each in found) == ["dark-0.png", "dark-1.png", "light-2.png"]


def test_of_a_divided_folder_the_test_part_is_compared_on(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in ("dark", "light"):
            draw(tmp_path / part, label, [1, 2])

    assert {each.path.parts[-3] for each in find_pictures(tmp_path)} == {"test"}


def test_the_field_is_what_is_labelled_and_there(tmp_path: Path) -> None:
    names = [keep(tmp_path, i, after_s=60.0 * i, kept=["random"] if i % 2 else ["novel"]) for i in range(6)]
    log = LabelLog(tmp_path)
    log.label(names[:4], "dark", by="anna")
    log.label(names[3:4], "_bad", by="anna")
    (tmp_path / f"{names[0]}.png").unlink()

    found = find_field_pictures(tmp_path)

    assert [(each.path.stem, each.is_chosen) for each in found] == [(names[1], False), (names[2], True)]


def test_a_field_without_labels_is_one_line(tmp_path: Path) -> None:
    keep(tmp_path, 1)

    with pytest.raises(InputError, match="has no labelled picture"):
        find_field_pictures(tmp_path)


def test_a_board_can_compare() -> None:
    heavy = ("tensorflow", "keras", "onnx", "matplotlib", "jinja2")
    code = f"import sys, edgecnn_export.successor; print([name for name in {heavy} if name in sys.modules])"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_command_ends_with_the_verdicts_code(tmp_path: Path) -> None:
    from edgecnn.shipped import find_task

    task = find_task("neu")
    assert task.synthesize is not None
    drawn = task.synthesize(3, 0)
    for image, class_id, number in zip(drawn.images, drawn.class_ids, range(len(drawn)), strict=True):
        (tmp_path / task.labels[class_id]).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / task.labels[class_id] / f"{number}.png"), image)

    shown = CliRunner().invoke(command, ["neu", "neu", "--data", str(tmp_path)], catch_exceptions=False)
    as_json = CliRunner().invoke(command, ["neu", "neu", "--data", str(tmp_path), "--json"], catch_exceptions=False)

    body = json.loads(as_json.stdout)
    assert shown.exit_code == as_json.exit_code == EXIT_CODES["undecided"] == 3
    assert (body["verdict"], body["overall"]["right"]["gain"], len(body["classes"])) == ("undecided", 0, 6)
    assert shown.output.splitlines()[-1] == "undecided"


@pytest.mark.parametrize("arguments", [[], ["--splits", "x", "--field", "y"], ["--group-by", "x", "--field", "y"]])
def test_a_comparison_on_nothing_is_one_line(arguments: list[str]) -> None:
    with pytest.raises(InputError, match=r"--data"):
        CliRunner().invoke(command, ["neu", "neu", *arguments], catch_exceptions=False)


def test_a_folder_of_which_nothing_is_left_is_one_line(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "data", "light", [1]) + draw(tmp_path / "data", "dark", [5])
    rows = [f"{n}.png,{hashlib.sha256(p.path.read_bytes()).hexdigest()},{p.label},train," for n, p in enumerate(drawn)]
    (tmp_path / "splits.csv").write_text("\n".join(["file,sha256,label,split,group", *rows]) + "\n")

    with pytest.raises(DatasetError, match="is left to compare on"):
        find_pictures(tmp_path / "data", splits=[tmp_path / "splits.csv"])


def test_for_models_of_good_parts_every_other_folder_is_of_no_class(tmp_path: Path) -> None:
    draw(tmp_path, "good", [1, 2])
    draw(tmp_path, "cracked", [3])
    draw(tmp_path, "_other", [4])

    found = find_pictures(tmp_path, only_good=True)

    assert sorted(each.label for each in found) == ["_other", "_other", "good", "good"]


def test_models_of_good_parts_without_a_folder_of_these_are_one_line(tmp_path: Path) -> None:
    draw(tmp_path, "cracked", [3])

    with pytest.raises(DatasetError, match="has no folder 'good'"):
        find_pictures(tmp_path, only_good=True)


def test_folders_that_no_model_knows_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must bear names of classes \(dark, gray, light\), or _other"):
        judged(0, 0, draw(tmp_path, "scratched", [1]))
