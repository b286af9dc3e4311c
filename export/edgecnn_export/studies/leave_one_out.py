"""Leave one class out: does a model that was never shown a class of damage say that it doesn't know it?

These are the hardest out-of-distribution pictures: they look like the classes in every respect. Each class is in turn kept out
of training, and the int8 file of that training is asked about it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.artifacts import Artifact
from edgecnn.classifier import read_evidence
from edgecnn.datasets.dataset import Splits, concatenate
from edgecnn.files import write_json
from edgecnn.metrics import Share, auroc, auroc_interval
from edgecnn.rejection.evidence import FALSE_ACCEPTS
from edgecnn.rejection.measure import Auroc, find, sureness
from edgecnn.rejection.threshold import threshold_for
from edgecnn.runtimes import open_runtime
from edgecnn.tasks import Task
from edgecnn.text import percent
from edgecnn_export.evidence import give_evidence
from edgecnn_export.exporter import export
from edgecnn_export.reference import Reference
from edgecnn_export.studies.trainings import Training, run_trainings
from edgecnn_export.training.distillation import Distillation
from edgecnn_export.training.recipes import Recipe, find_recipe, imitating, require_teachable

_MOST = 1e6  # what JSON has in the place of infinity


@dataclass(frozen=True)
class LeftOut:
    """A class that a model was not shown: how often a validation picture of another class is surer than one of it (`auroc`).

    A picture is surer the less novel it is; one that is unsure is not sure at all. `accepted` are the class's pictures that
    get a label by the file's own thresholds (None where it has none); `kept` are the validation pictures that pass the
    threshold that accepts FALSE_ACCEPTS of the class.
    """

    label: str
    auroc: Auroc
    accepted: Share | None
    kept: Share

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain values."""
        accepted = None if self.accepted is None else self.accepted.to_json()
        return {
            "label": self.label,
            "auroc": dataclasses.asdict(self.auroc),
            "accepted": accepted,
            "kept": self.kept.to_json(),
        }


def leave_one_class_out(
    task: Task,
    splits: Splits,
    *,
    out: Path,
    epochs: int | None = None,
    seed: int = 0,
    jobs: int = 1,
    scheduler: str | None = None,
    network: str = "compact",
    teacher: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> list[LeftOut]:
    """Train once per class without it, ask the int8 file about it, and write `leave-one-class-out.json` into the folder `out`.

    `network` is compact or lite. With a `teacher` each compact learns from a `lite` whose last layer alone has learned the
    other classes, in half as many views as usual: a lite fine-tuned for each class would take most of the time. The test split
    stays untouched. Interrupted, it goes on by the same call. Raises what `train` and `export` raise, and InputError for
    pictures that suit no teacher.
    """
    pool = concatenate([splits.train, splits.validation])
    train, validation = np.split(np.arange(len(pool)), [len(splits.train)])
    recipe = _taught(task) if teacher else find_recipe(network, task)
    trainings = []
    for class_id, label in enumerate(task.labels):
        own = pool.class_ids == class_id
        parts = (train[~own[train]], validation[~own[validation]], np.flatnonzero(own))
        trainings.append(Training(label, parts, network, seed, epochs, recipe))
    settings: dict[str, Any] = {"task": task.name, "model": network, "epochs": epochs, "seed": seed, "pictures": pool.digest()}
    settings["recipe"] = dataclasses.asdict(recipe)
    found = {}
    for training, result in run_trainings(
        task, pool, splits.info, trainings, _ask, out=out, settings=settings, jobs=jobs, scheduler=scheduler
    ):
        found[training.name] = judge(training.name, result["true"], result["left_out"], result["threshold"])
        progress(f"{len(found)} of {len(trainings)} done: {training.name}: AUROC {found[training.name].auroc.value:.4f}")
    rows = [found[label] for label in task.labels]
    write_json(out / "leave-one-class-out.json", settings | {"classes": [row.to_json() for row in rows]})
    return rows


def _taught(task: Task) -> Recipe:
    require_teachable(task)
    return imitating(find_recipe("compact", task), Distillation(views=Distillation.views // 2, tuned=False))


def judge(label: str, true: Sequence[float], left_out: Sequence[float], threshold: float | None) -> LeftOut:
    """Judge by how sure the model is of validation pictures and of pictures of the class that was left out."""
    ours, theirs = np.array(true, np.float64), np.array(left_out, np.float64)
    area = auroc(ours, theirs)
    wanted = threshold_for({label: theirs}, FALSE_ACCEPTS)
    return LeftOut(
        label,
        Auroc(area, auroc_interval(area, len(ours), len(theirs))),
        None if threshold is None else Share(int((theirs >= threshold).sum()), len(theirs)),
        Share(int((ours >= wanted).sum()), len(ours)),
    )


def _ask(reference: Reference, splits: Splits, folder: Path) -> dict[str, Any]:
    made = Artifact.open(export(reference, out=folder / "export", formats=["tflite"], int8=True).files[-1].path)
    (artifact,), _ = give_evidence([made], reference.task, splits)
    runtime, evidence = open_runtime(artifact), read_evidence(artifact.contract)
    unsure_below = 0.0 if evidence is None else evidence.info.unsure_below
    seen = [find(runtime, pictures.images, evidence) for pictures in (splits.validation, splits.test)]
    true, left_out = (sureness(each, unsure_below) for each in seen)
    return {
        "true": np.maximum(true, -_MOST).tolist(),
        "left_out": np.maximum(left_out, -_MOST).tolist(),
        "threshold": None if evidence is None else -1.0,
    }


def format_table(rows: Sequence[LeftOut]) -> str:
    """Return a Markdown table, one row a class."""
    lines = [
        f"| left out | AUROC (95 % interval) | of it accepted | other classes kept at {FALSE_ACCEPTS:.0%} of it accepted |",
        "|---|---|---|---|",
    ]
    for row in rows:
        low, high = row.auroc.interval
        accepted = "" if row.accepted is None else _percent(row.accepted)
        lines.append(f"| {row.label} | {row.auroc.value:.4f} ({low:.4f} to {high:.4f}) | {accepted} | {_percent(row.kept)} |")
    return "\n".join(lines)


def _percent(share: Share) -> str:
    return percent(share.value, share.interval)
