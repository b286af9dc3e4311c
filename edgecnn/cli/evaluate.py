"""`edgecnn evaluate`: accuracy with its interval, per class and as a confusion matrix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import (
    data_option,
    echo_json,
    echo_notes,
    foreign_options,
    json_option,
    read_foreign,
    runtime_options,
    seed_option,
    split_option,
)
from edgecnn.metrics import macro_recall, weak_classes
from edgecnn.text import percent

if TYPE_CHECKING:
    from edgecnn.evaluation import Evaluation


@click.command(short_help="Measure a model's accuracy on a split of its data set.")
@click.argument("model", metavar="FILE|RUN|TASK")
@split_option
@data_option
@foreign_options
@seed_option
@runtime_options
@json_option
def evaluate(
    model: str,
    split: str,
    data: Path | None,
    seed: int,
    runtime: str | None,
    threads: int,
    as_json: bool,
    **stated: Any,
) -> None:
    """Measure an exported model, a .keras model, the model of a run or a task's shipped int8 model on one split of its data.

    A run remembers its pictures and their split; an exported file is measured on them with --data RUN. For another tool's
    model, name the classes with --labels.
    """
    from edgecnn import evaluation
    from edgecnn.classifier import NO_THRESHOLDS
    from edgecnn.progress import note
    from edgecnn_export.models import open_model

    opened = open_model(model, read_foreign(stated), runtime=runtime, threads=threads)
    echo_notes(opened.task.name, opened.notes)
    splits = opened.splits(data, seed)
    if opened.task.only_good and split == "validation":
        note("the threshold was chosen so that these pictures pass; --split test has others")
    without = opened.evidence is None and opened.reject_threshold is None
    # What was not exported yet has none as a rule: an export chooses them.
    warning = NO_THRESHOLDS if without and opened.artifact is not None else ""
    if warning:
        note(f"warning: {warning}")
    result = evaluation.evaluate(opened.runtime, splits[split], opened.task.labels, evidence=opened.evidence)
    measured_on = splits.info.describe(split)
    if as_json:
        head = {"model": model, "runtime": opened.runtime.name, "data": measured_on, "synthetic": splits.info.synthetic}
        echo_json(head | result.to_json() | ({"warning": warning} if warning else {}))
    else:
        click.echo(f"{model} on {opened.runtime.name}, {measured_on}")
        for line in _lines(result):
            click.echo(line)


def _lines(result: Evaluation) -> list[str]:
    low, high = result.interval
    if len(result.labels) == 1:
        return [f"{percent(result.accuracy, result.interval)} of {result.count} good parts pass; the others are false alarms"]
    width = max(len(label) for label in result.labels)
    head = (
        f"accuracy {result.accuracy:.4f} ({result.confidence:.0%} interval {low:.4f} to {high:.4f}) on {result.count} pictures"
        f", mean recall {macro_recall(result.confusion):.4f}"
    )
    rows = [
        f"{label:<{width}}  {recall:7.4f}  {' '.join(f'{count:5d}' for count in row)}"
        for label, recall, row in zip(result.labels, result.recalls(), result.confusion, strict=True)
    ]
    weak = [
        f"weak: {result.labels[i]}, {result.confusion[i, i]} of {result.confusion[i].sum()} pictures right"
        for i in weak_classes(result.confusion)
    ]
    named = []
    if result.named is not None and result.named_right is not None:
        share, right = percent(result.named.value, result.named.interval), result.named_right
        right_share = percent(right.value, right.interval)
        named = [f"{share} get a label, the others are unsure or novel; {right_share} of the labels are right"]
    return [
        head,
        *weak,
        *named,
        f"expected calibration error {result.calibration_error:.4f}",
        f"{'true class':<{width}}   recall  predicted as class 0 .. {len(result.labels) - 1}",
        *rows,
    ]
