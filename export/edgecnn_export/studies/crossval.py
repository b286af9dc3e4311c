"""Cross-validation: how good is a way of training on pictures that it has never seen, with every picture held out once.

Of each division into folds, every fold is in turn the test: nothing is trained on it and no epoch is chosen by it. A tenth
of the rest serves for that choice, as the validation split does in a training of its own. With the rule `grouped` pictures
that overlap stay together; with `random` they are dealt out by class alone, as most published figures are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits, concatenate
from edgecnn.datasets.overlap_cache import numbered
from edgecnn.datasets.split import random_split, split_groups, undivided
from edgecnn.errors import InputError
from edgecnn.files import write_json
from edgecnn.metrics import wilson_interval
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.runtimes.runtime import run_all
from edgecnn.tasks import Task
from edgecnn_export.exporter import export
from edgecnn_export.reference import Reference
from edgecnn_export.studies.trainings import Training, run_trainings
from edgecnn_export.training.balancing import few_of_each
from edgecnn_export.training.recipes import find_recipe, require_teachable, taught

Rule = Literal["grouped", "random"]
Parts = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # to train on, to choose the epoch on, held out
PRECISIONS = ("float32", "int8")
CHOOSING = 0.1  # of the pictures outside a fold serve to choose the epoch
RESAMPLES = 2000
_CHUNK_ROWS = 100


@dataclass(frozen=True)
class Figure:
    """One accuracy: `correct` of `count` pictures, each held out once, and its 95 % interval.

    `macro_recall` is the mean over classes of the share recognised, `macro_interval` its interval over groups of pictures.
    """

    rule: Rule
    seed: int
    precision: str
    correct: int
    count: int
    accuracy: float
    interval: tuple[float, float]
    folds: tuple[float, ...]
    macro_recall: float
    macro_interval: tuple[float, float]


@dataclass(frozen=True)
class Summary:
    """The mean over all seeds of one rule and precision, its interval over groups of pictures, its spread over seeds."""

    rule: Rule
    precision: str
    accuracy: float
    interval: tuple[float, float]
    seeds: int
    deviation: float | None
    macro_recall: float
    macro_interval: tuple[float, float]


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation found; `mistakes` names the pictures that the int8 files got wrong, with how often."""

    figures: tuple[Figure, ...]
    summaries: tuple[Summary, ...]
    mistakes: dict[str, int]
    settings: dict[str, Any]


