"""`edgecnn train --from RUN --add SAMPLES`: go on from a run, with pictures that were added to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgecnn.text import percent, printable

if TYPE_CHECKING:
    from edgecnn_export.successor import Comparison, Paired
    from edgecnn_export.training.continuation import ContinuedRun

_OF_A_BEGINNING = (
    *("task", "network", "teacher", "budget_ms", "max_kb", "group_by", "rule", "stored", "conflicts"),
    *("only_good", "false_alarms"),
)
_VERDICTS = {
    "better": "better: it is surely right more often",
    "no worse": "no worse: it surely loses no more than a point",
    "worse": "worse",
    "undecided": "neither shown to be better nor to be worse",
}


def check_continuing(context: click.Context) -> Path:
    """Return where the new run is put.

    Raises InputError for an option that a training from a run would ignore, where nothing is added, and where the new run
    cannot be put there.
    """
    from edgecnn.errors import InputError
    from edgecnn_export.reference import MODEL_FILE
    from edgecnn_export.run_folder import check_apart, next_folder

    for parameter in context.command.params:
        name = parameter.name or ""
        if name in _OF_A_BEGINNING and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            called = "TASK" if name == "task" else max(parameter.opts, key=len)
            raise InputError(f"{called} is for a training from the beginning; --from keeps what the run says: leave it out")
    if not context.params["add"]:
        raise InputError("--from needs --add DIR: a samples folder, what edgecnn samples export wrote, or class folders")
    source: Path = context.params["source"]
    run = source.parent if source.name == MODEL_FILE else source
    out: Path = context.params["out"] or next_folder(run)
    check_apart(run, out, resume=context.params["resume"])
    return out


def continue_run(values: Mapping[str, Any], out: Path) -> ContinuedRun:
    """Train further by the parameters of the command, say how the models compare, and return what came of it."""
    from edgecnn_export.training.continuation import continue_training, open_start

    size_hw, fit = values["size_hw"], values["fit"]
    height, width = size_hw or (None, None)
    start = open_start(
        values["source"],
        new_classes=values["new_class"],
        data=values["data"],
        height=height,
        width=width,
        color=values["color"],
        fit=None if fit == "auto" else fit,
    )
    names = ("epochs", "minutes", "batch_size", "seed", "resume", "devices")
    return continue_training(
        start,
        values["add"],
        out=out,
        progress=lambda line: click.echo(line, err=True),
        **{name: values[name] for name in names},
    )


def tell_comparison(found: ContinuedRun) -> None:
    """Say how old and new model compare on the same pictures."""
    if found.comparison is not None:
        _tell_verdict(found.comparison)
    if found.field is not None:
        _tell_field(found.field)
    elif found.comparison is not None:
        click.echo("field test: none, since no added sample was kept at random (edgecnn camera --keep-every)")
    click.echo(printable(f"next: edgecnn export {found.run.folder} --int8"))


def _tell_verdict(found: Comparison) -> None:
    for line in found.notes:
        click.echo(printable(f"note: {line}"), err=True)
    rows = [("all", found.overall.get("right")), ("kept in doubt, which do not decide", found.chosen.get("right"))]
    rows += [(name, row) for name, row in found.classes.items() if row.lost or row.gained]
    for name, row in rows:
        if row is not None:
            click.echo(printable(f"right before and now, {name}: {_pair(row)}"))
    if found.decides != "right" and found.decides in found.overall:
        click.echo(f"{found.decides} before and now, which decides: {_pair(found.overall[found.decides])}")
    for reason in found.reasons:
        click.echo(printable(reason))
    click.echo(f"the new model is {_VERDICTS[found.verdict]}")


def _tell_field(row: Paired) -> None:
    from edgecnn.metrics import wilson_interval

    right = round(row.new * row.count)
    figure = percent(row.new, wilson_interval(right, row.count))
    click.echo(f"field test, kept at random and never trained on: {right} of {row.count} right, {figure}; before {row.old:.1%}")


def _pair(row: Paired) -> str:
    low, high = row.interval
    return f"{row.old:.1%} and {row.new:.1%} of {row.count} (gain {100 * low:+.1f} to {100 * high:+.1f} points)"


def source_options(command: Any) -> Any:
    """Add --from, --add and --new-class."""
    for option in reversed(
        (
            click.option(
                "--from",
                "source",
                metavar="RUN",
                type=click.Path(path_type=Path),
                help="Instead of TASK: go on from this run, with its weights, split, classes and input.",
            ),
            click.option(
                "--add",
                multiple=True,
                metavar="DIR",
                type=click.Path(path_type=Path),
                help="With --from: what to learn more from, a camera's samples folder or class folders; may be given often.",
            ),
            click.option("--new-class", multiple=True, metavar="NAME", help="With --from: a class that the run does not know."),
        )
    ):
        command = option(command)
    return command
