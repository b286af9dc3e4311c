"""`edgecnn evaluate`: accuracy with its interval, per class and as a confusion matrix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli.options import data_option, json_option, runtime_options, seed_option
from edgecnn.printing import json_text

if TYPE_CHECKING:
    from edgecnn.evaluation import Evaluation
    from edgecnn.runtimes import Runtime
    from edgecnn.tasks import Task


@click.command(short_help="Measure a model's accuracy on a split of its data set.")
@click.argument("model", metavar="FILE|TASK")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="validation",
    show_default=True,
    help="Pictures used.",
)
@data_option
@seed_option
@runtime_options
@json_option
def evaluate(model: str, split: str, data: Path | None, seed: int, runtime: str | None, threads: int, as_json: bool) -> None:
    """Measure an exported model, a .keras model or a task's shipped int8 model on one split of its data set."""
    from edgecnn import evaluation
    from edgecnn.datasets.loading import load_splits

    opened, task, trained_on = _open(model, runtime, threads)
    splits = load_splits(task, data, seed)
    if trained_on not in (None, splits.train.digest()) and not splits.info.synthetic:
        click.echo("note: this model was trained on other pictures than this train split (another --seed or --data)", err=True)
    result = evaluation.evaluate(opened, splits[split], task.labels)
    measured_on = splits.info.describe(split)
    if as_json:
        head = {"model": model, "runtime": opened.name, "data": measured_on, "synthetic": splits.info.synthetic}
        click.echo(json_text(head | result.to_json()))
    else:
        click.echo(f"{model} on {opened.name}, {measured_on}")
        for line in _lines(result):
            click.echo(line)


def _open(model: str, runtime: str | None, threads: int) -> tuple[Runtime, Task, str | None]:
    """Return a model's runtime and task, and the digest of the pictures that it was trained on where it is known."""
    if Path(model).suffix == ".keras":
        from edgecnn_export.reference import open_reference

        reference = open_reference(model)
        return reference.runtime(), reference.task, None
    from edgecnn.artifacts import Artifact
    from edgecnn.classifying import artifact_path
    from edgecnn.runtimes import open_runtime
    from edgecnn.tasks import task_of

    artifact = Artifact.open(artifact_path(model))
    trained_on = artifact.contract.training_data
    opened = open_runtime(artifact, runtime=runtime, threads=threads)
    return opened, task_of(artifact.contract), None if trained_on is None else trained_on.digest


def _lines(result: Evaluation) -> list[str]:
    low, high = result.interval
    width = max(len(label) for label in result.labels)
    head = (
        f"accuracy {result.accuracy:.4f} ({result.confidence:.0%} interval {low:.4f} to {high:.4f}) on {result.count} pictures"
    )
    rows = [
        f"{label:<{width}}  {recall:7.4f}  {' '.join(f'{count:5d}' for count in row)}"
        for label, recall, row in zip(result.labels, result.recalls(), result.confusion, strict=True)
    ]
    return [
        head,
        f"expected calibration error {result.calibration_error:.4f}",
        f"{'true class':<{width}}   recall  predicted as class 0 .. {len(result.labels) - 1}",
        *rows,
    ]
