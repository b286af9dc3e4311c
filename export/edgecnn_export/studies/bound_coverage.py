"""How often the bounds of a drop hold: a simulation on real pictures, for docs/explanation/parity.md.

    python -m edgecnn_export.studies.bound_coverage docs/explanation/parity.md neu mnist runs/my-parts

For each model int8 files of several qualities are made: as exported, with activation ranges cut to a share of what they are,
and with weights of fewer bits. All held-back pictures together (validation and test) stand for the world: there the true drop
of a file is known. Then small sets are drawn from them again and again, as a user would have them, whole groups at a time, and
each bound is asked for the drop. It covers when it is not below the true one. Unlabelled pictures are the training split under
camera corruptions, as in an export.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, concatenate
from edgecnn.errors import EdgecnnError, InputError
from edgecnn.files import read_bytes, write_bytes
from edgecnn.robustness.corruptions import corruptions_for
from edgecnn.runtimes.runtime import run_all
from edgecnn.runtimes.select import open_tflite
from edgecnn_export.calibration_data import find_calibration
from edgecnn_export.conversion.calibration import Calibration
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.tflite import to_int8_tflite
from edgecnn_export.models import open_model
from edgecnn_export.parity.corrupted import variants
from edgecnn_export.parity.margins import Flips, margin_bound
from edgecnn_export.parity.statistics import paired_bound

COUNTS = (50, 135, 300)
REPEATS = 1000
SEED = 0
MAX_DROP = 0.01
WORST = 0.2  # a file that loses more needs no bound
_RANGES, _BITS = (1.0, 0.7, 0.5, 0.4), (6, 5)
_MOST = 15_000
_BLOCK = re.compile(r"(<!-- table: coverage -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Coverage:
    """One file on samples of `count` pictures: the true drop and, of both bounds, how often they hold and prove 1 point.

    All are shares. `labelled` is the bound by labelled pictures alone, `both` the sharper of it and that by margins.
    """

    model: str
    file: str
    drop: float
    count: int
    labelled_holds: float
    margins_holds: float
    both_holds: float
    labelled_passes: float
    both_passes: float


@dataclass(frozen=True, eq=False)
class World:
    """The held-back pictures of a model with what it answers, and unlabelled pictures."""

    dataset: Dataset
    reference: NDArray[np.float32]
    unlabelled: NDArray[np.uint8]
    reference_unlabelled: NDArray[np.float32]


def measure(source: str, *, repeats: int = REPEATS, seed: int = SEED) -> Iterator[Coverage]:
    """Measure both bounds for int8 files of a model: a task's name or the folder of a run."""
    model = open_model(source, of_task="keras")
    assert model.reference is not None
    splits = model.splits(None, seed)
    held = concatenate([splits.validation, splits.test])
    held = held.take(np.arange(min(len(held), _MOST)))
    unlabelled = variants(splits.train, corruptions_for(model.task), seed)
    world = World(held, run_all(model.runtime, held.images), unlabelled, run_all(model.runtime, unlabelled))
    folded = fold(model.reference.model)
    calibration, _ = find_calibration(model.reference, folded, splits, seed)
    for name, file in _files(folded, calibration):
        runtime = open_tflite(file)
        answers = run_all(runtime, held.images), run_all(runtime, unlabelled)
        yield from _simulate(f"{Path(source).name}", name, world, *answers, repeats, seed)


def _files(folded: Folded, calibration: Calibration) -> Iterator[tuple[str, bytes]]:
    for factor in _RANGES:
        ranges = {name: (low * factor, high * factor) for name, (low, high) in calibration.ranges.items()}
        yield "int8" if factor == 1 else f"ranges x {factor:g}", to_int8_tflite(folded, ranges)
    for bits in _BITS:
        coarse = folded.copy()
        coarse.model.set_weights([_coarse(weights, bits) for weights in folded.model.get_weights()])
        yield f"{bits}-bit weights", to_int8_tflite(coarse, calibration.ranges)


def _coarse(weights: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    if weights.ndim < 2:
        return weights
    step = np.abs(weights).max(axis=tuple(range(weights.ndim - 1)), keepdims=True) / (2 ** (bits - 1) - 1)
    return np.asarray(np.round(weights / np.maximum(step, 1e-30)) * step, np.float32)


def _simulate(
    model: str,
    file: str,
    world: World,
    candidate: NDArray[np.float32],
    candidate_unlabelled: NDArray[np.float32],
    repeats: int,
    seed: int,
) -> Iterator[Coverage]:
    truth = world.dataset.class_ids
    before, after = world.reference.argmax(axis=1) == truth, candidate.argmax(axis=1) == truth
    drop = float(before.mean() - after.mean())
    if drop > WORST:
        return
    flips = Flips.between(world.reference_unlabelled, candidate_unlabelled)
    groups = np.arange(len(truth)) if world.dataset.groups is None else world.dataset.groups
    random = np.random.default_rng(seed)
    for count in COUNTS:
        if 2 * count > len(truth):
            continue  # nearly all of the world: every sample would be the same one
        bounds = np.empty((repeats, 2))
        for i in range(repeats):
            drawn = _draw(groups, count, random)
            own = None if world.dataset.groups is None else groups[drawn]
            bounds[i, 0] = paired_bound(before[drawn], after[drawn], own, 0.95, i)[0]
            bounds[i, 1] = margin_bound(flips, world.reference[drawn], before[drawn], own, seed=i)
        both = bounds.min(axis=1)
        labelled, margins = bounds.T
        yield Coverage(
            model, file, drop, count,
            float((labelled >= drop).mean()), float((margins >= drop).mean()), float((both >= drop).mean()),
            float((labelled <= MAX_DROP).mean()), float((both <= MAX_DROP).mean()),
        )  # fmt: skip


def _draw(groups: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw whole groups until there are at least `count` pictures."""
    order = random.permutation(np.unique(groups))
    place = np.argsort(order)[np.searchsorted(np.sort(order), groups)]
    sizes = np.bincount(place)
    wanted = int(np.searchsorted(np.cumsum(sizes), count)) + 1
    return np.flatnonzero(place < wanted)


def table(rows: list[Coverage]) -> str:
    """Return the rows as a Markdown table, shares in percent."""
    head = (
        "| model | file | true drop (points) | pictures | labelled alone holds | margins hold | the sharper holds | "
        "labelled alone proves 1 point | the sharper proves it |\n|---|---|---|---|---|---|---|---|---|"
    )
    lines = [
        f"| {row.model} | {row.file} | {100 * row.drop:+.2f} | {row.count} | {100 * row.labelled_holds:.1f} | "
        f"{100 * row.margins_holds:.1f} | {100 * row.both_holds:.1f} | {100 * row.labelled_passes:.0f} | "
        f"{100 * row.both_passes:.0f} |"
        for row in rows
    ]
    return "\n".join([head, *lines])


def main(arguments: list[str]) -> None:
    """Measure the models named behind the page and write the table into it."""
    if len(arguments) < 2:
        raise InputError("usage: python -m edgecnn_export.studies.bound_coverage PAGE MODEL...")
    page, sources = Path(arguments[0]), arguments[1:]
    rows: list[Coverage] = []
    for source in sources:
        for row in measure(source):
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    text = read_bytes(page).decode()
    if not _BLOCK.search(text):
        raise InputError(f"{page} has no place for the table: <!-- table: coverage --> ... <!-- end -->")
    write_bytes(page, _BLOCK.sub(lambda match: f"{match[1]}\n{table(rows)}\n\n{match[2]}", text).encode())


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EdgecnnError as problem:
        sys.exit(f"bound_coverage: {problem}")
