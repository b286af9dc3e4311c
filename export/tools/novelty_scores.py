"""Compares scores of novelty on the features of a shipped int8 file: the table by which that of `edgecnn` was chosen.

    python -m export.tools.novelty_scores neu mnist --seed 77

All are fitted to the same training pictures and outliers, and measured on held-out pictures, as they are and under all camera
corruptions, against out-of-distribution pictures that are drawn by --seed: other ones than `edgecnn export` chooses
thresholds on and `edgecnn rejection` measures with, which draw by 0. Needs the real data. Formulas: energy, Liu et al.,
arXiv:2010.03759; Mahalanobis distance, Lee et al., arXiv:1807.03888, and relative to all classes, Ren et al., arXiv:2106.09022;
nearest neighbours, Sun et al., arXiv:2204.06507; residual, Wang et al., ViM, arXiv:2203.10807.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click
import numpy as np
from numpy.typing import NDArray

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.datasets.load import load_splits
from edgecnn.errors import EdgecnnError
from edgecnn.metrics import auroc
from edgecnn.rejection.contrast import fit_contrast
from edgecnn.rejection.evidence import Findings, best_temperature, k_means, run_with_features, softplus, temper
from edgecnn.rejection.measure import PER_KIND
from edgecnn.rejection.threshold import draw_ood, draw_outliers
from edgecnn.robustness.corruptions import corrupt, corruptions_for
from edgecnn.robustness.measure import choose_pictures
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.runtimes.head import HeadRuntime, as_compared, distances, unit
from edgecnn_export.evidence import OUTLIERS, TRAIN_PICTURES

Floats = NDArray[np.float64]
Score = Callable[[Findings], Floats]  # (n,), higher is more novel
_CORRUPTED, _SHRUNK, _MAIN_AXES = 500, 0.1, 16
_FALSE_ACCEPTS = 0.05


@dataclass(frozen=True, eq=False)
class Known:
    """What scores are fitted to: findings of training pictures with their classes `(n,)`, and those of outliers."""

    train: Findings
    class_ids: NDArray[np.int64]
    outliers: Findings

    def units(self, root: int) -> Floats:
        """Return the training pictures' features as they are compared, `(n, channels)`."""
        return unit(as_compared(self.train.pooled, root))


def of_answers(runtime: HeadRuntime, temperature: float) -> dict[str, Score]:
    """Return scores of what the last layer says."""
    weights, bias = runtime.weights, np.array(runtime._bias)

    def scores(found: Findings) -> Floats:
        return np.asarray(found.pooled @ weights + bias)

    return {
        "highest probability": lambda found: -temper(found.probabilities, temperature).max(axis=1).astype(np.float64),
        "highest score": lambda found: -scores(found).max(axis=1),
        "energy": lambda found: -np.logaddexp.reduce(scores(found), axis=1),
    }


def of_distances(known: Known, root: int) -> dict[str, Score]:
    """Return scores of distances between features, or between their roots."""
    units, name = known.units(root), {1: "features", 2: "square roots", 4: "fourth roots"}[root]
    found: dict[str, Score] = {}
    for count in (1, 8, 16, 32):
        found[f"{name}, {count} centres"] = nearest(centres(units, known.class_ids, count), root, 1)
    for rank in (1, 10):
        found[f"{name}, neighbour {rank}"] = nearest(units, root, rank)
    middle = units.mean(axis=0)
    means = np.stack([units[known.class_ids == each].mean(axis=0) for each in np.unique(known.class_ids)])
    within = units - means[np.searchsorted(np.unique(known.class_ids), known.class_ids)]
    own, every = shrunk(within), shrunk(units - middle)
    rest = np.linalg.eigh(np.cov(units.T))[1][:, :-_MAIN_AXES]

    def mahalanobis(points: Floats, middles: Floats, whitening: Floats) -> Floats:
        return np.asarray((((points[:, None] - middles) @ whitening) ** 2).sum(axis=2).min(axis=1))

    def form(findings: Findings) -> Floats:
        return unit(as_compared(findings.pooled, root))

    found[f"{name}, Mahalanobis"] = lambda each: mahalanobis(form(each), means, own)
    found[f"{name}, relative Mahalanobis"] = lambda each: (
        mahalanobis(form(each), means, own) - mahalanobis(form(each), middle[None], every)
    )
    found[f"{name}, residual"] = lambda each: np.linalg.norm((form(each) - middle) @ rest, axis=1)
    return found


