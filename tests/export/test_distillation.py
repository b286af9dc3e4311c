"""Learning from a teacher, and choosing between it and its student."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.cli.main import main
from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.errors import InputError, MissingDependencyError
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.models import open_reference
from edgecnn_export.networks import build
from edgecnn_export.training import TrainingRun, auto, train, trainer
from edgecnn_export.training.augmentation import SURFACE, Augmentation
from edgecnn_export.training.auto import Candidate, Choice, Limits, _choose, _Measured, multiplications, train_auto
from edgecnn_export.training.batches import EpochBatches, views_of
from edgecnn_export.training.distillation import Distillation, DistillationLoss, Lessons, ask_teacher, with_imitation
from edgecnn_export.training.epoch_pictures import TrainingPictures
from edgecnn_export.training.recipes import Recipe, can_be_taught, find_recipe, taught

TASK = Task("weaves", "drawn weaves", ("rows", "columns"), Preprocessing(64, 64, "gray"), flips=False)
SMALL = dataclasses.replace(TASK, preprocessing=Preprocessing(24, 24, "gray"))


def weaves(count: int, seed: int, side: int = 64) -> Dataset:
    """Draw stripes along rows or columns, in noise."""
    random = np.random.default_rng(seed)
    class_ids = np.arange(count) % 2
    waves = np.mgrid[:side, :side][class_ids] * 0.8 + random.uniform(0, 6, count)[:, None, None]
    images = np.clip(128 + 60 * np.sin(waves) + random.normal(0, 20, waves.shape), 0, 255).astype(np.uint8)[..., None]
    return Dataset(images, class_ids.astype(np.int64), tuple(f"weave[{seed}, {i}]" for i in range(count)))


def splits(side: int = 64) -> Splits:
    info = SplitInfo("weaves", "each split from its own seed", 0, synthetic=True)
    return Splits(weaves(12, 1, side), weaves(10, 2, side), weaves(2, 3, side), info)


def recipe() -> Recipe:
    short = dataclasses.replace(taught(find_recipe("compact", TASK), TASK), least_pictures=0, batch_size=4)
    return dataclasses.replace(short, distillation=Distillation(views=2))


def learn(out: Path, teacher_folder: Path, **options: object) -> TrainingRun:
    return train(TASK, splits(), out=out, teacher_folder=teacher_folder, recipe=recipe(), epochs=2, **options)  # type: ignore[arg-type]


def lessons(views: int = 3, pictures: int = 4) -> Lessons:
    random = np.random.default_rng(0)
    answers = random.dirichlet((1, 1), (views, pictures)).astype(np.float32)
    maps = random.normal(size=(views, pictures, 2, 2, 5)).astype(np.float16)
    return Lessons(Distillation(), answers, maps, lambda images: np.full((len(images), 2, 2, 5), images.mean(), np.float16))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingRun, Choice]:
    run, choice = train_auto(TASK, splits(), out=tmp_path_factory.mktemp("auto") / "run", recipe=recipe(), epochs=2)
    assert choice is not None
    return run, choice


@pytest.fixture(scope="module")
def student(chosen: tuple[TrainingRun, Choice]) -> dict[str, Any]:
    """The record of the compact network that `auto` trained."""
    return dict(json.loads((chosen[0].folder / "compact" / "training.json").read_bytes()))


def test_a_view_is_the_same_whenever_and_beside_whatever_it_is_asked_for() -> None:
    images = weaves(4, 1).images
    pictures, views = np.arange(4), np.array([0, 1, 2, 2])

    together = views_of(images, SURFACE, 7, pictures, views)

    assert np.array_equal(together[0], images[0])
    for i in range(4):
        assert np.array_equal(views_of(images[i : i + 1], SURFACE, 7, pictures[i : i + 1], views[i : i + 1])[0], together[i])
    assert not np.array_equal(views_of(images, SURFACE, 8, pictures, views), together)


def test_a_student_sees_a_view_in_another_light_each_time_and_its_teacher_sees_it_as_it_is() -> None:
    images, views = weaves(4, 1).images, np.stack([np.arange(4), np.full(4, 3)], axis=1)
    placed = views_of(images, SURFACE, 7, *views.T)

    def seen(augmentation: Augmentation, epoch: int) -> NDArray[np.float32]:
        targets = np.eye(4, dtype=np.float32)
        batches = EpochBatches(images, targets, augmentation, batch_size=4, seed=7, epoch=epoch, views=views)
        shown, order = batches[0]
        return np.asarray(shown[order.argmax(axis=0)])

    assert np.array_equal(seen(SURFACE.geometry, 0), placed)
    assert not np.array_equal(seen(SURFACE, 0), seen(SURFACE, 1))


def test_outliers_are_described_by_the_teacher_in_the_view_that_is_shown_and_have_no_class() -> None:
    noise = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 1), np.uint8)
    task = dataclasses.replace(TASK, outliers=lambda count, seed: noise[:count])
    pictures = TrainingPictures(weaves(4, 1), task, dataclasses.replace(recipe(), outliers=0.5), seed=0, lessons=lessons())

    images, targets = (rows[:] for rows in pictures.of_epoch(1))
    shown = pictures.views_of_epoch(1, len(images))

    assert shown is not None
    looked_at = views_of(images[4:], recipe().augmentation, 0, *shown[4:].T)
    assert np.allclose(targets[4:, :4], [0.5, 0.5, 0, 0])
    assert np.allclose(targets[4:, 4:-1], looked_at.mean(), rtol=1e-3) and (targets[4:, -1] == 1).all()
    assert (targets[:4, -1] == 1).all()


def test_an_epoch_shows_a_picture_of_a_small_class_in_several_views() -> None:
    repeated = dataclasses.replace(recipe(), least_pictures=10)
    pictures = TrainingPictures(weaves(4, 1), TASK, repeated, seed=0, lessons=lessons())

    images, targets = pictures.of_epoch(0)
    shown = pictures.views_of_epoch(0, len(images))

    assert shown is not None
    assert len(images) == len(targets) == len(shown) == 10
    assert len({tuple(each) for each in shown}) > len(set(shown[:, 0]))


def test_a_picture_that_no_teacher_saw_is_judged_by_its_label_alone() -> None:
    taught_by = lessons()
    loss = DistillationLoss(taught_by.distillation, 2, 0.0)
    untaught = taught_by.untaught(np.array([[0.5, 0.5]], np.float32))
    taught_targets = taught_by.targets(np.array([0]), np.array([1]), np.array([2]))
    guesses = [np.concatenate([[[0.5, 0.5]], np.full((1, 20), value)], axis=1).astype(np.float32) for value in (0, 3)]

    assert float(loss(untaught, guesses[0])) == pytest.approx(float(loss(untaught, guesses[1])))
    assert float(loss(untaught, guesses[0])) == pytest.approx(np.log(2), rel=1e-5)
    assert float(loss(taught_targets, guesses[0])) < float(loss(taught_targets, guesses[1]))


def test_a_teacher_without_time_answers_one_view_of_each_picture() -> None:
    ticks = itertools.count(step=100.0)
    teacher, learner = build("compact", TASK), build("compact", TASK)

    short = ask_teacher(
        teacher, learner, weaves(4, 1), Distillation(views=5), SURFACE, seed=0, seconds=1, clock=lambda: next(ticks)
    )
    long = ask_teacher(teacher, learner, weaves(4, 1), Distillation(views=3), SURFACE, seed=0, seconds=1e9)

    assert (short.views, long.views) == (1, 3)
    assert np.allclose(short.answers[0], long.answers[0])
    assert np.allclose(long.answers.sum(axis=2), 1)


def test_the_students_guess_has_the_grid_of_the_teachers_answers() -> None:
    task = dataclasses.replace(TASK, preprocessing=Preprocessing(72, 200, "gray"))
    images = np.zeros((2, 72, 200, 1), np.uint8)
    pictures = Dataset(images, np.array([0, 1]), ("a", "b"))
    learner = build("compact", task)

    said = ask_teacher(build("lite", task, pretrained=False), learner, pictures, Distillation(), None, seed=0, seconds=1e9)
    guess = with_imitation(learner, said.maps.shape[2:])

    assert guess.output_shape[-1] == 2 + np.prod(said.maps.shape[2:])


def test_a_taught_network_is_the_same_network_and_its_record_says_who_taught_it(
    chosen: tuple[TrainingRun, Choice], student: dict[str, Any]
) -> None:
    plain, model = build("compact", TASK), open_reference(chosen[0].folder / "compact").model

    assert [each.name for each in model.layers] == [each.name for each in plain.layers]
    assert student["parameters"] == plain.count_params()
    assert student["recipe"]["distillation"]["teacher"] == "lite"
    assert student["views"] == 2


def test_a_resumed_student_ends_like_an_uninterrupted_one_by_the_same_teacher(
    chosen: tuple[TrainingRun, Choice], student: dict[str, Any], tmp_path: Path
) -> None:
    lines: list[str] = []

    def power_cut(line: str) -> None:
        lines.append(line)
        if line.startswith("epoch 1/"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        learn(tmp_path / "run", chosen[0].folder / "lite", progress=power_cut)
    resumed = learn(tmp_path / "run", chosen[0].folder / "lite", resume=True)

    assert not any(line.startswith("teacher:") for line in lines)
    for ours, theirs in zip(resumed.record["history"], student["history"], strict=True):
        assert ours["validation_loss"] == pytest.approx(theirs["validation_loss"], rel=1e-3)


def test_a_teacher_of_another_recipe_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, recipe = splits(), find_recipe("lite", TASK)
    about = {"model": "lite", "seed": 0, "training_pictures": known.train.digest(), "recipe_digest": recipe.digest()}
    monkeypatch.setattr(trainer, "open_reference", lambda _: SimpleNamespace(training=about, model="the teacher"))
    (tmp_path / "model.keras").touch()

    taken = [
        trainer._kept(tmp_path, known, "lite", each, 0, {}) for each in (recipe, dataclasses.replace(recipe, head_views=9))
    ]

    assert taken == ["the teacher", None]

    (tmp_path / "training.json").write_text('{"interrupted": true}')
    assert trainer._kept(tmp_path, known, "lite", recipe, 0, {}) is None


def test_small_pictures_are_trained_without_a_teacher_and_that_is_said(tmp_path: Path) -> None:
    lines: list[str] = []

    run = train(SMALL, splits(24), out=tmp_path / "run", teacher=True, epochs=1, progress=lines.append)

    assert not can_be_taught(SMALL)
    assert any("without a teacher" in line for line in lines)
    assert run.record["recipe"]["distillation"] is None
    assert not (run.folder / "lite").exists()


def test_other_networks_have_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only compact learns"):
        train(TASK, splits(), out=tmp_path / "run", model="course", teacher=True, epochs=1)


def test_missing_weights_are_one_line_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingDependencyError, match="--teacher none"):
        learn(tmp_path / "run", tmp_path / "lite")


def measured(network: str, size_kb: float, latency_ms: float, right: NDArray[np.bool_]) -> _Measured:
    count, correct = len(right), int(right.sum())
    return _Measured(Candidate(network, correct, count, (0.0, 1.0), size_kb, latency_ms, 1), right)


def pair(small_right: int, large_right: int) -> list[_Measured]:
    rights = [np.arange(100) < right for right in (large_right, small_right)]
    return [measured("lite", 1000, 4.0, rights[0]), measured("compact", 80, 0.5, rights[1])]


@pytest.mark.parametrize(("small", "large", "taken"), [(98, 99, "compact"), (80, 99, "lite"), (100, 90, "compact")])
def test_the_smaller_network_is_taken_unless_the_larger_is_better_beyond_chance(small: int, large: int, taken: str) -> None:
    choice = _choose(pair(small, large), Limits(), weaves(100, 1, 8))

    assert choice.network == taken
    assert "interval" in choice.reason


def test_a_gain_that_a_few_pictures_cannot_prove_is_taken_all_the_same() -> None:
    rights = [np.arange(10) < right for right in (9, 6)]
    few = [measured("lite", 1000, 4.0, rights[0]), measured("compact", 80, 0.5, rights[1])]

    choice = _choose(few, Limits(), weaves(10, 1, 8))

    assert choice.network == "lite"
    assert "3 more of 10" in choice.reason
    assert "too few pictures to prove it" in choice.reason


@pytest.mark.parametrize("limits", [Limits(budget_ms=1.0), Limits(max_kb=100)])
def test_a_limit_decides(limits: Limits) -> None:
    assert _choose(pair(50, 99), limits, weaves(100, 1, 8)).network == "compact"


def test_a_limit_that_no_network_keeps_names_what_each_needs() -> None:
    with pytest.raises(InputError, match=r"--max-kb 70: lite 4.00 ms and 1000 kB; compact 0.50 ms and 80 kB"):
        _choose(pair(50, 99), Limits(max_kb=70), weaves(100, 1, 8))


def test_multiplications_are_counted_by_layer() -> None:
    course = build("course", SMALL)

    assert multiplications(course) == 24 * 24 * 9 * 32 + 12 * 12 * 9 * 32 * 64 + 6 * 6 * 64 * 128 + 128 * 2


def test_auto_leaves_the_choice_and_what_was_measured_of_both(chosen: tuple[TrainingRun, Choice]) -> None:
    run, choice = chosen

    assert [each.network for each in choice.candidates] == ["lite", "compact"]
    assert json.loads((run.folder / "training.json").read_bytes())["choice"]["network"] == choice.network
    assert open_reference(run.folder).name == choice.network == run.reference.name


def test_a_limit_that_the_weights_alone_exceed_is_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--max-kb 30: the weights of compact alone"):
        train_auto(TASK, splits(), out=tmp_path / "run", limits=Limits(max_kb=30), epochs=2)

    assert not (tmp_path / "run").exists()


def test_what_was_trained_before_no_network_kept_a_limit_is_not_trained_again(
    chosen: tuple[TrainingRun, Choice], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both trainings, and what was measured of them, are those of `chosen`."""
    out, trained, lines = tmp_path / "run", chosen[0].folder, list[str]()
    options = {"out": out, "recipe": recipe(), "epochs": 2, "progress": lines.append}

    def copy(*_: object, out: Path, teacher_folder: Path, **__: object) -> TrainingRun:
        shutil.copytree(trained / "lite", teacher_folder)
        return auto._reopened(Path(shutil.copytree(trained / "compact", out)))

    known = [_Measured(each, np.arange(each.count) < each.correct) for each in chosen[1].candidates]
    monkeypatch.setattr(auto, "_measure", lambda *_: known)
    monkeypatch.setattr(auto, "train", copy)
    with pytest.raises(InputError, match="not trained again"):
        train_auto(TASK, splits(), limits=Limits(budget_ms=1e-9), **options)
    monkeypatch.setattr(auto, "train", None)
    with pytest.raises(TypeError, match="not callable"):  # by another recipe it would be
        train_auto(TASK, splits(), **{**options, "recipe": dataclasses.replace(recipe(), learning_rate=1e-4)})

    run, choice = train_auto(TASK, splits(), limits=Limits(budget_ms=1e9), **options)

    assert choice is not None and run.reference.name == choice.network
    assert any("lie in" in line for line in lines)


def test_auto_is_compact_for_small_pictures(tmp_path: Path) -> None:
    lines: list[str] = []

    run, choice = train_auto(SMALL, splits(24), out=tmp_path / "run", epochs=1, progress=lines.append)

    assert choice is None
    assert any("compact alone" in line for line in lines)
    assert open_reference(run.folder).name == "compact"


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (("--network", "lite", "--max-kb", "100"), "--max-kb needs --network auto"),
        (("--network", "course", "--budget-ms", "1"), "--budget-ms needs --network auto"),
        (("--network", "lite", "--teacher", "none"), "--teacher needs --network compact"),
    ],
)
def test_an_option_of_another_network_is_refused(
    options: tuple[str, ...], needed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "mnist", *options])

    assert end.value.code == 2
    assert needed in capsys.readouterr().err
