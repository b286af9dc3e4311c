"""`edgecnn train`: from a data set to a reference model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import click

from edgecnn.cli.only_good import Rate, check_options, train_good
from edgecnn.cli.options import Count, Number, data_option, group_by_option, input_options, seed_option, task_and_folder
from edgecnn.text import printable


@click.command(short_help="Train a model on MNIST, NEU or a folder of pictures per class.")
@click.argument("task")
@click.option(
    "--network",
    type=click.Choice(("compact", "lite", "course", "mobilenet")),
    default="compact",
    show_default=True,
    help="Network; lite is EfficientNet-Lite0, pretrained on ImageNet.",
)
@click.option(
    "--epochs",
    type=Count(0, 100_000),
    help="Passes over the training pictures; 0 fits only the last layer of lite. Default: the recipe's.",
)
@click.option("--minutes", type=Number(0.01, 100_000), help="Instead of --epochs: as many as fit into this time.")
@click.option("--batch-size", type=Count(1, 65536), help="Pictures per step. Default: the recipe's.")
@seed_option
@data_option
@group_by_option
@click.option(
    "--split",
    "rule",
    type=click.Choice(["grouped", "random"]),
    default="grouped",
    show_default=True,
    help="How pictures are split; random, the common way, lets overlapping pictures leak.",
)
@input_options
@click.option(
    "--conflicts",
    type=click.Choice(["refuse", "drop", "keep"]),
    help="When two class folders hold the same picture: refuse the folder (default), drop such pictures, or keep them.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run. Default: runs/TASK-NETWORK.")
@click.option("--resume", is_flag=True, help="Continue from the checkpoint in the run's folder.")
@click.option(
    "--devices",
    type=Count(1, 64),
    default=1,
    show_default=True,
    help="GPUs, or without one CPUs, that share each batch.",
)
@click.option("--only-good", is_flag=True, help="TASK is a folder of good parts only: learn to tell odd ones.")
@click.option(
    "--false-alarms", type=Rate(), help="With --only-good: share of good parts that may be called novel. Default: 1%."
)
def train(
    task: str,
    network: str,
    epochs: int | None,
    minutes: float | None,
    batch_size: int | None,
    seed: int,
    data: Path | None,
    group_by: Path | None,
    rule: str,
    color: Any,
    size_hw: tuple[int, int] | None,
    fit: Any,
    conflicts: Any,
    out: Path | None,
    resume: bool,
    devices: int,
    only_good: bool,
    false_alarms: float | None,
) -> int:
    """Train a network for TASK: mnist, neu, or a folder that holds one folder of pictures per class.

    A folder with train, val and test (or train and test), each with class folders, keeps its own split; any other is split
    70 : 15 : 15, with overlapping pictures kept together. What was read and what was left out is printed on stderr.

    lite starts from ImageNet weights: its last layer is fitted to the training pictures in seconds to a minute, then its last
    stages are trained on augmented pictures. The other networks start from random weights.

    With --only-good, lite is taken as it is: a part is novel when a place of it looks like none of the good parts.

    Writes model.keras, training.json, curves.png and, for pictures in a folder, pictures.png (what the network sees) and
    splits.csv (each picture's split and SHA-256). Ctrl-C stops after the current batch and keeps the best weights; continue
    with --resume.
    """
    from edgecnn.datasets.load import load_splits
    from edgecnn.datasets.reading import InputChoice
    from edgecnn.datasets.split import deal_at_random
    from edgecnn_export.frameworks import require_keras

    check_options(only_good, false_alarms)
    if "keras" not in sys.modules and importlib.util.find_spec("keras") is not None:
        click.echo("loading Keras", err=True)  # some seconds, in which it must not write anything itself
    require_keras()  # missing, it is missed before pictures are loaded
    choice = InputChoice.stated(color, fit, size_hw, "lite" if only_good else network)
    chosen, folder = task_and_folder(
        task, data, choice=choice, conflicts=conflicts, default_conflicts="refuse", group_by=group_by, only_good=only_good
    )
    splits = load_splits(chosen, folder, seed)
    if rule == "random":
        splits = deal_at_random(splits, seed)
    counts = f"{len(splits.train)} pictures; validation: {len(splits.validation)}, test: {len(splits.test)}"
    click.echo(f"{splits.info.describe('train')}: {counts}", err=True)
    if only_good:
        return train_good(chosen, splits, out, false_alarms, seed)
    from edgecnn_export.training import train as run_training

    run = run_training(
        chosen,
        splits,
        out=out or Path("runs") / f"{chosen.name}-{network}",
        model=network,
        epochs=epochs,
        minutes=minutes,
        batch_size=batch_size,
        seed=seed,
        resume=resume,
        devices=devices,
        progress=lambda line: click.echo(line, err=True),
    )
    low, high = run.validation_interval
    beside = "training.json, curves.png" + (" and the split in splits.csv" if run.record["splits_table"] else "")
    click.echo(f"model: {run.folder / 'model.keras'} (beside it {beside})")
    click.echo(
        f"{splits.info.describe('validation')}: {run.validation_accuracy:.4f} ({run.correct} of {run.count}; "
        f"95 % interval {low:.4f} to {high:.4f}; mean recall of the classes {run.record['validation']['macro_recall']:.4f})"
    )
    for label in run.unmeasured_classes:
        click.echo(printable(f"not measurable: {label}, which has no validation pictures"))
    for label, right, count in run.weak_classes:
        click.echo(printable(f"weak: {label}, {right} of {count} validation pictures right"))
    if run.interrupted:
        advice = "; continue with --resume" if run.resumable else ""
        click.echo(f"interrupted: these are the best weights so far{advice}", err=True)
        return 130
    return 0