def with_contrast(known: Known, root: int, base: Score) -> Score:
    """Return a score plus twice how like outliers a picture is, in units of the score's deviation among training pictures."""
    units = known.units(root)
    *direction, constant = fit_contrast(units, unit(as_compared(known.outliers.pooled, root)))
    weight = 2 * float(base(known.train).std() / (units @ direction).std())
    return lambda each: base(each) + weight * softplus(unit(as_compared(each.pooled, root)) @ direction + constant)


def nearest(points: Floats, root: int, rank: int) -> Score:
    """Return the distance to the nearest of `points` `(m, channels)`, or to another by its rank."""
    return lambda each: np.partition(distances(as_compared(each.pooled, root), points), rank - 1, axis=1)[:, rank - 1]


def centres(units: Floats, class_ids: NDArray[np.int64], count: int) -> Floats:
    """Return up to `count` centres of each class, `(m, channels)`."""
    own = [k_means(units[class_ids == each], count, np.random.default_rng((0, int(each)))) for each in np.unique(class_ids)]
    return np.concatenate(own)


def shrunk(deviations: Floats) -> Floats:
    """Return what whitens deviations `(n, channels)`, whose covariance is shrunk towards a ball."""
    covariance = np.cov(deviations.T)
    ball = np.eye(len(covariance)) * np.trace(covariance) / len(covariance)
    return np.linalg.cholesky(np.linalg.inv((1 - _SHRUNK) * covariance + _SHRUNK * ball))


def line(name: str, score: Score, true: Findings, corrupted: Mapping[str, Findings], ood: Mapping[str, Findings]) -> str:
    """Return a row: AUROC, that of the hardest kind, and what is kept at 5 % false accepts, clean and corrupted."""
    own, theirs = score(true), {kind: score(each) for kind, each in ood.items()}
    every = np.concatenate(list(theirs.values()))
    threshold = np.quantile(every, _FALSE_ACCEPTS)
    areas = {kind: auroc(-own, -each) for kind, each in theirs.items()}
    hardest = min(areas, key=lambda kind: areas[kind])
    kept = 100 * float(np.mean([(score(each) < threshold).mean() for each in corrupted.values()]))
    cells = [
        f"{auroc(-own, -every):.4f}",
        f"{areas[hardest]:.3f} {hardest}",
        f"{100 * (own < threshold).mean():.1f}",
        f"{kept:.1f}",
    ]
    return f"| {' | '.join([name, *cells])} |"


def compare(task_name: str, seed: int) -> None:
    """Print the table of a task's shipped int8 file."""
    task = shipped.find_task(task_name)
    splits = load_splits(task, None, 0)
    runtime: Runtime = open_runtime(Artifact.open(shipped.int8_path(task_name)))
    if splits.info.synthetic or not isinstance(runtime, HeadRuntime):
        raise EdgecnnError(f"{task_name} lacks real pictures or features")
    train = choose_pictures(splits.train, TRAIN_PICTURES, 0)
    held_out, few = choose_pictures(splits.validation, TRAIN_PICTURES, 0), choose_pictures(splits.validation, _CORRUPTED, 0)

    def run(images: NDArray[np.uint8]) -> Findings:
        return run_with_features(runtime, images)

    known = Known(run(train.images), train.class_ids, run(draw_outliers(task, OUTLIERS, 0)))
    true, ood = run(held_out.images), {kind: run(each) for kind, each in draw_ood(task, PER_KIND, seed).items()}
    corrupted = {each.name: run(corrupt(few.images, each, 3, 0)) for each in corruptions_for(task)}
    scores = of_answers(runtime, best_temperature(true.probabilities, held_out.class_ids))
    for root in (1, 2, 4):
        scores |= (own := of_distances(known, root))
        for name in (each for each in own if each.endswith("centres")):
            scores[f"{name}, contrast"] = with_contrast(known, root, own[name])
    click.echo(f"{task_name}: {len(held_out)} held-out pictures, {PER_KIND} of each kind by seed {seed}, int8")
    click.echo("| score | AUROC | hardest kind | kept, clean | kept, corrupted |\n|---|---|---|---|---|")
    for name, score in scores.items():
        click.echo(line(name, score, true, corrupted, ood))


@click.command()
@click.argument("tasks", nargs=-1, required=True)
@click.option("--seed", default=77, show_default=True, help="Of the out-of-distribution pictures.")
def main(tasks: tuple[str, ...], seed: int) -> None:
    """Print the tables of TASKS."""
    for each in tasks:
        compare(each, seed)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (EdgecnnError, click.ClickException) as problem:
        sys.exit(f"novelty scores: {problem}")
