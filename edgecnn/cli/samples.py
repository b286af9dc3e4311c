"""`edgecnn samples`: what a camera kept, and what people say of it."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.command import Group
from edgecnn.cli.options import echo_json, json_option
from edgecnn.text import aligned, counted, near_miss, printable

if TYPE_CHECKING:
    from edgecnn.samples.folder import Sample, SampleFolder
    from edgecnn.samples.labels import Labels

_FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_BY = click.option("--by", metavar="NAME", help="Who says so. Default: the user who is logged in.")
_SHOWN_LEFT_OUT = 5
_SHOWN_UNDONE = 3


@click.group(cls=Group)
def samples() -> None:
    """List, label, export and import what a camera kept.

    DIR is the folder of `edgecnn camera --keep DIR`. Labels are appended to DIR/labels.jsonl: who said what and when. Nothing
    is ever rewritten, an undo is a further line, and of labels that contradict each other the latest holds.
    """


@samples.command("list")
@_FOLDER
@click.option("--unlabelled", is_flag=True, help="Those without a label only.")
@click.option(
    "--kept",
    "reason",
    type=click.Choice(["random", "novel", "unsure", "disagrees"]),
    help="Those that were kept for this reason only.",
)
@click.option(
    "--sort",
    type=click.Choice(["time", "doubt", "novelty"]),
    default="time",
    show_default=True,
    help="Order: oldest, most doubtful or most novel first.",
)
@json_option
def list_(folder: Path, unlabelled: bool, reason: str | None, sort: str, as_json: bool) -> None:
    """Show samples: why each was kept, what the model answered, and its label."""
    found, labels = _read(folder)
    chosen = [s for s in found.samples if reason is None or reason in s.reasons]
    chosen = [s for s in chosen if not (unlabelled and s.name in labels.of)]
    if sort != "time":
        chosen.sort(key=lambda s: -(s.doubt if sort == "doubt" else s.novelty or 0.0))
    if as_json:
        echo_json({"samples": [_body(s, labels) for s in chosen], "broken": found.broken, "damaged_lines": labels.damaged})
        return
    classes = found.classes()
    rows = [[s.name, *_cells(s, labels, classes)] for s in chosen]
    for line in aligned([["sample", "kept", "answer", "p", "novelty", "label"], *rows], left=3) if rows else []:
        click.echo(printable(line))
    _remarks(found, labels, chosen)


@samples.command()
@_FOLDER
@click.argument("names", metavar="[SAMPLE]...", nargs=-1)
@click.option("--as", "label", metavar="LABEL", help="The class; a new one is allowed.")
@click.option("--other", is_flag=True, help="None of these: of no class, to be told from them.")
@click.option("--bad", is_flag=True, help="A bad picture: nothing is to be learned from it.")
@click.option("--undo", is_flag=True, help="Take back your last label instead.")
@_BY
def label(folder: Path, names: tuple[str, ...], label: str | None, other: bool, bad: bool, undo: bool, by: str | None) -> None:
    """Label samples by their names, or take back the last label."""
    from edgecnn.datasets.layout import OTHERS
    from edgecnn.errors import InputError
    from edgecnn.samples.labels import BAD, LabelLog

    meant = label, OTHERS if other else None, BAD if bad else None, "" if undo else None
    given = [each for each in meant if each is not None]
    if len(given) != 1:
        raise InputError("give one of --as LABEL, --other, --bad and --undo")
    (found, labels), log, person = _read(folder), LabelLog(folder), by or getpass.getuser()
    if undo:
        if names:
            raise InputError("--undo takes back your last label whole; omit the samples")
        taken = log.undo(by=person).undo
        undone = next(act for act in log.read().acts if act.act == taken)
        click.echo(printable(f"taken back: {undone.label} on {_named(undone.samples)}"))
        return
    if not names:
        raise InputError(f"name the samples; list them with: edgecnn samples list {folder}")
    act = log.label([found[name].name for name in names], given[0], by=person)
    click.echo(printable(f"{counted(len(act.samples), 'sample')} labelled {act.label} by {act.by}"))
    known = {*found.classes(), *(said.label for said in labels.of.values())} - {OTHERS, BAD}
    if act.label not in (OTHERS, BAD, *known):
        click.echo(printable(f"note: {_news(str(act.label), sorted(known))} --undo takes the label back"), err=True)


@samples.command()
@_FOLDER
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["folder", "csv", "label-studio"]),
    default="folder",
    show_default=True,
    help="folder: OUT/<class>/ with OUT/samples.csv, for: edgecnn train OUT --group-by OUT/samples.csv.",
)
@click.option("--with-random", is_flag=True, help="Into a folder, too, what was kept at random: it cannot measure any more.")
def export(folder: Path, out: Path, form: Any, with_random: bool) -> None:
    """Write labelled samples as class folders, a table or Label Studio tasks.

    Pictures of one event (close in time, or alike to the model) have one group in the table, so that no split divides them.
    What was kept at random stays out of a folder, with all of its event: by it, and by nothing that was trained on, can the
    next model be measured (edgecnn compare --field DIR).
    """
    from edgecnn.errors import InputError
    from edgecnn.samples.exchange import export_samples

    if with_random and form != "folder":
        raise InputError(f"--with-random needs --format folder; {form} has all samples")
    found, labels = _read(folder)
    done = export_samples(found, labels, out, form, with_random=with_random)
    counts = ", ".join(f"{count} {label}" for label, count in done.counts.items()) or "nothing new"
    click.echo(printable(f"{out}: {counts}"))
    _show_left_out(done.left_out)


@samples.command("import")
@_FOLDER
@click.argument("source", metavar="SOURCE", type=click.Path(path_type=Path))
@_BY
def import_(folder: Path, source: Path, by: str | None) -> None:
    """Read labels from class folders, a CSV table (file, label) or an export of Label Studio (.json)."""
    from edgecnn.samples.exchange import import_labels
    from edgecnn.samples.labels import LabelLog

    done = import_labels(_read(folder)[0], LabelLog(folder), source, by=by or getpass.getuser())
    counts = ", ".join(f"{count} {label}" for label, count in done.counts.items()) or "nothing new"
    click.echo(printable(f"labelled: {counts}; {done.unchanged} had that label already"))
    _show_left_out(done.left_out)


def _read(folder: Path) -> tuple[SampleFolder, Labels]:
    from edgecnn.samples.folder import read_samples
    from edgecnn.samples.labels import LabelLog

    return read_samples(folder), LabelLog(folder).read()


def _body(sample: Sample, labels: Labels) -> dict[str, Any]:
    said = labels.of.get(sample.name)
    if said is None:
        return sample.to_json() | {"label": None}
    head = {"label": said.label, "by": said.act.by, "labelled_at": said.act.at}
    return sample.to_json() | head | {"contradicts": [[act.label, act.by] for act in said.others]}


def _cells(sample: Sample, labels: Labels, classes: tuple[str, ...]) -> list[str]:
    said = labels.of.get(sample.name)
    label = "" if said is None else said.label + (" (contradicted)" if said.others else "")
    # Where models named one class alone, as those of good parts do, it is no guess at what is novel.
    says_all = sample.guess in (None, sample.answer) or (sample.answer == "novel" and len(classes) == 1)
    answer = sample.answer if says_all else f"{sample.answer} ({sample.guess}?)"
    novelty = "" if sample.novelty is None else f"{sample.novelty:.2f}"
    state = label if sample.picture is not None else f"{label} (picture is gone)".strip()
    return [" ".join(sample.reasons), answer, f"{sample.probability:.2f}", novelty, state]


def _news(label: str, known: list[str]) -> str:
    """Say that a class is new to samples, and which known one may be meant."""
    from edgecnn.datasets.layout import alike

    if remarks := set(alike([*known, label])).difference(alike(known)):
        return min(remarks)
    listed = f"known: {', '.join(known) or 'none'}"
    return f"{label!r} is a new class of these samples ({near_miss(label, known, listed)})."


def _named(samples: Sequence[str]) -> str:
    """Return how many samples there are, with the names of the first."""
    more = ", ..." if len(samples) > _SHOWN_UNDONE else ""
    return f"{counted(len(samples), 'sample')} ({', '.join(samples[:_SHOWN_UNDONE])}{more})"


def _remarks(found: SampleFolder, labels: Labels, shown: list[Sample]) -> None:
    names = {sample.name for sample in found.samples}
    labelled = sum(name in names for name in labels.of)
    click.echo(f"{counted(len(shown), 'sample')} shown of {len(names)}, {labelled} labelled")
    for sample in shown:
        said = labels.of.get(sample.name)
        if said is not None and said.contradiction is not None:
            click.echo(printable(f"{sample.name}: {said.contradiction}"))
    if lost := len(labels.of) - labelled:
        click.echo(f"{counted(lost, 'label')} of samples that are gone")
    if labels.damaged:
        click.echo(f"{counted(labels.damaged, 'line')} of labels.jsonl cannot be read and not counted", err=True)
    for name, why in list(found.broken.items())[:_SHOWN_LEFT_OUT]:
        click.echo(f"{name} {why}; left out", err=True)


def _show_left_out(left_out: dict[str, str]) -> None:
    reasons: dict[str, list[str]] = {}
    for name, why in left_out.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        click.echo(printable(f"left out: {names[0]}{more}: {why}"), err=True)