def cross_validate(
    task: Task,
    splits: Splits,
    *,
    out: Path,
    model: str = "compact",
    teacher: bool = False,
    rules: Sequence[Rule] = ("grouped", "random"),
    folds: int = 5,
    seeds: Sequence[int] = (0,),
    epochs: int | None = None,
    per_class: int | None = None,
    with_test: bool = False,
    jobs: int = 1,
    scheduler: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> CrossValidation:
    """Train and export once per fold, rule and seed; write `crossval.json` and one folder per training below `out`.

    The pool is train and validation; the test split stays untouched, unless `with_test` takes it into the pool, after which it
    proves nothing any more. With a `teacher` each compact learns from a `lite` that is trained on the same pictures. With
    `per_class` each training has only so many pictures of each class to learn from, and is held to all of its fold. Trainings
    that are complete are not repeated, so an interrupted cross-validation goes on by the same call. Raises InputError for fewer
    than 3 folds, no seeds and pictures that suit no teacher, DatasetError when a class has too few groups, and what `train` and
    `export` raise.
    """
    if folds < 3 or not seeds or not rules:
        raise InputError(
            f"a cross-validation needs at least 3 folds, a seed and a rule, got {folds} folds, seeds {list(seeds)}"
        )
    pool = concatenate([splits.train, splits.validation, *([splits.test] if with_test else [])])
    groups = [] if pool.groups is None else numbered(pool.groups).tolist()
    settings = {"task": task.name, "model": model, "folds": folds, "epochs": epochs, "pictures": pool.digest()}
    settings["groups"] = hashlib.sha256(repr(groups).encode()).hexdigest()
    recipe = None
    if teacher:
        require_teachable(task)
        recipe, settings["teacher"] = taught(find_recipe(model, task), task), "lite"
    divided = {(rule, seed): divide(pool, task, rule, folds, seed) for rule in rules for seed in seeds}
    if per_class is not None:
        settings["per_class"] = per_class
        divided = {key: [with_few(parts, pool, per_class, key[1]) for parts in folded] for key, folded in divided.items()}
    # Fold by fold instead of seed by seed: an early look shows both rules.
    trainings = [
        Training(_name(rule, seed, fold), parts[fold], model, seed, epochs, recipe)
        for seed in seeds
        for fold in range(folds)
        for (rule, own), parts in divided.items()
        if own == seed
    ]
    info = SplitInfo(splits.info.source, f"{folds} folds, {CHOOSING:.0%} of the rest to choose the epoch", None)
    right: dict[str, dict[str, list[bool]]] = {}
    for done, (training, result) in enumerate(
        run_trainings(task, pool, info, trainings, _measure, out=out, settings=settings, jobs=jobs, scheduler=scheduler),
        start=1,
    ):
        right[training.name] = result["right"]
        hits = {precision: sum(result["right"][precision]) for precision in PRECISIONS}
        count = len(training.parts[2])
        progress(f"{done} of {len(trainings)} done: {training.name} float {hits['float32']}, int8 {hits['int8']} of {count}")
    found = _collect(pool, divided, right, settings | {"seeds": list(seeds), "rules": list(rules)})
    write_json(out / "crossval.json", to_json(found))
    return found


def divide(pool: Dataset, task: Task, rule: Rule, folds: int, seed: int) -> list[Parts]:
    """Return of each fold the indices to train on, to choose the epoch on, and the fold itself.

    A class whose pictures are all one group is trained on in every fold, and held out in none.
    """
    shares = (1 / folds,) * folds
    groups = np.arange(len(pool)) if rule == "random" or pool.groups is None else pool.groups
    alone = np.isin(pool.class_ids, undivided(pool.class_ids, groups, len(task.labels)))
    always = np.flatnonzero(np.isin(groups, groups[alone]))
    if rule == "random":
        parts = random_split(pool.class_ids, seed=seed, shares=shares)
    else:
        parts = split_groups(pool.class_ids, groups, task.labels, seed=seed, shares=shares)
    divided = []
    for held_out in parts:
        part = np.setdiff1d(held_out, always)
        rest = np.setdiff1d(np.arange(len(pool)), part)
        inner = split_groups(pool.class_ids[rest], groups[rest], task.labels, seed=seed, shares=(1 - CHOOSING, CHOOSING))
        divided.append((rest[inner[0]], rest[inner[1]], part))
    return divided


def with_few(parts: Parts, pool: Dataset, per_class: int, seed: int) -> Parts:
    """Return the parts of a fold with only `per_class` pictures of each class to train on."""
    train, choosing, held_out = parts
    return train[few_of_each(pool.class_ids[train], per_class, seed)], choosing, held_out


def _name(rule: Rule, seed: int, fold: int) -> str:
    return f"{rule}-seed{seed}-fold{fold}"


def _measure(reference: Reference, splits: Splits, folder: Path) -> dict[str, Any]:
    """Return for each picture of the fold whether the float model and its int8 file name it correctly."""
    exported = export(reference, out=folder / "export", formats=["tflite"], int8=True).files[-1]
    runtimes = {"float32": reference.runtime(), "int8": open_runtime(Artifact.open(exported.path))}
    return {"right": {precision: _right(runtime, splits.test) for precision, runtime in runtimes.items()}}


def _right(runtime: Runtime, dataset: Dataset) -> list[bool]:
    return [bool(right) for right in run_all(runtime, dataset.images).argmax(axis=1) == dataset.class_ids]


def _collect(pool: Dataset, divided: dict[Any, Any], right: dict[str, Any], settings: dict[str, Any]) -> CrossValidation:
    figures, summaries = [], []
    mistakes = np.zeros(len(pool), np.int64)
    for rule in settings["rules"]:
        tested = np.unique(np.concatenate([test for _, _, test in divided[rule, settings["seeds"][0]]]))
        ids, groups = pool.class_ids[tested], None if pool.groups is None else pool.groups[tested]
        for precision in PRECISIONS:
            hits = np.zeros((len(settings["seeds"]), len(pool)), bool)
            for row, seed in enumerate(settings["seeds"]):
                folds = divided[rule, seed]
                for fold, (_, _, test) in enumerate(folds):
                    hits[row, test] = right[_name(rule, seed, fold)][precision]
                shares = tuple(float(hits[row, test].mean()) for _, _, test in folds)
                own, correct = hits[row : row + 1, tested], int(hits[row].sum())
                interval, macro = _interval(own, groups), _macro_recall(own, ids, groups)
                figures.append(
                    Figure(rule, seed, precision, correct, len(tested), correct / len(tested), interval, shares, *macro)
                )
            summaries.append(_summarise(rule, precision, hits[:, tested], ids, groups))
            if precision == "int8":
                mistakes[tested] += (~hits[:, tested]).sum(axis=0)
    named = {pool.names[i]: int(mistakes[i]) for i in np.argsort(-mistakes, kind="stable") if mistakes[i]}
    return CrossValidation(tuple(figures), tuple(summaries), named, settings)


def _summarise(
    rule: Rule, precision: str, hits: NDArray[np.bool_], class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> Summary:
    by_seed = [float(row.mean()) for row in hits]
    deviation = statistics.stdev(by_seed) if len(by_seed) > 1 else None
    macro = _macro_recall(hits, class_ids, groups)
    return Summary(rule, precision, statistics.fmean(by_seed), _interval(hits, groups), len(by_seed), deviation, *macro)


def _interval(hits: NDArray[np.bool_], groups: NDArray[np.int64] | None) -> tuple[float, float]:
    """Return a 95 % interval of the mean of `hits` `(seeds, n)`: the wider end each of Wilson's and of a group bootstrap.

    Seeds see the same pictures and add none. The bootstrap draws whole groups (Efron and Tibshirani, 1993, ch. 13), since
    overlapping pictures err together; without any mistake it has no width, which Wilson's has.
    """
    share = hits.mean(axis=0)
    low, high = wilson_interval(round(float(share.sum())), len(share))
    _, ids = np.unique(np.arange(len(share)) if groups is None else groups, return_inverse=True)
    sums, sizes = np.bincount(ids, weights=share), np.bincount(ids).astype(np.float64)
    means = [sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1) for chosen in _resampled(len(sums))]
    bounds = np.quantile(np.concatenate(means), (0.025, 0.975))
    return min(low, float(bounds[0])), max(high, float(bounds[1]))


def _macro_recall(
    hits: NDArray[np.bool_], class_ids: NDArray[np.int64], groups: NDArray[np.int64] | None
) -> tuple[float, tuple[float, float]]:
    """Return the mean over classes of the share of `hits` `(seeds, n)`, and its 95 % interval by a bootstrap over groups."""
    share = hits.mean(axis=0)
    classes, ids = np.unique(class_ids, return_inverse=True)
    _, groups = np.unique(np.arange(len(share)) if groups is None else groups, return_inverse=True)
    cells = groups.reshape(-1) * len(classes) + ids.reshape(-1)
    count = (int(groups.max()) + 1) * len(classes)
    sums = np.bincount(cells, weights=share, minlength=count).reshape(-1, len(classes))
    sizes = np.bincount(cells, minlength=count).reshape(-1, len(classes)).astype(np.float64)
    means = []
    for chosen in _resampled(len(sums)):
        drawn, of = sums[chosen].sum(axis=1), sizes[chosen].sum(axis=1)
        means.append(np.nanmean(np.where(of > 0, drawn / np.maximum(of, 1), np.nan), axis=1))  # a class may not be drawn
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return float((sums.sum(axis=0) / sizes.sum(axis=0)).mean()), (float(low), float(high))


def _resampled(groups: int) -> Iterator[NDArray[np.int64]]:
    """Yield draws of groups `(rows, groups)`, RESAMPLES rows in all."""
    random = np.random.default_rng(0)
    for _ in range(math.ceil(RESAMPLES / _CHUNK_ROWS)):
        yield random.integers(groups, size=(_CHUNK_ROWS, groups))


def to_json(found: CrossValidation) -> dict[str, Any]:
    """Return what was found with plain values."""
    return dataclasses.asdict(found)


def format_table(found: CrossValidation) -> str:
    """Return the figures as a Markdown table, one row a rule, precision and seed, and their means."""
    lines = [
        "| folds | model | seed | right | accuracy | 95 % interval | mean recall of the classes | single folds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for figure in found.figures:
        folds = " ".join(f"{share:.4f}" for share in figure.folds)
        right = f"{figure.correct} of {figure.count}"
        lines.append(
            f"| {figure.rule} | {figure.precision} | {figure.seed} | {right} | {figure.accuracy:.4f} "
            f"| {figure.interval[0]:.4f} to {figure.interval[1]:.4f} | {_macro_text(figure)} | {folds} |"
        )
    for mean in (each for each in found.summaries if each.seeds > 1):
        lines.append(
            f"| {mean.rule} | {mean.precision} | mean of {mean.seeds} | | {mean.accuracy:.4f} "
            f"| {mean.interval[0]:.4f} to {mean.interval[1]:.4f} | {_macro_text(mean)} | deviation {mean.deviation:.4f} |"
        )
    return "\n".join(lines)


def _macro_text(found: Figure | Summary) -> str:
    return f"{found.macro_recall:.4f} ({found.macro_interval[0]:.4f} to {found.macro_interval[1]:.4f})"
