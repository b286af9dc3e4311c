"""`edgecnn crossval`: the accuracy of a way of training, with every picture held out once."""

from __future__ import annotations

from pathlib import Path

import click

from edgecnn.cli.options import EPOCHS, JOBS, Count, data_option, json_option, task_and_folder
from edgecnn.text import json_text, printable


@click.command(short_help="Cross-validate a model: every picture held out once, overlapping ones together.")
@click.argument("task", metavar="TASK|DIR")
@click.option("--model", type=click.Choice(("compact", "course")), default="compact", show_default=True, help="Network.")
@click.option("--folds", type=Count(3, 20), default=5, show_default=True, help="Parts of the pictures.")
@click.option(
    "--split",
    "rule",
    type=click.Choice(["grouped", "random", "both"]),
    default="both",
    show_default=True,
    help="How folds are made; random lets overlapping pictures leak.",
)
@click.option("--seeds", type=Count(1, 20), default=1, show_default=True, help="Repeat with the seeds 0 to N-1.")
@click.option("--epochs", type=EPOCHS, help="Passes over the training pictures. Default: the recipe's.")
@click.option("--jobs", type=JOBS, default=1, show_default=True, help="Trainings at once.")
@data_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study. Default: runs/TASK-MODEL-crossval.")
@json_option
def crossval(
    task: str,
    model: str,
    folds: int,
    rule: str,
    seeds: int,
    epochs: int | None,
    jobs: int,
    data: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train a network for TASK, or for DIR/<class>/<pictures>, once a fold, and measure it on the fold that nothing has seen.

    Each is also exported, and the int8 file measured beside it.
    The test split of the data stays untouched. It takes hours: Ctrl-C ends it, and the same command goes on where it ended.
    """
    from edgecnn.datasets.load import load_splits
    from edgecnn_export.frameworks import require_keras

    require_keras()
    from edgecnn_export.studies.crossval import cross_validate, format_table, to_json

    chosen, folder = task_and_folder(task, data)
    splits = load_splits(chosen, folder, 0)
    found = cross_validate(
        chosen,
        splits,
        out=out or Path("runs") / f"{chosen.name}-{model}-crossval",
        model=model,
        rules=("grouped", "random") if rule == "both" else (rule,),  # type: ignore[arg-type]  # click has checked it
        folds=folds,
        seeds=range(seeds),
        epochs=epochs,
        jobs=jobs,
        progress=lambda line: click.echo(line, err=True),
    )
    if as_json:
        click.echo(json_text(to_json(found)))
        return
    kind = "synthetic pictures of " if splits.info.synthetic else ""
    click.echo(f"{kind}{splits.info.source}, {sum(map(len, (splits.train, splits.validation)))} pictures, {folds} folds")
    click.echo(format_table(found))
    for name, times in list(found.mistakes.items())[:20]:
        click.echo(printable(f"wrong in int8, {times} time(s): {name}"))
