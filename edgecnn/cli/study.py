"""`edgecnn study`: many trainings for one answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecnn.cli.command import Command, Group, Need, check_needs
from edgecnn.cli.options import (
    EPOCHS,
    JOBS,
    OUTPUT_FILE,
    Count,
    Duration,
    Number,
    Share,
    data_option,
    echo_json,
    group_by_option,
    input_options,
    json_option,
    seed_option,
    split_option,
    task_and_folder,
)
from edgecnn.text import printable

if TYPE_CHECKING:
    from edgecnn.datasets.dataset import Splits
    from edgecnn.tasks import Task
    from edgecnn_export.studies.frozen import Frozen

F = TypeVar("F", bound=Callable[..., Any])
SCHEDULER = click.option(
    "--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers do the work, such as tcp://192.168.1.5:8786."
)
PER_CLASS = click.option("--per-class", type=Count(2, 1_000_000), help="Use only so many training pictures of each class.")
TEACHER = click.option(
    "--teacher", type=click.Choice(["none", "lite"]), default="none", show_default=True, help="Network that teaches compact."
)
_NEEDS = {"jobs": Need("no --scheduler, whose workers it would not count", lambda values: values["scheduler"] is None)}
_TAUGHT = {"teacher": Need("--network compact", lambda values: values["network"] == "compact")}


@click.group(cls=Group, short_help="Longer measurements: cross-validation, ablation, learning curves, maps.")
def study() -> None:
    """Measure what takes longer.

    A study that trains takes hours: Ctrl-C stops it, and the same command continues it. Trainings that were made in another
    way, by the recipe of another version for instance, are not mixed in: one line names what differs.
    """


def _study_options(command: F) -> F:
    """Add what every study takes: TASK, --epochs, --jobs, --scheduler, --data, how a folder is read, --out and --json."""
    for option in (
        input_options,
        json_option,
        click.option("--out", type=click.Path(path_type=Path), help="Folder of the study. Default: below runs/."),
        group_by_option,
        data_option,
        SCHEDULER,
        click.option("--jobs", type=JOBS, default=1, show_default=True, help="Trainings to run at the same time."),
        click.option("--epochs", type=EPOCHS, help="Passes over the training pictures; 0 fits only lite's last layer."),
        click.argument("task", metavar="TASK|DIR"),
    ):
        command = option(command)
    return command


@study.command(cls=Command, needs=_NEEDS | _TAUGHT, short_help="Hold every picture out once, overlapping ones together.")
@_study_options
@click.option(
    "--network", type=click.Choice(("compact", "lite", "course")), default="compact", show_default=True, help="Network."
)
@TEACHER
@click.option("--folds", type=Count(3, 20), default=5, show_default=True, help="Number of folds.")
@click.option(
    "--split",
    "rule",
    type=click.Choice(["grouped", "random", "both"]),
    default="both",
    show_default=True,
    help="How folds are made; random lets overlapping pictures leak.",
)
@click.option("--seeds", type=Count(1, 20), default=1, show_default=True, help="Repeat with so many seeds, from --seed on.")
@PER_CLASS
@seed_option
@click.option("--with-test", is_flag=True, help="Take the test split too: for folders that are too small to keep one.")
def crossval(
    task: str,
    data: Path | None,
    *,
    network: str,
    folds: int,
    rule: str,
    seeds: int,
    per_class: int | None,
    seed: int,
    with_test: bool,
    **values: Any,
) -> None:
    """Train a network for TASK, or for DIR/<class>/<pictures>, once per fold, and measure it on the pictures held out.

    Each model is also exported, and its int8 file measured. With --teacher lite a teacher is trained for each fold too. The
    test split of the data stays untouched unless --with-test: then all pictures are learned from and held out in turn, and
    whatever is chosen by it can be proven on new pictures only.
    """
    chosen, splits = _load(task, data, values, 0, network)
    from edgecnn_export.studies.crossval import cross_validate, format_table, to_json

    found = cross_validate(
        chosen,
        splits,
        out=values["out"] or Path("runs") / f"{chosen.name}-{network}-crossval",
        model=network,
        teacher=values["teacher"] == "lite",
        rules=("grouped", "random") if rule == "both" else (rule,),  # type: ignore[arg-type]  # click has checked it
        folds=folds,
        seeds=range(seed, seed + seeds),
        epochs=values["epochs"],
        per_class=per_class,
        with_test=with_test,
        jobs=values["jobs"],
        scheduler=values["scheduler"],
        progress=_progress,
    )
    if values["as_json"]:
        echo_json(to_json(found))
        return
    kind = "synthetic pictures of " if splits.info.synthetic else ""
    pool = [splits.train, splits.validation, *([splits.test] if with_test else [])]
    click.echo(f"{kind}{splits.info.source}, {sum(map(len, pool))} pictures, {folds} folds")
    click.echo(format_table(found))
    for name, times in list(found.mistakes.items())[:20]:
        click.echo(printable(f"wrong in int8, {times} time(s): {name}"))


@study.command(cls=Command, needs=_NEEDS, short_help="Train without each part of the recipe.")
@_study_options
@click.option("--variant", "names", multiple=True, help="Only this variant; repeatable. Default: all.")
@click.option("--minutes", type=Duration(0.01, 100_000, unit="m"), help="Instead of --epochs: the time of each training.")
@PER_CLASS
@seed_option
def ablation(
    task: str,
    data: Path | None,
    *,
    names: tuple[str, ...],
    minutes: float | None,
    per_class: int | None,
    seed: int,
    **values: Any,
) -> None:
    """Train the compact network by variants of its recipe, and measure each on validation, clean and corrupted."""
    chosen, splits = _load(task, data, values, seed)
    from edgecnn_export.studies.ablation import ablate, format_table

    where = values["out"] or Path("runs") / f"{chosen.name}-ablation"
    rows = ablate(
        chosen,
        splits,
        out=where,
        names=names,
        epochs=values["epochs"],
        minutes=minutes,
        per_class=per_class,
        seed=seed,
        jobs=values["jobs"],
        scheduler=values["scheduler"],
        progress=_progress,
    )
    if values["as_json"]:
        import json

        echo_json(json.loads((where / "ablation.json").read_text(encoding="utf-8")))
        return
    click.echo(f"{splits.info.describe('validation')}, in percent; corruptions at severity 3; seed {seed}")
    click.echo(format_table(rows))


@study.command(
    "leave-one-out",
    cls=Command,
    needs=_NEEDS | _TAUGHT,
    short_help="Train without each class, and test on it.",
)
@_study_options
@click.option("--network", type=click.Choice(("compact", "lite")), default="compact", show_default=True, help="Network.")
@TEACHER
@seed_option
def leave_one_out(task: str, data: Path | None, *, seed: int, network: str, teacher: str, **values: Any) -> None:
    """Train once without each class, and measure how often the int8 file takes the class it has never seen for another."""
    chosen, splits = _load(task, data, values, seed, network)
    from edgecnn_export.studies.leave_one_out import format_table, leave_one_class_out

    rows = leave_one_class_out(
        chosen,
        splits,
        out=values["out"] or Path("runs") / f"{chosen.name}-{network}-left-out",
        epochs=values["epochs"],
        seed=seed,
        jobs=values["jobs"],
        scheduler=values["scheduler"],
        network=network,
        teacher=teacher == "lite",
        progress=_progress,
    )
    if values["as_json"]:
        echo_json({"seed": seed, "classes": [row.to_json() for row in rows]})
        return
    click.echo(f"{splits.info.source}, validation split beside the class left out, seed {seed}")
    click.echo(format_table(rows))


@study.command(short_help="Measure how well a model's map points at what was marked.")
@click.argument("model", metavar="FILE|TASK")
@click.option("--boxes", type=click.Path(path_type=Path), help="Table file,class,x,y,w,h. [default: boxes.csv of the data]")
@click.option("--masks", type=click.Path(path_type=Path), help="Folder of masks, named as the pictures.")
@click.option("--pasted", is_flag=True, help="Paste generated out-of-distribution patches into the pictures, and mark those.")
@click.option("--corruption", help="Measure under this camera corruption (edgecnn robustness --list).")
@click.option("--severity", type=Count(1, 5), default=3, show_default=True, help="Severity of --corruption.")
@split_option
@data_option
@seed_option
@json_option
def where(
    model: str,
    boxes: Path | None,
    masks: Path | None,
    pasted: bool,
    corruption: str | None,
    severity: int,
    split: str,
    data: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Compare an exported model's maps with boxes or masks: is the maximum on a mark, how well do pixels rank?

    The first map is of the places that speak for the most probable class, the second of those that make a picture novel. A
    marked defect is nothing novel; --pasted puts something novel into every picture instead.
    """
    from edgecnn.errors import InputError
    from edgecnn.robustness.corruptions import corruptions_for
    from edgecnn_export.models import open_model
    from edgecnn_export.studies.where import find_marks, format_table, measure_where, paste_patches

    if pasted and (boxes is not None or masks is not None):
        raise InputError("--pasted marks what it pastes; omit --boxes and --masks")
    opened = open_model(model)
    splits = opened.splits(data, seed)
    known = {each.name: each for each in corruptions_for(opened.task)}
    if corruption is not None and corruption not in known:
        raise InputError(f"unknown corruption {corruption!r}; known: {', '.join(known)}")
    pictures = splits[split]
    if pasted:
        pictures, marks = paste_patches(opened.task, pictures, seed)
    else:
        marks = find_marks(opened.task, splits, boxes, masks)
    rows = measure_where(
        opened.runtime,
        opened.task,
        pictures,
        marks,
        evidence=opened.evidence,
        corruption=None if corruption is None else known[corruption],
        severity=severity,
        seed=seed,
    )
    if as_json:
        echo_json({"model": model, "split": split, "seed": seed, "classes": [row.to_json() for row in rows]})
        return
    click.echo(printable(f"{model}, {splits.info.describe(split)}"))
    click.echo(format_table(rows))


