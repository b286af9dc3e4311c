"""`edgecnn robustness`: what float and int8 models keep of their accuracy under what cameras do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import (
    OUTPUT_FILE,
    Count,
    data_option,
    foreign_options,
    json_option,
    read_foreign,
    seed_option,
    trust_option,
)
from edgecnn.text import json_text, printable

if TYPE_CHECKING:
    from edgecnn.robustness.report import RobustnessReport


@click.command(short_help="Measure models, float beside int8, under what cameras do to pictures.")
@click.argument("models", metavar="FILE|TASK...", nargs=-1)
@data_option
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="validation",
    show_default=True,
    help="Pictures used.",
)
@click.option(
    "--severity",
    "severities",
    type=Count(1, 5),
    multiple=True,
    help="How strong, 1 to 5; may be given several times. Default: all five.",
)
@click.option("--pictures", type=Count(1, 10**6), help="Measure on so many pictures, of all classes alike, drawn by the seed.")
@click.option("--plot", type=OUTPUT_FILE, help="Also draw a heat map into this picture.")
@click.option("--html", type=OUTPUT_FILE, help="Also write the report as one self-contained page.")
@click.option("--list", "listed", is_flag=True, help="Print what the corruptions are and their levels as tables, and end.")
@foreign_options
@trust_option
@seed_option
@json_option
def robustness(
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
    """Measure models, float beside int8, under what cameras do to pictures.

    A model is an exported file, a .keras file, the folder of a run, or a task's name for its shipped float and int8 models.
    An int8 file is compared with the float model named before it. Of another tool's models --labels names the classes.
    """
    if listed:
        from edgecnn.robustness.corruptions import list_corruptions

        click.echo(list_corruptions(), nl=False)
        return
    if not models:
        raise click.UsageError("missing FILE or TASK: name what to measure, or give --list")
    from edgecnn_export.robustness import check_outputs, measure_models, write_outputs

    check_outputs(plot, html)
    report, notes = measure_models(
        models,
        **read_foreign(stated),
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

    click.echo(json_text(report.to_json()) if as_json else format_report(report), nl=as_json)


def _progress(done: int, total: int) -> None:
    click.echo(f"\r{done} of {total} pictures", nl=done == total, err=True)
