"""`edgecnn export`: from a trained model to proven TFLite and ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.command import Command, Need, check_needs
from edgecnn.cli.options import (
    Number,
    data_option,
    echo_json,
    echo_notes,
    foreign_options,
    json_option,
    read_foreign,
    seed_option,
)
from edgecnn.text import counted, printable

if TYPE_CHECKING:
    from edgecnn_export.exporter import ExportResult

_OF_CLASSES = Need("a model of several classes: this one knows good parts only", lambda values: not values.get("only_good"))


@click.command(
    cls=Command,
    needs={
        "repair": Need("--int8", lambda values: values["int8"] or not values["repair"]),
        "keep_rate": _OF_CLASSES,
        "others": _OF_CLASSES,
    },
    short_help="Export a trained model to TFLite and ONNX, and prove that nothing was lost.",
)
@click.argument("model", metavar="TASK|FILE.keras|FOLDER")
@click.option("--int8", is_flag=True, help="Also make the int8 files.")
@click.option(
    "--repair/--no-repair",
    default=None,
    help="When an int8 file fails parity, try repairs, cheapest first, until one passes. Default: for models of edgecnn train.",
)
@click.option(
    "--format", "file_format", type=click.Choice(["tflite", "onnx", "all"]), default="all", show_default=True, help="Formats."
)
@data_option
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the files. Default: exports/TASK.")
@click.option("--max-drop", type=Number(0, 100), help="Allowed accuracy drop in percentage points. Default: the task's.")
@seed_option
@foreign_options
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Folder of pictures for int8 calibration; in folders named after the labels, half of them are used for parity.",
)
@click.option(
    "--keep-rate",
    type=Number(0.5, 0.999),
    default=0.98,
    show_default=True,
    help="Share of pictures like the held-out ones that must get a label, neither unsure nor novel.",
)
@click.option("--others", type=click.Path(path_type=Path), help="Folder of pictures of none of the classes, to be rejected.")
@click.option("--unproven", is_flag=True, help="Write the files even without pictures to compare them on.")
@json_option
@click.pass_context
def export(
    context: click.Context,
    /,
    model: str,
    int8: bool,
    repair: bool | None,
    file_format: str,
    data: Path | None,
    out: Path | None,
    max_drop: float | None,
    seed: int,
    calibration: Path | None,
    keep_rate: float,
    others: Path | None,
    unproven: bool,
    as_json: bool,
    **stated: Any,
) -> None:
    """Export a shipped TASK's model, a FILE.keras, or the FOLDER of a training run or SavedModel.

    Writes TASK-float32 and, with --int8, TASK-int8 as .tflite and .onnx, parity.json and parity.html. Each file is compared
    with the model before it is put in place: on the pictures that the model was trained on, split as they were then, or
    on those in --data or --calibration. A file that fails is named *.rejected, and the exit code is 1. It is
    repaired first where it can be (--repair): the first technique whose file passes is used, and every attempt is shown.
    """
    check_needs(context)
    from edgecnn_export.models import open_reference

    reference = open_reference(model, read_foreign(stated))  # which loads Keras quietly, before any module imports it loudly
    from edgecnn_export.calibration_data import find_splits
    from edgecnn_export.evidence import EvidenceOptions
    from edgecnn_export.exporter import export as run_export
    from edgecnn_export.exporter import formats_named

    check_needs(context, context.params | {"only_good": reference.task.only_good})
    echo_notes(reference.task.name, reference.notes)
    result = run_export(
        reference,
        out=out or Path("exports") / reference.task.name,
        formats=formats_named(file_format),
        int8=int8,
        repair=repair,
        splits=find_splits(reference, data, calibration, seed, unproven=unproven),
        max_drop=max_drop,
        evidence=EvidenceOptions(keep_rate, others),
        seed=seed,
        progress=lambda line: click.echo(line, err=True),
    )
    if as_json:
        echo_json(result.to_json())
    else:
        _show(result)
    if result.rejected or result.failures:
        context.exit(1)


def _show(result: ExportResult) -> None:
    from edgecnn_export.parity.text import describe_data, describe_reference, format_size

    if result.attempts:
        from edgecnn_export.repair.table import format_attempts

        click.echo("\n".join(format_attempts(result.attempts)))
    for line in () if result.parity is None else describe_reference(result.parity):
        click.echo(printable(line))
    width = max(len(file.path.name) for file in result.files)
    for file in result.files:
        size = format_size(file.size_bytes)
        click.echo(printable(f"{file.path.name:<{width}}  {size:>8}  {file.arithmetic:<25}  {file.verdict}: {file.reason}"))
    for failure in result.failures:
        click.echo(printable(f"{failure.suffix}: not made: {failure.reason}"))
    for warning in () if result.audit is None else result.audit.warnings:
        click.echo(printable(f"calibration: {warning}"))
    for file in result.rejected:
        for line in file.advice:
            click.echo(printable(f"{file.path.name}: {line}"))
    if result.parity is not None:
        click.echo(printable(describe_data(result.parity)))
    if result.unguarded is None:
        click.echo(printable(f"{result.for_board.path.name} {result.for_board.guard}"))
    else:
        click.echo(printable(f"WARNING: no answer will ever be unsure or novel: {result.unguarded}"))
    where = "" if result.parity is None else f", with parity.json and parity.html: verdict {result.parity.verdict.upper()}"
    click.echo(printable(f"{counted(len(result.files), 'file')} in {result.folder}{where}"))
