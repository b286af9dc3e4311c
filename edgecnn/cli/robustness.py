"""`edgecnn robustness`: what float and int8 models keep of their accuracy under what cameras do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.command import Command, Need, check_needs
from edgecnn.cli.options import (
    OUTPUT_FILE,
    Count,
    data_option,
    echo_json,
    foreign_options,
    json_option,
    read_foreign,
    seed_option,
    split_option,
)
from edgecnn.text import printable

if TYPE_CHECKING:
    from edgecnn.robustness.report import RobustnessReport


_MODELS = Need("FILE or TASK", lambda values: bool(values["models"]))
_NEEDS = dict.fromkeys(("data", "split", "severities", "pictures", "plot", "html", "seed", "as_json"), _MODELS)


@click.command(cls=Command, needs=_NEEDS, short_help="Measure float and int8 models under camera corruptions.")
@click.argument("models", metavar="FILE|TASK...", nargs=-1)
@data_option
@split_option
@click.option(
    "--severity",
    "severities",
    type=Count(1, 5),
    multiple=True,
    help="Severity, 1 to 5; repeatable. Default: all five.",
)
@click.option("--pictures", type=Count(1, 10**6), help="Use a balanced random sample of this many pictures.")
@click.option("--plot", type=OUTPUT_FILE, help="Also draw a heat map into this PNG.")
@click.option("--html", type=OUTPUT_FILE, help="Also write the report as a self-contained HTML page.")
@click.option("--list", "listed", is_flag=True, help="List the corruptions and their levels, and exit.")
@foreign_options
@seed_option
@json_option
@click.pass_context
def robustness(
    context: click.Context,
    /,
    models: tuple[str, ...],
    data: Path | None,
    split: str,
    severities: tuple[int, ...],
    pictures: int | None,
    plot: Path | None,
    html: Path | None,
    listed: bool,
    seed: int,
    as_json: bool,
    **stated: Any,
) -> None:
    """Measure float and int8 models under camera corruptions.

    A model is an exported file, a .keras file, the folder of a run, or a task's name for its shipped float and int8 models.
    An int8 file is compared with the float model named before it. For another tool's models, name the classes with --labels.
    """
    check_needs(context)
    if listed and models:
        raise click.UsageError("--list measures nothing: omit the models", context)
    if listed:
        from edgecnn.robustness.corruptions import list_corruptions

        click.echo(list_corruptions(), nl=False)
        return
    if not models:
        raise click.UsageError("missing FILE or TASK: name what to measure, or give --list", context)
    from edgecnn_export.robustness import check_outputs, measure_models, write_outputs

    check_outputs(plot, html)
    report, notes = measure_models(
        models,
        read_foreign(stated),
        data=data,
        split=split,
        severities=severities,
        pictures=pictures,
        seed=seed,
        progress=_progress if sys.stderr.isatty() else None,
    )
    for note in notes:
        click.echo(printable(note), err=True)
    _show(report, as_json)
    for path in write_outputs(report, plot, html):
        click.echo(f"wrote {path}", err=True)


def _show(report: RobustnessReport, as_json: bool) -> None:
    from edgecnn.robustness.report import format_report

    if as_json:
        echo_json(report.to_json())
    else:
        click.echo(format_report(report), nl=False)


def _progress(done: int, total: int) -> None:
    click.echo(f"\r{done} of {total} pictures", nl=done == total, err=True)
