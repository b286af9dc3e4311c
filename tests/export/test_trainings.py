"""Many trainings side by side: an error of one ends the study with one line, and the others with it."""

from __future__ import annotations

import dataclasses
import os
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.datasets.dataset import Dataset, SplitInfo
from edgecnn.errors import InferenceError, InputError
from edgecnn.shipped import find_task
from edgecnn_export.studies import trainings
from edgecnn_export.studies.trainings import Training, _answer, _received, run_trainings
from edgecnn_export.training.augmentation import Augmentation
from edgecnn_export.training.recipes import find_recipe, imitating

INFO = SplitInfo("digits", "by hand", synthetic=True)


def pool(count: int = 40) -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 28, 28, 1), np.uint8)
    return Dataset(images, np.arange(count) % 10, tuple(map(str, range(count))))


def training(name: str, epochs: int) -> Training:
    parts = (np.arange(20), np.arange(20, 40), np.arange(0))
    return Training(name, parts, "compact", seed=0, epochs=epochs)


def measure(*_: Any) -> dict[str, Any]:
    return {}


def test_the_first_error_ends_the_study_and_its_other_trainings(tmp_path: Path) -> None:
    both = [training("endless", 10**6), training("impossible", 0)]

    with pytest.raises(InputError, match="'impossible' failed: --epochs must be at least 1"):
        list(run_trainings(find_task("mnist"), pool(), INFO, both, measure, out=tmp_path, settings={}, jobs=2))

    assert not active_children()


def keep(folder: Path, kept: Training) -> None:
    folder.mkdir(parents=True)
    trainings._keep(folder, find_task("mnist").to_json(), kept, {"right": 7})


def resume(out: Path, wanted: Training) -> list[dict[str, Any]]:
    return [result for _, result in run_trainings(find_task("mnist"), pool(), INFO, [wanted], measure, out=out, settings={})]


def test_a_training_by_the_same_recipe_on_the_same_pictures_is_kept(tmp_path: Path) -> None:
    keep(tmp_path / "only", training("only", 1))

    assert resume(tmp_path, training("only", 1)) == [{"right": 7}]


def test_an_interrupted_study_says_how_much_is_done_and_that_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    keep(tmp_path / "first", training("first", 1))
    monkeypatch.setattr(trainings, "_run_here", interrupt)
    both = [training("first", 1), training("second", 1)]

    with pytest.raises(KeyboardInterrupt, match=r"^1 of 2 trainings is done; the same command goes on from there$"):
        list(run_trainings(find_task("mnist"), pool(), INFO, both, measure, out=tmp_path, settings={}))


def test_a_training_by_another_recipe_is_not_mixed_in(tmp_path: Path) -> None:
    recipe = find_recipe("compact", find_task("mnist"))
    milder = dataclasses.replace(recipe, augmentation=dataclasses.replace(recipe.augmentation or Augmentation(), defocus=0.0))
    keep(tmp_path / "only", dataclasses.replace(training("only", 1), recipe=milder))

    with pytest.raises(InputError, match=r"recipe.augmentation.defocus 0.0 there, 0.04 here; choose another folder with --out"):
        resume(tmp_path, training("only", 1))


def test_a_student_of_a_teacher_by_another_recipe_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = dataclasses.replace(training("only", 1), recipe=imitating(find_recipe("compact", find_task("neu"))))
    known = find_recipe("lite", find_task("mnist"))
    keep(tmp_path / "only", student)
    monkeypatch.setattr("edgecnn_export.training.recipes.find_recipe", lambda *_: dataclasses.replace(known, head_views=9))

    with pytest.raises(InputError, match=r"teacher.head_views 3 there, 9 here"):
        resume(tmp_path, student)


def test_a_training_on_other_pictures_is_not_mixed_in(tmp_path: Path) -> None:
    keep(tmp_path / "only", dataclasses.replace(training("only", 1), parts=(np.arange(19), np.arange(20, 40), np.arange(0))))

    with pytest.raises(InputError, match="made in another way: pictures"):
        resume(tmp_path, training("only", 1))


def test_a_result_without_settings_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / trainings.RESULT).write_text('{"right": 7}')

    with pytest.raises(InputError, match="does not say how its training was made"):
        resume(tmp_path, training("only", 1))


def test_a_child_that_is_killed_is_an_error_and_no_hang() -> None:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=os._exit, args=(9,))
    child.start()
    theirs.close()

    with pytest.raises(InferenceError, match="'only' ended with code 9"):
        _received(ours, child, training("only", 1))


def test_an_error_of_any_kind_comes_as_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def divide(*_: Any) -> None:
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr(trainings, "_run", divide)
    monkeypatch.setattr(trainings, "_prepare_child", lambda threads: None)
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=os._exit, args=(0,))
    child.start()

    _answer(theirs, 1, ())

    with pytest.raises(InferenceError) as failed:
        _received(ours, child, training("only", 1))
    assert str(failed.value) == "the training 'only' failed: ZeroDivisionError: by"
    assert "Traceback" in capfd.readouterr().err
