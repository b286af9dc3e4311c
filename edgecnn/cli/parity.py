"""`edgecnn parity`: is an exported file as good as its reference, and if not, why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import (
    OUTPUT_FILE,
    Number,
    data_option,
    echo_json,
    echo_notes,
    foreign_options,
    json_option,
    read_foreign,
    seed_option,
    split_option,
)
from edgecnn.progress import report
from edgecnn.text import printable

if TYPE_CHECKING:
    from edgecnn_export.parity.files import Measured


@click.command(short_help="Compare exported models with their reference on the same pictures.")
@click.argument("reference", metavar="REFERENCE")
@click.argument("candidates", metavar="CANDIDATE...", nargs=-1, required=True)
@data_option
@split_option
@click.option("--max-drop", type=Number(0, 100), help="Allowed accuracy drop in percentage points. Default: the task's.")
@click.option(
    "--confidence",
    type=Number(0.5, 0.9999),
    default=0.95,
    show_default=True,
    help="Confidence level of the bound on the accuracy drop.",
)
@foreign_options
@click.option("--html", type=OUTPUT_FILE, help="Also write the report as a self-contained HTML page.")
@click.option("--strict", is_flag=True, help="Exit with code 3 when undecided.")
@seed_option
@json_option
@click.pass_context
def parity(
    context: click.Context,
    /,
    reference: str,
    candidates: tuple[str, ...],
    data: Path | None,
    split: str,
    max_drop: float | None,
    confidence: float,
    html: Path | None,
    strict: bool,
    seed: int,
    as_json: bool,
    **stated: Any,
) -> None:
    """Compare exported files with REFERENCE: a .keras file, the folder of a run, a task's name or another exported file.

    Either may be another tool's .tflite; --labels and the options after it then describe such files.

    Exits with 1 when a candidate fails, with 3 under --strict when one is undecided, with 2 on bad input.
    """
    from edgecnn.classifier import artifact_path
    from edgecnn_export.foreign import UNSTATED_OPTIONS
    from edgecnn_export.models import open_model, states_itself
    from edgecnn_export.parity.files import check_candidates, measure
    from edgecnn_export.parity.reference_check import check_reference

    stated_options = read_foreign(stated)
    of_candidates = states_itself(reference) and not all(states_itself(artifact_path(each)) for each in candidates)
    opened = open_model(reference, UNSTATED_OPTIONS if of_candidates else stated_options, of_task="keras")
    echo_notes(opened.task.name, opened.notes)
    check_candidates(candidates, opened)
    splits = opened.splits(data, seed)
    doubt = None if opened.reference is None else check_reference(opened.reference, splits[split], seed=seed)
    measured = measure(
        opened,
        candidates,
        splits,
        split,
        doubt=None if doubt is None else doubt.text,
        stated=stated_options.of_file,
        max_drop=max_drop,
        confidence=confidence,
        seed=seed,
        progress=lambda name, done, total: report(printable(f"comparing {name}"), done, total),
    )
    _show(measured, html, as_json)
    if measured.report.verdict == "fail":
        context.exit(1)
    if strict and measured.report.verdict == "undecided":
        context.exit(3)


def _show(measured: Measured, html: Path | None, as_json: bool) -> None:
    from edgecnn_export.parity.text import format_report

    for note in measured.notes:
        click.echo(printable(note), err=True)
    if html:
        from edgecnn_export.pages.parity import write_page

        write_page(measured.report, html, dataset=measured.dataset, advice=measured.advice)
        click.echo(f"wrote {html}", err=True)
    if as_json:
        echo_json(measured.report.to_json() | {"advice": measured.advice})
    else:
        click.echo(format_report(measured.report, measured.advice), nl=False)
