from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.cli.main import main
from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.datasets.synthetic.digits import generate_digits
from edgecnn.errors import InputError
from edgecnn.shipped import find_task
from edgecnn.tasks import Task
from edgecnn_export.studies import crossval
from edgecnn_export.studies.crossval import CrossValidation, _collect, _macro_recall, _measure, cross_validate, divide, with_few
from edgecnn_export.studies.trainings import Training, run_trainings
from edgecnn_export.training.recipes import Recipe

MNIST = find_task("mnist")


def _pool(per_class: int = 12, pictures_a_group: int = 2) -> Dataset:
    digits = generate_digits(per_class, seed=3)
    number = np.array([int(name.rsplit("_", 1)[1]) for name in digits.names])
    groups = digits.class_ids * 1000 + number // pictures_a_group
    return Dataset(digits.images, digits.class_ids, digits.names, groups)


def _splits() -> Splits:
    pool = _pool()
    half = np.arange(0, len(pool), 2)
    other = np.arange(1, len(pool), 2)
    return Splits(pool.take(half), pool.take(other), pool.take(other[:0]), SplitInfo("digits", "by hand", synthetic=True))


@pytest.mark.parametrize("rule", ["grouped", "random"])
def test_every_picture_is_held_out_once(rule: str) -> None:
    pool = _pool()

    divided = divide(pool, MNIST, rule, folds=4, seed=1)  # type: ignore[arg-type]

    held_out = np.concatenate([test for _, _, test in divided])
    assert sorted(held_out) == list(range(len(pool)))


def test_no_group_stands_on_two_sides_of_a_grouped_fold() -> None:
    pool = _pool()
    assert pool.groups is not None

    divided = divide(pool, MNIST, "grouped", folds=4, seed=1)

    for parts in divided:
        sides = [set(pool.groups[part].tolist()) for part in parts]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_few_pictures_of_each_class_are_trained_on_and_all_of_the_fold_are_held_out() -> None:
    pool = _pool()
    train, choosing, held_out = divide(pool, MNIST, "grouped", folds=3, seed=0)[0]

    few = with_few((train, choosing, held_out), pool, 3, seed=0)

    assert np.bincount(pool.class_ids[few[0]]).tolist() == [3] * 10
    assert set(few[0]) < set(train)
    assert few[1] is choosing
    assert few[2] is held_out


def test_random_folds_part_groups() -> None:
    pool = _pool()
    assert pool.groups is not None

    train, _, test = divide(pool, MNIST, "random", folds=4, seed=1)[0]

    assert set(pool.groups[train].tolist()) & set(pool.groups[test].tolist())


def test_a_class_of_one_group_is_trained_on_in_every_fold_and_held_out_in_none() -> None:
    whole = _pool()
    assert whole.groups is not None
    belt = whole.class_ids == 3
    pool = Dataset(whole.images, whole.class_ids, whole.names, np.where(belt, -1, whole.groups))

    divided = divide(pool, MNIST, "grouped", folds=3, seed=0)

    assert all(set(np.flatnonzero(belt)) <= set(train) for train, _, _ in divided)
    assert sorted(np.concatenate([test for _, _, test in divided])) == np.flatnonzero(~belt).tolist()


def test_the_mean_recall_counts_small_classes_like_large_ones() -> None:
    hits = np.array([[True] * 90 + [False] * 5 + [True] * 5])
    class_ids = np.repeat([0, 1], [90, 10])

    mean, (low, high) = _macro_recall(hits, class_ids, None)

    assert mean == pytest.approx(0.75)
    assert low < 0.65 and 0.85 < high < 1


def _found(right: bool) -> CrossValidation:
    pool = _pool()
    divided = {("grouped", 0): divide(pool, MNIST, "grouped", folds=3, seed=0)}
    answers = {
        f"grouped-seed0-fold{fold}": {"float32": [True] * len(test), "int8": [right] + [True] * (len(test) - 1)}
        for fold, (_, _, test) in enumerate(divided["grouped", 0])
    }
    return _collect(pool, divided, answers, {"rules": ["grouped"], "seeds": [0]})


