"""Ablation: what each part of a recipe brings, measured by training without it (or with something more) under one seed.

Chosen and measured on the validation split alone: clean, under every camera corruption at severity 3, and beside generated
pictures of no class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset, Splits, concatenate
from edgecnn.errors import InputError
from edgecnn.files import write_json
from edgecnn.metrics import confusion_matrix, macro_recall
from edgecnn.rejection.evidence import FALSE_ACCEPTS
from edgecnn.rejection.measure import measure_rejection
from edgecnn.rejection.threshold import THRESHOLD_SCORE
from edgecnn.robustness.corruptions import corrupt, corruptions_for
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.runtimes.runtime import run_all
from edgecnn.tasks import Task
from edgecnn_export.exporter import export
from edgecnn_export.networks.sizes import NETWORKS, networks_for
from edgecnn_export.reference import Reference
from edgecnn_export.studies.trainings import Training, run_trainings
from edgecnn_export.training.augmentation import Augmentation
from edgecnn_export.training.balancing import few_of_each
from edgecnn_export.training.distillation import Distillation
from edgecnn_export.training.recipes import (
    LEAST_PICTURES,
    NOT_FOR_LITE,
    TAUGHT_AVERAGING,
    Recipe,
    can_be_taught,
    find_recipe,
    imitating,
)

SEVERITY = 3
MEASURED_PICTURES = 1000  # at most, of validation
_LIGHT = ("exposure_stops", "contrast_stops", "gradient", "banding")
_OPTICS = ("defocus", "motion")
_SENSOR = ("read_noise", "shot_noise", "jpeg")
_GEOMETRY = ("rotation_deg", "scale_octaves", "slant", "shift", "stroke")


@dataclass(frozen=True)
class Variant:
    """One deviation from the recipe: its name in tables and folders, what it changes, and the network that is trained."""

    name: str
    change: Callable[[Recipe], Recipe]
    model: str = "compact"


def _without(*effects: str) -> Callable[[Recipe], Recipe]:
    def change(recipe: Recipe) -> Recipe:
        augmentation = recipe.augmentation or Augmentation()
        off: dict[str, Any] = dict.fromkeys(effects, 0.0)
        return replace(recipe, augmentation=replace(augmentation, **off))

    return change


def _scaled(strength: float) -> Callable[[Recipe], Recipe]:
    return lambda recipe: replace(recipe, augmentation=(recipe.augmentation or Augmentation()).scaled(strength))


def _with_turns(share: float) -> Callable[[Recipe], Recipe]:
    def change(recipe: Recipe) -> Recipe:
        augmentation = recipe.augmentation
        if augmentation is None or not augmentation.flips:
            return recipe
        return replace(recipe, augmentation=replace(augmentation, turns=share))

    return change


VARIANTS = (
    Variant("recipe", lambda recipe: recipe),
    Variant("no-augmentation", lambda recipe: replace(recipe, augmentation=None)),
    Variant("half-strength", _scaled(0.5)),
    Variant("no-light", _without(*_LIGHT)),
    Variant("no-banding", _without("banding")),
    Variant("no-erasing", _without("erasing")),
    Variant("no-optics", _without(*_OPTICS)),
    Variant("no-sensor", _without(*_SENSOR)),
    Variant("no-geometry", _without(*_GEOMETRY)),
    Variant("few-quarter-turns", _with_turns(0.15)),
    Variant("no-quarter-turns", _with_turns(0.0)),
    Variant("half-outliers", lambda recipe: replace(recipe, outliers=recipe.outliers / 2)),
    Variant("no-outliers", lambda recipe: replace(recipe, outliers=0.0)),
    Variant("no-simulation", lambda recipe: replace(recipe, simulated=0.0)),
    Variant("no-label-smoothing", lambda recipe: replace(recipe, label_smoothing=0.0)),
    Variant("no-weight-decay", lambda recipe: replace(recipe, weight_decay=0.0)),
    Variant("distilled", imitating),
    Variant("distilled-answers", lambda recipe: imitating(recipe, Distillation(features=0.0))),
    Variant("averaged", lambda recipe: replace(recipe, averaging=TAUGHT_AVERAGING)),
    Variant("longer-epochs", lambda recipe: replace(recipe, least_pictures=LEAST_PICTURES)),
    Variant("mixup", lambda recipe: replace(recipe, mixup=0.2)),
    *(Variant(name, lambda recipe: recipe, f"compact-{name}") for name in NETWORKS),
)


@dataclass(frozen=True)
class Accuracies:
    """Shares of validation pictures: as they are, and over the corruptions whose kind training saw or never saw.

    `macro_recall` is the mean over classes of the share of their pictures recognised as they are.
    """

    clean: float
    macro_recall: float
    seen: float
    unseen: float
    mean: float
    worst: float
    worst_corruption: str


@dataclass(frozen=True)
class Doubt:
    """How the int8 file tells pictures of a class from generated ones of none; `kept` of the former when FALSE_ACCEPTS pass."""

    auroc: float
    kept: float


@dataclass(frozen=True)
class Row:
    """One variant and what its float model and its int8 file reach; `doubt` is None for a task without other pictures."""

    name: str
    parameters: int
    float32: Accuracies
    int8: Accuracies
    doubt: Doubt | None


def ablate(
    task: Task,
    splits: Splits,
    *,
    out: Path,
    names: Sequence[str] = (),
    epochs: int | None = None,
    minutes: float | None = None,
    per_class: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    scheduler: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """Train, export and measure each variant (all that change the task's recipe unless named); write `ablation.json`.

    With `minutes` each gets the same time instead of `epochs`; `per_class` takes only so many training pictures of each class.
    Interrupted, it goes on by the same call. Raises InputError for an unknown variant, and what `train` and `export` raise.
    """
    recipe = find_recipe("compact", task)
    chosen = _choose(recipe, task, names)
    pool = concatenate([splits.train, splits.validation])
    train, validation = np.split(np.arange(len(pool)), [len(splits.train)])
    if per_class is not None:
        train = few_of_each(splits.train.class_ids, per_class, seed)
    settings = {
        "task": task.name,
        "epochs": epochs,
        "minutes": minutes,
        "per_class": per_class,
        "seed": seed,
        "pictures": pool.digest(),
        "recipe": dataclasses.asdict(recipe),
    }
    trainings = [
        Training(
            variant.name, (train, validation, validation[:0]), variant.model, seed, epochs, variant.change(recipe), minutes
        )
        for variant in chosen
    ]
    rows = {}
    results = run_trainings(
        task, pool, splits.info, trainings, _measure, out=out, settings=settings, jobs=jobs, scheduler=scheduler
    )
    for training, result in results:
        rows[training.name] = row = _row(training.name, result)
        progress(f"{len(rows)} of {len(trainings)} done: {row.name}: int8 {row.int8}, {row.doubt}")
    ordered = [rows[variant.name] for variant in chosen]
    write_json(out / "ablation.json", settings | {"rows": [dataclasses.asdict(row) for row in ordered]})
    return ordered


def _row(name: str, result: dict[str, Any]) -> Row:
    float32, int8 = Accuracies(**result["float32"]), Accuracies(**result["int8"])
    return Row(name, result["parameters"], float32, int8, None if result["doubt"] is None else Doubt(**result["doubt"]))


def _choose(recipe: Recipe, task: Task, names: Sequence[str]) -> list[Variant]:
    known = {variant.name: variant for variant in VARIANTS}
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"unknown variant {unknown[0]!r}; known: {', '.join(known)}")
    taught = [each.name for each in VARIANTS if each.change(recipe).distillation is not None]
    if not can_be_taught(task):
        if refused := [name for name in names if name in taught]:
            raise InputError(f"there is no variant {refused[0]} of {task.name}: {NOT_FOR_LITE}")
        known = {name: variant for name, variant in known.items() if name not in taught}
    if names:
        return [known[name] for name in names]
    networks = {"compact", *(f"compact-{name}" for name in networks_for(task))}
    changing = (each for each in known.values() if each.model != "compact" or each.change(recipe) != recipe)
    return [known["recipe"], *(each for each in changing if each.model in networks)]


def _measure(reference: Reference, splits: Splits, folder: Path) -> dict[str, Any]:
    exported = export(reference, out=folder / "export", formats=["tflite"], int8=True).files[-1]
    runtimes = {"float32": reference.runtime(), "int8": open_runtime(Artifact.open(exported.path))}
    kept = np.random.default_rng(0).permutation(len(splits.validation))[:MEASURED_PICTURES]
    pictures = splits.validation.take(np.sort(kept))
    found = {name: dataclasses.asdict(reached) for name, reached in _accuracies(runtimes, pictures, reference.task).items()}
    doubt = None if reference.task.ood is None else dataclasses.asdict(_doubt(runtimes["int8"], pictures, reference.task))
    return found | {"doubt": doubt, "parameters": reference.model.count_params()}


def _doubt(runtime: Runtime, pictures: Dataset, task: Task) -> Doubt:
    data = DataInfo("validation", "validation", len(pictures), pictures.digest(), synthetic=False)
    found = measure_rejection(runtime, task, pictures, data, threshold=None)
    return Doubt(found.aurocs[THRESHOLD_SCORE].value, found.wanted.kept.value)


def _accuracies(runtimes: dict[str, Runtime], pictures: Dataset, task: Task) -> dict[str, Accuracies]:
    """Measure all runtimes on the same corrupted pictures."""
    corruptions = corruptions_for(task)
    shares: dict[str, list[float]] = {name: [] for name in runtimes}
    recalls: dict[str, float] = {}
    for images in (pictures.images, *(corrupt(pictures.images, each, SEVERITY, seed=0) for each in corruptions)):
        for name, runtime in runtimes.items():
            answers = run_all(runtime, images).argmax(axis=1)
            shares[name].append(float((answers == pictures.class_ids).mean()))
            recalls.setdefault(name, macro_recall(confusion_matrix(answers, pictures.class_ids, len(task.labels))))
    seen = np.array([each.in_family for each in corruptions])
    found = {}
    for name, (clean, *rest) in shares.items():
        values, lowest = np.array(rest), int(np.argmin(rest))
        found[name] = Accuracies(
            clean, recalls[name], float(values[seen].mean()), float(values[~seen].mean()), float(values.mean()), rest[lowest],
            corruptions[lowest].name,
        )  # fmt: skip
    return found


def format_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: per variant the int8 file's figures in percent, and the float model's clean and mean."""
    lines = [
        "| variant | int8 clean | mean recall | kinds seen | kinds never seen | mean | worst | AUROC "
        f"| kept at {FALSE_ACCEPTS:.0%} false accepts | float clean | float mean |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        int8, floating = row.int8, row.float32
        shares = (int8.clean, int8.macro_recall, int8.seen, int8.unseen, int8.mean)
        worst = f"{100 * int8.worst:.1f} {int8.worst_corruption}"
        others = f"{100 * floating.clean:.1f} | {100 * floating.mean:.1f}"
        doubt = " | " if row.doubt is None else f"{row.doubt.auroc:.3f} | {100 * row.doubt.kept:.1f}"
        cells = [row.name, *(f"{100 * share:.1f}" for share in shares), worst, doubt, others]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