@study.command(short_help="Measure how steadily the digits of a video are read.")
@click.argument("video", metavar="VIDEO", type=click.Path(path_type=Path))
@click.argument("labels", metavar="LABELS", type=click.Path(path_type=Path))
@click.option("--model", default="mnist", show_default=True, help="Model of handwritten digits: FILE or TASK.")
@click.option("--smooth", type=Count(1, 1000), default=5, show_default=True, help="Frames to average a digit's answers over.")
@json_option
def digits(video: Path, labels: Path, model: str, smooth: int, as_json: bool) -> None:
    """Read the digits of VIDEO (a video file or a folder of frames) as a live camera does, and compare with LABELS.

    LABELS is a table with the columns frame, digit, x, y, w, h, label: where a digit stands in a frame (from 0 on), under any
    name. Between two of its rows a digit moves evenly. Prints the accuracy over time, how often an answer changes per digit and
    minute, and whether each digit keeps its id.
    """
    from edgecnn.classifier import Classifier
    from edgecnn_device.digit_video import format_lines, read_labels, study_digits

    figures = study_digits(str(video), read_labels(labels), Classifier.open(model), smooth=smooth)
    if as_json:
        echo_json({"video": str(video), "model": model, "smooth": smooth, **figures.to_json()})
        return
    for line in format_lines(figures):
        click.echo(printable(line))