def test_mistakes_are_counted_and_named() -> None:
    found = _found(right=False)

    int8 = next(figure for figure in found.figures if figure.precision == "int8")
    assert (int8.correct, len(found.mistakes)) == (117, 3)


def test_a_figure_without_mistakes_still_has_an_interval() -> None:
    found = _found(right=True)

    assert found.figures[0].accuracy == 1.0
    assert 0.9 < found.figures[0].interval[0] < 1.0


def test_a_study_of_other_settings_is_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"folds": 4}')

    with pytest.raises(InputError, match=r"differs in .*folds"):
        cross_validate(MNIST, _splits(), out=tmp_path, rules=["grouped"], folds=3, epochs=1)


def test_seeds_begin_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()

    def note(*_: Any, seeds: Iterable[int], **__: Any) -> None:
        asked.extend(seeds)
        raise InputError("enough")

    monkeypatch.setattr(crossval, "cross_validate", note)

    with pytest.raises(SystemExit):
        main(["study", "crossval", "mnist", "--data", "synthetic", "--seed", "2", "--seeds", "2"])

    assert asked == [2, 3]


def test_digits_have_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--teacher lite: lite is for pictures of at least"):
        cross_validate(MNIST, _splits(), out=tmp_path, teacher=True, folds=3, epochs=1)


def test_a_teacher_stands_in_the_recipe_of_every_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surfaces, recipes = find_task("neu"), list[Recipe | None]()

    def run(task: Task, pool: Dataset, info: SplitInfo, trainings: list[Training], *_: Any, **__: Any) -> Iterator[Any]:
        recipes.extend(training.recipe for training in trainings)
        for training in trainings:
            right = [True] * len(training.parts[2])
            yield training, {"right": {"float32": right, "int8": right}}

    monkeypatch.setattr(crossval, "run_trainings", run)
    splits = _splits()
    few = [part.take(np.flatnonzero(part.class_ids < 6)) for part in (splits.train, splits.validation, splits.test)]

    cross_validate(surfaces, Splits(*few, splits.info), out=tmp_path, teacher=True, rules=["grouped"], folds=3)

    assert len(recipes) == 3
    assert all(recipe is not None and recipe.distillation is not None for recipe in recipes)


@pytest.mark.parametrize("with_test", [False, True])
def test_the_test_split_is_taken_where_that_is_asked_for_alone(
    with_test: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = list[Dataset]()

    def run(task: Task, pool: Dataset, info: SplitInfo, trainings: list[Training], *_: Any, **__: Any) -> Iterator[Any]:
        pools.append(pool)
        for training in trainings:
            right = [True] * len(training.parts[2])
            yield training, {"right": {"float32": right, "int8": right}}

    monkeypatch.setattr(crossval, "run_trainings", run)
    pool = _pool()
    part = np.arange(len(pool)) % 3
    train, validation, test = (pool.take(np.flatnonzero(part == i)) for i in range(3))

    splits = Splits(train, validation, test, SplitInfo("digits", "by hand", synthetic=True))
    cross_validate(MNIST, splits, out=tmp_path, rules=["random"], folds=3, with_test=with_test)

    assert bool(set(test.names) & set(pools[0].names)) is with_test


@pytest.mark.usefixtures("in_this_process")
def test_what_is_complete_is_not_trained_again(tmp_path: Path) -> None:
    pool = _pool()
    training = Training("only", divide(pool, MNIST, "grouped", folds=3, seed=0)[0], "compact", seed=0, epochs=1)
    info = SplitInfo("digits", "by hand", synthetic=True)
    runs = {"out": tmp_path, "settings": {"folds": 3}}
    (_, first), *_ = run_trainings(MNIST, pool, info, [training], _measure, **runs)
    trained = (tmp_path / "only" / "model.keras").stat().st_mtime_ns

    (_, again), *_ = run_trainings(MNIST, pool, info, [training], _measure, **runs)

    assert again == first
    assert (tmp_path / "only" / "model.keras").stat().st_mtime_ns == trained
