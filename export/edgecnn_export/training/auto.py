"""Choosing the network: train a pretrained one and a small one taught by it, measure both as int8, and take one."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.datasets import split_table
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import InputError
from edgecnn.files import read_bytes, replacing, write_json
from edgecnn.metrics import wilson_interval
from edgecnn.progress import report
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.runtimes.runtime import run_all
from edgecnn.tasks import Task
from edgecnn_export.evidence import give_evidence
from edgecnn_export.exporter import export
from edgecnn_export.models import open_reference
from edgecnn_export.networks import build
from edgecnn_export.parity.statistics import paired_bound
from edgecnn_export.reference import MODEL_FILE
from edgecnn_export.repair.ladder import pictures_to_time, time_side_by_side
from edgecnn_export.run_folder import CURVES, RUN_FILE, SHEET, STUDENT, TEACHER, RunFolders, is_complete
from edgecnn_export.training.budget import Budget
from edgecnn_export.training.recipes import NOT_FOR_LITE, can_be_taught, find_recipe, taught
from edgecnn_export.training.session import TrainingRun, versions
from edgecnn_export.training.trainer import train, with_overrides

CONFIDENCE = 0.975  # of each side of the interval of a difference
WORTH = 0.02  # of the validation pictures: what the larger network has to gain where so few pictures prove nothing


@dataclass(frozen=True)
class Limits:
    """What the board allows: milliseconds per picture, measured here, and kB of the int8 file; None is no limit."""

    budget_ms: float | None = None
    max_kb: float | None = None

    def admit(self, candidate: Candidate) -> bool:
        """Tell whether a candidate keeps both."""
        return not (
            (self.budget_ms is not None and candidate.latency_ms > self.budget_ms)
            or (self.max_kb is not None and candidate.size_kb > self.max_kb)
        )

    def __str__(self) -> str:
        stated = (("--budget-ms", self.budget_ms), ("--max-kb", self.max_kb))
        return " and ".join(f"{name} {value:g}" for name, value in stated if value is not None)


@dataclass(frozen=True)
class Candidate:
    """One network as its int8 file: right answers of `count` validation pictures, kB, and ms per picture on this machine.

    `multiplications` of one picture are counted in the layers; what they cost on a board is measured there, by `edgecnn bench`.
    """

    network: str
    correct: int
    count: int
    interval: tuple[float, float]
    size_kb: float
    latency_ms: float
    multiplications: int

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.network}: {self.correct / self.count:.1%} of {self.count} validation pictures as int8 ({low:.1%} to "
            f"{high:.1%}), {self.size_kb:.0f} kB, {self.latency_ms:.2f} ms here, "
            f"{self.multiplications / 1e6:.0f} million multiplications"
        )


@dataclass(frozen=True)
class Choice:
    """Which network is shipped, why, and what was measured of each."""

    network: str
    reason: str
    candidates: tuple[Candidate, ...]


def train_auto(
    task: Task,
    splits: Splits,
    *,
    out: Path,
    limits: Limits = Limits(),  # frozen
    minutes: float | None = None,
    resume: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.monotonic,
    **options: Any,
) -> tuple[TrainingRun, Choice | None]:
    """Train `compact` taught by `lite`, measure both, and leave the better choice in `out` as `train` would.

    What each of them left stands below it, in `lite` and `compact`. The rule: of those that keep the limits the
    smaller one, unless the larger names so many more validation pictures rightly that the 95 % interval of the difference lies
    above 0, or more than WORTH of them: ten pictures prove nothing, and a network at chance is no use however small.

    Digits and pictures below 32 pixels a side are for `compact` alone, which is trained in `out` itself and has no choice.
    `options` are those of `train`, which says what it raises; InputError when no network keeps the limits, before the training
    where that is certain. Both runs then stay, and the same call with other limits trains nothing again.
    """
    if not can_be_taught(task):
        progress(f"auto trains compact alone: {NOT_FOR_LITE}")
        return train(task, splits, out=out, minutes=minutes, resume=resume, progress=progress, clock=clock, **options), None
    _check_size(task, limits)
    RunFolders.of(out, "auto", teacher=True).check(resume=resume)
    lite, compact = out / TEACHER, out / STUDENT
    trained = _left(out, splits, {"minutes": minutes, **options})
    if trained is not None:
        progress(f"both networks lie in {out} already, from an earlier training by the same options")
    else:
        trained = train(
            task, splits, out=compact, teacher=True, teacher_folder=lite, minutes=minutes, resume=resume, progress=progress,
            clock=clock, **options,
        )  # fmt: skip
    if trained.interrupted:
        return trained, None
    progress("measuring both networks as int8; after Ctrl-C the same command goes on from here")
    runs = {"lite": _reopened(lite), "compact": trained}
    choice = _choose(_measure(runs, splits), limits, splits.validation)
    return _take(runs[choice.network], out, {"choice": dataclasses.asdict(choice)}), choice


def _check_size(task: Task, limits: Limits) -> None:
    """Raise InputError for a size that the weights of the smaller network exceed by themselves, a byte each."""
    if limits.max_kb is None:
        return
    least = build("compact", task).count_params() / 1000
    if least > limits.max_kb:
        raise InputError(f"no network keeps --max-kb {limits.max_kb:g}: the weights of compact alone are {least:.0f} kB")


def _left(out: Path, splits: Splits, options: dict[str, Any]) -> TrainingRun | None:
    """Return the complete `compact` of the same call, of which no network kept the limits: `out` itself then has no model."""
    compact, lite = out / STUDENT, out / TEACHER
    if (out / MODEL_FILE).exists() or not (is_complete(compact) and is_complete(lite)):
        return None
    run = _reopened(compact)
    epochs, minutes = options.get("epochs"), options.get("minutes")
    recipe = options.get("recipe") or taught(find_recipe("compact", run.reference.task), run.reference.task)
    budget = Budget.of(minutes, epochs, None, time.monotonic)
    recipe = budget.fitted(with_overrides(recipe, epochs, options.get("batch_size")))
    wanted = {
        "model": "compact",
        "seed": options.get("seed", 0),
        "training_pictures": splits.train.digest(),
        "minutes": minutes,
        "recipe_digest": recipe.digest(),
        "versions": versions(),
    }
    return run if all(run.record.get(name) == value for name, value in wanted.items()) else None


@dataclass(frozen=True, eq=False)
class _Measured:
    candidate: Candidate
    right: NDArray[np.bool_]  # (n,), of the validation pictures


def _measure(runs: Mapping[str, TrainingRun], splits: Splits) -> list[_Measured]:
    """Export each network to int8, and measure its file: size, right answers, and time side by side with the others."""
    with tempfile.TemporaryDirectory() as folder:
        sizes, runtimes = dict[str, int](), dict[str, Runtime]()
        for done, (name, run) in enumerate(runs.items()):
            report("exporting to int8", done, len(runs))
            path = export(run.reference, out=Path(folder) / name, formats=["tflite"], int8=True).files[-1].path
            # With its thresholds, as a user's export will have it: they count for --max-kb.
            (artifact,), _ = give_evidence([Artifact.open(path)], run.reference.task, splits)
            artifact.save(path)
            sizes[name], runtimes[name] = path.stat().st_size, open_runtime(artifact)
        report("exporting to int8", len(runs), len(runs))
        latencies = time_side_by_side(runtimes, pictures_to_time(splits.validation))
        measured = []
        for name, run in runs.items():
            right = run_all(runtimes[name], splits.validation.images).argmax(axis=1) == splits.validation.class_ids
            correct, count = int(right.sum()), len(right)
            interval = wilson_interval(correct, count)
            counted = multiplications(run.reference.model)
            measured.append(
                _Measured(
                    Candidate(name, correct, count, interval, sizes[name] / 1000, latencies[name], counted), np.asarray(right)
                )
            )
    return measured


def _choose(measured: Sequence[_Measured], limits: Limits, validation: Dataset) -> Choice:
    """Apply the rule of `train_auto`; InputError when no network keeps the limits."""
    candidates = tuple(each.candidate for each in measured)
    fitting = sorted((each for each in measured if limits.admit(each.candidate)), key=lambda each: each.candidate.size_kb)
    if not fitting:
        reached = "; ".join(f"{each.network} {each.latency_ms:.2f} ms and {each.size_kb:.0f} kB" for each in candidates)
        raise InputError(f"no network keeps {limits}: {reached}; raise the limit (both runs stay, and are not trained again)")
    if len(fitting) == 1:
        return Choice(fitting[0].candidate.network, f"the only one that keeps {limits}", candidates)
    small, large = fitting
    gain = float(large.right.mean() - small.right.mean())
    # The gain is a drop from large to small: its least likely value is minus the bound of the drop the other way round.
    least = -paired_bound(small.right, large.right, validation.groups, CONFIDENCE, seed=0)[0]
    most = paired_bound(large.right, small.right, validation.groups, CONFIDENCE, seed=0)[0]
    more = large.candidate.correct - small.candidate.correct
    said = (
        f"{large.candidate.network} names {abs(more)} {'fewer' if more < 0 else 'more'} of {len(validation)} pictures "
        f"correctly, {100 * gain:+.1f} points (95 % interval {100 * least:+.1f} to {100 * most:+.1f})"
    )
    if least > 0:
        return Choice(large.candidate.network, f"the larger one, since {said}", candidates)
    if gain > WORTH:
        return Choice(large.candidate.network, f"the larger one, since {said}; too few pictures to prove it", candidates)
    return Choice(small.candidate.network, f"the smaller one, since {said}: no proven gain", candidates)


def multiplications(model: keras.Model) -> int:
    """Count the multiplications of convolutions and dense layers for one picture."""
    return sum(_of_layer(layer) for layer in model.layers)


def _of_layer(layer: keras.Layer) -> int:
    if isinstance(layer, keras.layers.Dense):
        return int(np.prod(layer.kernel.shape))
    if not isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        return 0
    height, width = layer.output.shape[1:3]
    return int(height * width * np.prod(layer.kernel.shape))


def _reopened(folder: Path) -> TrainingRun:
    """Return a run that is complete from its folder."""
    reference = open_reference(str(folder / MODEL_FILE))
    record = json.loads(read_bytes(folder / RUN_FILE))
    validation = record["validation"]
    return TrainingRun(folder, reference, record, validation["correct"], validation["count"], record["interrupted"])


def _take(run: TrainingRun, out: Path, more: dict[str, Any]) -> TrainingRun:
    """Copy the files of a run below `out` into it, with `more` in its record."""
    record = run.record | more
    for name in (CURVES, SHEET, split_table.FILE_NAME):
        if (run.folder / name).exists():
            _copy(run.folder / name, out / name)
        else:
            (out / name).unlink(missing_ok=True)  # of a training that was here before
    _copy(run.folder / MODEL_FILE, out / MODEL_FILE)
    write_json(out / RUN_FILE, record)
    return dataclasses.replace(run, folder=out, record=record)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as beside:
        shutil.copyfile(source, beside)