@study.command(short_help="Let pictures pass on a belt, and count and judge a trigger's answers.")
@click.argument("model", metavar="FILE|TASK")
@click.option("--trigger", default="line", show_default=True, help="motion or line, as of edgecnn camera.")
@click.option("--speed", type=Number(0.01, 10), default=0.15, show_default=True, help="Way per frame, in sides of a part.")
@click.option("--gap", type=Number(0.01, 100), default=0.6, show_default=True, help="Mean gap; half to one and a half of it.")
@click.option("--off-centre", type=Number(0, 2), default=0.12, show_default=True, help="How far parts lie from the middle.")
@click.option("--exposure", type=Number(0, 1), default=0.1, show_default=True, help="Share of a frame's time that blurs.")
@click.option("--view", type=Number(1.1, 20), default=3.0, show_default=True, help="Length of the view, in sides of a part.")
@click.option(
    "--direction", type=click.Choice(["right", "left", "down", "up"]), default="right", show_default=True, help="Of the belt."
)
@click.option("--smooth", type=Count(1, 100), default=5, show_default=True, help="Views of a part that are averaged.")
@click.option("--part-fill", type=Number(0.05, 1), help="Share of the view's side that a part fills. [default: least novel]")
@click.option("--pictures", type=Count(1, 10**6), help="Use only so many pictures, drawn by the seed.")
@split_option
@data_option
@seed_option
@json_option
def belt(
    model: str,
    trigger: str,
    smooth: int,
    part_fill: float | None,
    pictures: int | None,
    split: str,
    data: Path | None,
    seed: int,
    as_json: bool,
    **layout: Any,
) -> None:
    """Paste held-out pictures on a moving belt, and measure a camera's answers with and without a trigger.

    Counts parts that are answered once, and compares the accuracy per part with that on the pictures themselves. Frames are
    drawn: the belt is dark rubber, and each picture is a part to its very border.
    """
    import numpy as np

    from edgecnn.classifier import Classifier
    from edgecnn.datasets.synthetic.belt import Belt
    from edgecnn.errors import InputError
    from edgecnn_device.bench.belt import format_belt, measure_belt
    from edgecnn_device.triggers import Trigger
    from edgecnn_export.models import open_model

    asked = Trigger.parse(trigger)
    if not asked.follows:
        raise InputError(f"--trigger {trigger}: only motion and line follow parts")
    travel = Belt(**layout)
    splits = open_model(model).splits(data, seed)
    chosen = splits[split]
    if pictures is not None:
        chosen = chosen.take(np.sort(np.random.default_rng(seed).permutation(len(chosen))[:pictures]))
    found = measure_belt(Classifier.open(model), chosen, asked, travel, smooth=smooth, fill=part_fill, seed=seed)
    if as_json:
        echo_json({"model": model, "split": split, "seed": seed, "trigger": trigger, "belt": layout, **found.to_json()})
        return
    click.echo(printable(f"{model}, {splits.info.describe(split)}, {found.frames} frames, seed {seed}"))
    for line in format_belt(found):
        click.echo(line)


