"""`edgecnn ablation`: what each part of a recipe brings."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgecnn.cli.options import EPOCHS, JOBS, data_option, json_option, seed_option, task_and_folder


@click.command(short_help="Show what each part of the training recipe brings, by training without it.")
@click.argument("task", metavar="TASK|DIR")
@click.option("--variant", "names", multiple=True, help="Only this variant; may be given several times. Default: all.")
@click.option("--epochs", type=EPOCHS, help="Passes over the training pictures. Default: the recipe's.")
@click.option("--jobs", type=JOBS, default=1, show_default=True, help="Trainings at once.")
@seed_option
@data_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study. Default: runs/TASK-ablation.")
@json_option
def ablation(
    task: str,
    names: tuple[str, ...],
    epochs: int | None,
    jobs: int,
    seed: int,
    data: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train the compact network by variants of its recipe and measure each on validation, clean and corrupted.

    It takes hours: Ctrl-C ends it, and the same command goes on where it ended.
    """
    from edgecnn.datasets.load import load_splits
    from edgecnn_export.frameworks import require_keras

    require_keras()
    from edgecnn_export.studies.ablation import ablate, format_table

    chosen, folder = task_and_folder(task, data)
    splits = load_splits(chosen, folder, seed)
    where = out or Path("runs") / f"{chosen.name}-ablation"
    rows = ablate(
        chosen,
        splits,
        out=where,
        names=names,
        epochs=epochs,
        seed=seed,
        jobs=jobs,
        progress=lambda line: click.echo(line, err=True),
    )
    if as_json:
        click.echo(json.dumps(json.loads((where / "ablation.json").read_text(encoding="utf-8")), indent=2))
        return
    click.echo(f"{splits.info.describe('validation')}, in percent; corruptions at severity 3; seed {seed}")
    click.echo(format_table(rows))
