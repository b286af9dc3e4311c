"""`edgecnn compare`: may a new model take the place of an old one?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.cli.command import Command
from edgecnn.cli.options import Number, echo_json, group_by_option, json_option, runtime_options, seed_option
from edgecnn.text import aligned, printable

if TYPE_CHECKING:
    from edgecnn_export.successor import Comparison, Paired

_EXAMPLES = (
    "edgecnn compare old-int8.tflite new-int8.tflite --data set-aside",
    "edgecnn compare old-int8.tflite new-int8.tflite --field samples",
    "edgecnn compare old-int8.tflite new-int8.tflite --data my-parts --splits runs/my-parts/splits.csv",
)
_WORDS = {
    "better": "better: it is surely right more often",
    "no worse": "no worse: it surely loses no more than is allowed",
    "worse": "worse",
    "undecided": "undecided",
}


@click.command(
    cls=Command, short_help="Say whether a new model is better, no worse or worse than an old one.", examples=_EXAMPLES
)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@click.option("--data", type=click.Path(path_type=Path), help="Class folders with pictures that neither model was trained on.")
@click.option(
    "--field",
    type=click.Path(path_type=Path),
    metavar="SAMPLES",
    help="Labelled samples of edgecnn camera --keep. Those kept at random decide; those kept in doubt are shown.",
)
@click.option(
    "--splits",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN/splits.csv",
    help="Leave out of --data what this run was trained on or chosen by; may be given for each model.",
)
@group_by_option
@click.option(
    "--max-drop", type=Number(0, 100), default=1.0, show_default=True, help="Allowed loss in percentage points for no worse."
)
@click.option(
    "--confidence", type=Number(0.5, 0.9999), default=0.95, show_default=True, help="Confidence of each end of an interval."
)
@seed_option
@runtime_options
@json_option
@click.pass_context
def compare(
    context: click.Context,
    /,
    old: str,
    new: str,
    data: Path | None,
    field: Path | None,
    splits: tuple[Path, ...],
    group_by: str | None,
    max_drop: float,
    confidence: float,
    seed: int,
    runtime: str | None,
    threads: int,
    as_json: bool,
) -> None:
    """Let two exported models answer the same pictures: overall, per class, and how often they are unsure or call them novel.

    OLD and NEW may be of folders of different names: a task is its labels and its input. For models of good parts only, --data
    holds these in its folder `good`, and damaged parts in any other. Exits with 0 when NEW is better or no worse, with 1 when
    it is worse, with 3 when the pictures cannot decide, with 2 on bad input.
    """
    from edgecnn.classifier import Classifier
    from edgecnn.errors import InputError
    from edgecnn_export.successor import EXIT_CODES, compare_models, find_field_pictures, find_pictures

    if data is None and field is None:
        raise InputError("compare on which pictures? give --data DIR, --field SAMPLES, or both")
    for option, given in (("--splits", splits), ("--group-by", group_by)):
        if given and data is None:
            raise InputError(f"{option} needs --data DIR")
    first, second = (Classifier.open(each, runtime=runtime, threads=threads) for each in (old, new))
    alone = first.only_good and second.only_good
    pictures = [] if data is None else find_pictures(data, group_by=group_by, splits=splits, only_good=alone)
    pictures += [] if field is None else find_field_pictures(field)
    found = compare_models(first, second, pictures, max_drop=max_drop, confidence=confidence, seed=seed)
    if as_json:
        echo_json({"old": old, "new": new} | found.to_json())
    else:
        _show(found)
    context.exit(EXIT_CODES[found.verdict])


def _show(found: Comparison) -> None:
    for line in found.notes:
        click.echo(printable(f"note: {line}"), err=True)
    rows = [["share of pictures, in %", "old", "new", "gain", f"at {found.confidence:.0%} each", "lost", "gained", "of"]]
    rows += [_row(f"{name}{' *' if name == found.decides else ''}", row) for name, row in found.overall.items()]
    if found.classes:
        rows += [["right, by class"], *(_row(f"  {label}", row) for label, row in found.classes.items())]
    if found.chosen:
        rows += [["kept for the old model's doubt"], *(_row(f"  {name}", row) for name, row in found.chosen.items())]
    for line in aligned(rows):
        click.echo(printable(line))
    for reason in found.reasons:
        click.echo(printable(reason))
    click.echo(f"the new model is {_WORDS[found.verdict]}" if found.verdict != "undecided" else "undecided")


def _row(name: str, row: Paired) -> list[str]:
    low, high = row.interval
    figures = [f"{100 * row.old:.1f}", f"{100 * row.new:.1f}", f"{100 * row.gain:+.1f}"]
    return [name, *figures, f"{100 * low:+.1f} to {100 * high:+.1f}", str(row.lost), str(row.gained), str(row.count)]