@study.command("only-good", short_help="Learn from good parts alone, and measure on damaged ones.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--others",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of damaged parts, each folder in it a kind; repeatable. What lies in DIR is left out.",
)
@click.option("--folds", type=Count(2, 20), default=2, show_default=True, help="Number of folds of the good parts.")
@click.option("--false-alarms", type=Share(), default=0.01, help="Share of good parts that may be called novel. Default: 1%.")
@group_by_option
@input_options
@seed_option
@json_option
def only_good(
    folder: Path,
    others: tuple[Path, ...],
    folds: int,
    false_alarms: float,
    group_by: str | None,
    color: Any,
    size_hw: tuple[int, int] | None,
    fit: Any,
    seed: int,
    as_json: bool,
) -> None:
    """Hold every good part in DIR out once, and measure how well int8 files of the others tell it from damaged ones."""
    from edgecnn.datasets.group_by import parse_group_by
    from edgecnn.datasets.reading import InputChoice
    from edgecnn_export.frameworks import require_keras

    require_keras()
    from edgecnn_export.studies.only_good import format_table, read_only_good, study_only_good

    stated = None if group_by is None else parse_group_by(group_by)
    data = read_only_good(folder, others, choice=InputChoice.stated(color, fit, size_hw, "lite"), group_by=stated)
    found = study_only_good(data, folds=folds, false_alarms=false_alarms, seed=seed, progress=_progress)
    if as_json:
        echo_json({"seed": seed, "folds": folds, **found.to_json()})
        return
    fitted = data.task.preprocessing
    click.echo(
        printable(f"{folder}, {len(data.good)} pictures as {fitted.height} x {fitted.width} {fitted.color}, seed {seed}")
    )
    for line in format_table(found).split("\n"):
        click.echo(printable(line))


