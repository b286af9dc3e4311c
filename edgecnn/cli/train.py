"""`edgecnn train`: from a data set to a reference model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.command import Command, Need, Values, check_needs
from edgecnn.cli.continuation import source_options
from edgecnn.cli.only_good import train_good
from edgecnn.cli.options import (
    Count,
    Duration,
    Number,
    Share,
    data_option,
    group_by_option,
    input_options,
    own_folder,
    seed_option,
    task_and_folder,
)
from edgecnn.text import printable

if TYPE_CHECKING:
    from edgecnn.datasets.dataset import Splits
    from edgecnn_export.run_folder import RunFolders
    from edgecnn_export.training import TrainingRun
    from edgecnn_export.training.auto import Choice

_SEVERAL = "several classes: omit it, or --only-good"


def _of_classes(text: str = _SEVERAL, met: Callable[[Values], bool] = lambda values: True) -> Need:
    """Need a training of several classes, and what else is to be met."""
    return Need(text, lambda values: not values["only_good"] and met(values))


_WITH_AUTO = _of_classes("--network auto, without --only-good", lambda values: values["network"] == "auto")
_FOR_CLASSES = ("network", "epochs", "minutes", "batch_size", "rule", "stored", "conflicts", "resume", "devices")


@click.command(
    cls=Command,
    needs={
        **dict.fromkeys(_FOR_CLASSES, _of_classes()),
        "teacher": _of_classes("--network compact, without --only-good", lambda values: values["network"] == "compact"),
        "budget_ms": _WITH_AUTO,
        "max_kb": _WITH_AUTO,
        "false_alarms": Need.one_of("--only-good"),
        "report": Need(_SEVERAL, lambda values: not (values["only_good"] and values["report"])),
        "add": Need("--from RUN", lambda values: values["source"] is not None),
        "new_class": Need("--from RUN", lambda values: values["source"] is not None),
    },
    short_help="Train a model on MNIST, NEU or a folder of pictures per class.",
)
@click.argument("task", required=False)
@source_options
@click.option(
    "--network",
    type=click.Choice(("auto", "compact", "lite", "course", "mobilenet")),
    default="auto",
    show_default=True,
    help="Network; lite is EfficientNet-Lite0, pretrained on ImageNet, auto the better choice of compact and lite.",
)
@click.option(
    "--teacher",
    type=click.Choice(("lite", "none")),
    default="lite",
    show_default=True,
    help="Network that is trained first and teaches compact.",
)
@click.option("--budget-ms", type=Number(0.001, 100_000), help="auto: at most this long per picture, measured here as int8.")
@click.option("--max-kb", type=Number(1, 1_000_000), help="auto: at most this size of the int8 .tflite file, in 1000 bytes.")
@click.option(
    "--epochs",
    type=Count(0, 100_000),
    help="Passes over the training pictures; 0 fits only the last layer of lite. Default: the recipe's.",
)
@click.option(
    "--minutes",
    type=Duration(0.01, 100_000, unit="m"),
    help="Instead of --epochs: as many as fit into this time, such as 10 or 2h. Reading the pictures before it, measuring the "
    "int8 files and the report behind it come on top.",
)
@click.option("--batch-size", type=Count(1, 65536), help="Pictures per step. Default: the recipe's.")
@seed_option
@data_option
@group_by_option
@click.option(
    "--split",
    "rule",
    type=click.Choice(["grouped", "random"]),
    default="grouped",
    show_default=True,
    help="How pictures are split; random, the common way, lets overlapping pictures leak.",
)
@click.option(
    "--splits",
    "stored",
    metavar="RUN|FILE|new",
    help="Keep the split of this run or splits.csv and deal only new pictures to it; new divides again. Default: the split of "
    "the run that --out replaces.",
)
@input_options
@click.option(
    "--conflicts",
    type=click.Choice(["refuse", "drop", "keep"]),
    help="When two class folders hold the same picture: refuse the folder (default), drop such pictures, or keep them.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the run. Default: runs/TASK, for a stated network runs/TASK-NETWORK.",
)
@click.option("--resume", is_flag=True, help="Continue from the checkpoint in the run's folder.")
@click.option(
    "--devices",
    type=Count(1, 64),
    default=1,
    show_default=True,
    help="GPUs, or without one CPUs, that share each batch.",
)
@click.option("--only-good", is_flag=True, help="TASK is a folder of good parts only: learn to tell odd ones.")
@click.option(
    "--false-alarms", type=Share(), help="With --only-good: share of good parts that may be called novel. Default: 1%."
)
@click.option(
    "--report/--no-report",
    default=None,
    help="Write report.html, which takes up to two minutes. Default: yes, with --from no.",
)
@click.pass_context
def train(
    context: click.Context,
    /,
    task: str | None,
    source: Path | None,
    add: tuple[Path, ...],
    new_class: tuple[str, ...],
    network: str,
    epochs: int | None,
    minutes: float | None,
    batch_size: int | None,
    seed: int,
    data: Path | None,
    group_by: str | None,
    rule: str,
    stored: str | None,
    color: Any,
    size_hw: tuple[int, int] | None,
    fit: Any,
    conflicts: Any,
    out: Path | None,
    resume: bool,
    devices: int,
    only_good: bool,
    false_alarms: float | None,
    teacher: str,
    budget_ms: float | None,
    max_kb: float | None,
    report: bool | None,
) -> int:
    """Train a network for TASK: mnist, neu, or a folder that holds one folder of pictures per class.

    A folder with train, val and test (or train and test), each with class folders, keeps its own split; any other is split
    70 : 15 : 15, with pictures of the same part kept together. Training a folder again into the same run keeps the split: no
    picture moves, and new ones are dealt to it. What was read and what was left out is printed on stderr.

    lite starts from ImageNet weights: its last layer is fitted to the training pictures in seconds to a minute, then its last
    stages are trained on augmented pictures. compact is small, and learns from a lite that is trained before it, unless
    --teacher none. auto trains both, measures their int8 files on the validation pictures, and takes the smaller one unless
    lite is better beyond chance, or by more than two points where the pictures are too few to prove it. Digits and pictures
    below 32 pixels per side are for compact alone. Other networks start from random weights.

    With --from RUN --add DIR, a run learns from more pictures, such as the labelled samples of a camera: in minutes, since it
    starts from the run's weights. The run's split is kept, its pictures are shown again beside the new ones, and labels that it
    does not know are refused unless --new-class. What the camera kept at random is never trained on: it is the field test. RUN
    stays as it is; the new run is written to RUN-2 (RUN-3, ...) or --out, with copies of the added pictures, and compared with
    RUN at the end.

    With --only-good, lite is taken as it is: a part is novel when a place of it looks like none of the good parts. It has no
    report and no curves, and good parts are divided again each time.

    Writes model.keras, training.json, curves.png and, for pictures in a folder, pictures.png (what the network sees),
    splits.csv (each picture's split and SHA-256) and report.html: mistakes, label suspects, what to photograph next. Ctrl-C
    stops after the current batch and keeps the best weights; continue with --resume.
    """
    check_needs(context)
    if source is not None:
        return _continue(context)
    if task is None:
        raise click.UsageError("Missing argument 'TASK': mnist, neu or a folder; or --from RUN --add DIR.", context)
    from edgecnn.datasets.kept_split import keep_split, table_to_keep
    from edgecnn.datasets.load import load_splits
    from edgecnn.datasets.reading import InputChoice
    from edgecnn.datasets.split import deal_at_random
    from edgecnn.files import check_replaceable
    from edgecnn_export.frameworks import check_keras, require_keras

    check_keras()
    choice = InputChoice.stated(color, fit, size_hw, "lite" if only_good else network)
    taught = network == "compact" and teacher == "lite"
    folders = _folders(task, "only-good" if only_good else network, taught, out)
    folders.check(resume=resume)
    out, own = folders.out, data is None and own_folder(task) is not None
    table = None if only_good else table_to_keep(stored, own=own, random=rule == "random", out=out)
    page = out / "report.html"
    check_replaceable(page)
    chosen, folder = task_and_folder(
        task, data, choice=choice, conflicts=conflicts, default_conflicts="refuse", group_by=group_by, only_good=only_good
    )
    splits = load_splits(chosen, folder, seed)
    if table is not None:
        splits = keep_split(splits, len(chosen.labels), table, seed=seed, stated=stored is not None)
    if rule == "random":
        splits = deal_at_random(splits, seed)
    counts = f"{len(splits.train)} pictures; validation: {len(splits.validation)}, test: {len(splits.test)}"
    click.echo(f"{splits.info.describe('train')}: {counts}", err=True)
    require_keras()  # quietly, before any module imports it loudly
    if only_good:
        train_good(chosen, splits, out, false_alarms, seed)
        page.unlink(missing_ok=True)  # of a training that was here before
        return 0
    options: dict[str, Any] = {
        "out": out,
        "epochs": epochs,
        "minutes": minutes,
        "batch_size": batch_size,
        "seed": seed,
        "resume": resume,
        "devices": devices,
        "progress": lambda line: click.echo(line, err=True),
    }
    with _telling_what_is_kept(folders):
        if network == "auto":
            from edgecnn_export.training.auto import Limits, train_auto

            run, taken = train_auto(chosen, splits, limits=Limits(budget_ms, max_kb), **options)
        else:
            from edgecnn_export.training import train as run_training

            run, taken = run_training(chosen, splits, model=network, teacher=taught, **options), None
    _tell(run, taken, splits)
    page.unlink(missing_ok=True)  # of a training that was here before
    if run.interrupted:
        return _interrupted(run)
    if report is not False and splits.storable:
        from edgecnn_export.studies.report import write_report

        click.echo(f"report: {write_report(run, splits, seed=seed)}")
    return 0


def _folders(task: str, kind: str, taught: bool, out: Path | None) -> RunFolders:
    """Return where a training of TASK is put, by default a folder that is called after the task and the network."""
    from edgecnn.datasets.folder import task_name
    from edgecnn_export.run_folder import RunFolders, usual_folder

    pictures = own_folder(task)
    name = task if pictures is None else task_name(pictures)
    return RunFolders.of(out or usual_folder(name, kind), kind, teacher=taught)


@contextlib.contextmanager
def _telling_what_is_kept(folders: RunFolders) -> Iterator[None]:
    """Let a Ctrl-C that ends the training, of a teacher for instance, say what is kept."""
    try:
        yield
    except KeyboardInterrupt:
        kept = folders.kept()
        raise KeyboardInterrupt(*([] if kept is None else [kept])) from None


def _interrupted(run: TrainingRun) -> int:
    advice = "; continue with --resume" if run.resumable else ""
    click.echo(f"interrupted: these are the best weights so far{advice}", err=True)
    return 130


def _continue(context: click.Context) -> int:
    """Go on from a run."""
    from edgecnn.cli.continuation import check_continuing, continue_run, tell_comparison
    from edgecnn_export.frameworks import require_keras
    from edgecnn_export.run_folder import RunFolders

    out = check_continuing(context)
    require_keras()
    with _telling_what_is_kept(RunFolders(out, out)):
        found = continue_run(context.params, out)
    _tell(found.run, None, found.splits)
    if found.run.interrupted:
        return _interrupted(found.run)
    tell_comparison(found)
    if context.params["report"]:
        from edgecnn_export.studies.report import write_report

        click.echo(f"report: {write_report(found.run, found.splits, seed=context.params['seed'])}")
    return 0


def _tell(run: TrainingRun, taken: Choice | None, splits: Splits) -> None:
    """Say what was trained, which network was taken, and how well it does on the validation pictures."""
    from edgecnn.rejection.evidence import MIN_PICTURES

    if taken is not None:
        click.echo("\n".join([*map(str, taken.candidates), f"network: {taken.network}: {taken.reason}"]))
    low, high = run.validation_interval
    beside = "training.json, curves.png" + (" and the split in splits.csv" if run.record["splits_table"] else "")
    click.echo(f"model: {run.folder / 'model.keras'} (beside it {beside})")
    click.echo(
        f"{splits.info.describe('validation')}: {run.validation_accuracy:.4f} ({run.correct} of {run.count}; "
        f"95 % interval {low:.4f} to {high:.4f}; mean recall of the classes {run.record['validation']['macro_recall']:.4f})"
    )
    for label in run.unmeasured_classes:
        click.echo(printable(f"not measurable: {label}, which has no validation pictures"))
    for label, right, count in run.weak_classes:
        click.echo(printable(f"weak: {label}, {right} of {count} validation pictures right"))
    if run.guesses:
        click.echo("WARNING: no better than always naming the commonest class: train longer, or look at labels and pictures")
    if len(splits.validation) < MIN_PICTURES:
        click.echo(
            "WARNING: an export of this model will call no picture unsure or novel, whatever it shows: "
            f"{len(splits.validation)} validation pictures promise nothing, at least {MIN_PICTURES} are needed; "
            "add pictures and train again"
        )