@study.command("learning-curve", short_help="Say what more pictures of each class would bring.")
@click.argument("source", metavar="DIR|RUN|TASK")
@click.option("--more", type=Count(1, 100_000), default=20, show_default=True, help="So many more pictures of a class.")
@click.option("--plot", type=OUTPUT_FILE, help="Picture of the curves to write.")
@data_option
@group_by_option
@SCHEDULER
@seed_option
@json_option
def learning_curve(
    source: str,
    more: int,
    plot: Path | None,
    data: Path | None,
    group_by: str | None,
    scheduler: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Thin out each class of DIR/<class>/<pictures>, or of a training's RUN, and tell what more of it would bring.

    A head on features of the pretrained network is fitted to a quarter, a half and all of a class's groups, and asked about
    others. What more pictures bring is said up to twice those that there are. Takes a minute.
    """
    if plot is not None:
        from edgecnn_export.plots.figures import check_format

        check_format(plot)
    _check_scheduler(scheduler)
    frozen = frozen_features(source, data, group_by, seed)
    from edgecnn_export.studies.learning_curve import draw_curves, format_table
    from edgecnn_export.studies.learning_curve import learning_curve as measure

    found = measure(frozen, more=more, seed=seed, scheduler=scheduler)
    if plot is not None:
        draw_curves(found, plot)
    if as_json:
        echo_json({"source": source, "seed": seed} | found.to_json())
        return
    click.echo(
        printable(f"{source}: {found.pictures} pictures; a head on features of the pretrained network, held out by group")
    )
    for line in format_table(found).split("\n"):
        click.echo(printable(line))


@study.command("drift", short_help="Measure how soon a camera notices that its pictures have changed.")
@click.argument("model", metavar="FILE|RUN|TASK")
@split_option
@click.option("--severity", type=Count(1, 5), default=3, show_default=True, help="How strong the corruptions are.")
@click.option(
    "--frames",
    type=Count(100, 100_000_000),
    default=1_000_000,
    show_default=True,
    help="Clean frames in which to look for false alarms.",
)
@data_option
@seed_option
@json_option
def drift(model: str, split: str, severity: int, frames: int, data: Path | None, seed: int, as_json: bool) -> None:
    """Simulate cameras whose pictures change, and cameras whose pictures do not.

    Pictures of one split are shown one after the other, under each camera corruption, to the test that a camera runs (see
    edgecnn camera --drift), and as they are to look for false alarms. What is usual comes from pictures of other parts.
    """
    from edgecnn.classifier import Classifier
    from edgecnn.drift import has_usual
    from edgecnn.errors import InputError
    from edgecnn.robustness.corruptions import corruptions_for
    from edgecnn_export.models import open_model
    from edgecnn_export.studies.drift import format_table, study_drift, verdict

    opened = open_model(model)
    opened.require_classes()
    if opened.artifact is None:
        raise InputError(f"{model} is a Keras model, and a camera runs exported files: edgecnn export {model} --int8")
    classifier = Classifier.running(opened.runtime, opened.artifact.contract)
    if not has_usual(classifier.preprocessing):
        raise InputError(f"{model} reads digits: what is usual before a camera is learned there, with --drift-baseline")
    dataset, corruptions = opened.splits(data, seed)[split], corruptions_for(opened.task)
    found = study_drift(classifier, dataset, corruptions, severity=severity, frames=frames, seed=seed, progress=_progress)
    if as_json:
        echo_json({"model": model, "task": opened.task.name, "split": split, "seed": seed} | found.to_json())
        return
    click.echo(
        printable(f"{model}: {found.pictures} {split} pictures of {found.parts} parts, severity {severity}, seed {seed}")
    )
    for line in [*format_table(found), *verdict(found)]:
        click.echo(printable(line))


def _load(task: str, data: Path | None, values: dict[str, Any], seed: int, network: str = "compact") -> tuple[Task, Splits]:
    check_needs(click.get_current_context())
    from edgecnn.datasets.load import load_splits
    from edgecnn.datasets.reading import InputChoice
    from edgecnn_export.frameworks import check_keras, require_keras

    _check_scheduler(values["scheduler"])
    check_keras()
    choice = InputChoice.stated(values["color"], values["fit"], values["size_hw"], network)
    chosen, folder = task_and_folder(task, data, choice=choice, group_by=values["group_by"])
    splits = load_splits(chosen, folder, seed)
    require_keras()  # quietly, before any module imports it loudly
    return chosen, splits


def frozen_features(source: str, data: Path | None, group_by: str | None, seed: int) -> Frozen:
    """Return the pictures of a task, a folder or a run, with their features under the pretrained network.

    A run keeps them beside its model, and knows its own groups.
    """
    from edgecnn.datasets.load import load_splits
    from edgecnn.datasets.reading import InputChoice
    from edgecnn.errors import InputError
    from edgecnn_export.frameworks import check_keras, require_keras
    from edgecnn_export.models import open_model
    from edgecnn_export.reference import MODEL_FILE

    check_keras()
    run = Path(source) if (Path(source) / MODEL_FILE).is_file() else None
    if run is None:
        choice = InputChoice.stated(None, "auto", None, "lite")
        task, folder = task_and_folder(source, data, choice=choice, group_by=group_by)
        splits = load_splits(task, folder, seed)
    elif group_by is not None:
        raise InputError(
            f"--group-by belongs to a folder of pictures; the run {source} has the groups that it was trained with"
        )
    else:
        model = open_model(source)
        model.require_classes()
        task, splits = model.task, model.splits(data, seed)
    require_keras()  # quietly, before any module imports it loudly
    from edgecnn_export.studies.frozen import FILE_NAME, freeze_features

    return freeze_features(task, splits, cache=None if run is None else run / FILE_NAME, seed=seed)


def _check_scheduler(address: str | None) -> None:
    if address is not None:
        from edgecnn_export.studies.over_dask import check_scheduler

        check_scheduler(address)


def _progress(line: str) -> None:
    click.echo(line, err=True)
