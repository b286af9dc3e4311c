"""`train`: from pictures to a trained model in the folder of a run, which can be interrupted and resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import keras

from edgecnn.datasets.dataset import Splits
from edgecnn.errors import DatasetError, InputError, MissingDependencyError
from edgecnn.files import make_folder
from edgecnn.runtimes.runtime import check_images
from edgecnn.signals import handling
from edgecnn.tasks import Task
from edgecnn_export.models import open_reference
from edgecnn_export.networks import build
from edgecnn_export.plots.contact_sheet import draw_contact_sheet
from edgecnn_export.reference import MODEL_FILE
from edgecnn_export.run_folder import CHECKPOINT_FILE, SHEET, TEACHER, RunFolders, is_complete, is_unfinished
from edgecnn_export.training.budget import Budget
from edgecnn_export.training.checkpoints import Checkpoint
from edgecnn_export.training.devices import open_devices
from edgecnn_export.training.distillation import Lessons, ask_teacher
from edgecnn_export.training.recipes import NOT_FOR_LITE, Recipe, can_be_taught, find_recipe, taught
from edgecnn_export.training.session import Session, TrainingRun
from edgecnn_export.training.workers import VARIABLE, Cluster

TEACHER_SHARE = 0.4  # of the minutes
ANSWERS_SHARE = 0.25  # of those that are left then may go into its answers


def train(
    task: Task,
    splits: Splits,
    *,
    out: Path,
    model: str = "compact",
    teacher: bool = False,
    teacher_folder: Path | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    resume: bool = False,
    devices: int = 1,
    start: keras.Model | None = None,
    stored: Splits | None = None,
    progress: Callable[[str], None] = lambda line: None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingRun:
    """Train a model and write `model.keras`, `training.json`, `curves.png` and `splits.csv` to the folder `out`.

    `splits.csv` says which picture of the data folder stood in which split (`edgecnn.datasets.split_table`); pictures that are
    in no folder have none, and `training.json` then names no data folder.

    The recipe is the model's own where None; epochs and batch size are the recipe's, or the checkpoint's when resuming. With
    `teacher` a compact network learns from `lite`, which is trained first, in `teacher_folder` (`out/lite` where None), or lies
    there from an earlier training of the same pictures; where the pictures do not suit it, a line of progress says so.
    With `minutes` there are as many epochs as fit in, decided by how long the first one takes; the recipe in the record, with
    their number, makes the same training again. The last layer of a pretrained network is fitted first, which counts as epoch
    0. After each epoch a checkpoint is written, from which `resume` goes on to the same result as an uninterrupted training;
    it is removed when the training is complete. The weights of the best epoch are kept (`choose_epoch`). Weights begin as
    those of `start`, a model of the same network, where there is one; `stored` is the division to keep with the run, where
    `splits` has only some of its training pictures. The first
    SIGINT ends the training after the current batch, with all files written; a second one ends the program. Raises InputError
    for impossible settings or another training's checkpoint, DatasetError for empty splits, ShapeError for pictures of another
    shape than the task's, OutputError when `out` cannot be written.
    """
    _check_data(task, splits)
    cluster = Cluster.stated()
    if cluster is not None and cluster.index:
        out = out / f"worker-{cluster.index}"  # all may be on one disk, and each writes what it has
    recipe = recipe or find_recipe(model, task)
    if teacher and recipe.distillation is None:
        recipe = _taught(recipe, model, task, progress)
    teacher_folder = teacher_folder or out / TEACHER
    RunFolders(out, out, teacher_folder if recipe.distillation is not None else None).check(resume=resume)
    make_folder(out)
    ended_early = resume and not is_unfinished(out)  # before its student had begun
    if ended_early and minutes is None and epochs is None:
        minutes = _minutes_before(teacher_folder)
    checkpoint = Checkpoint.open(out / CHECKPOINT_FILE) if resume and not ended_early else None
    recipe = with_overrides(recipe, epochs, batch_size, checkpoint)
    if recipe.on_levels and keras.backend.backend() != "tensorflow":
        raise InputError(f"{model} is trained under Keras' TensorFlow backend only, this is {keras.backend.backend()}")
    budget = Budget.of(minutes, epochs, checkpoint, clock)
    if cluster is not None:
        cluster.check(recipe.batch_size, minutes=minutes, teacher=recipe.distillation is not None, resume=resume)
        progress(f"waiting for the {len(cluster.addresses)} workers of {VARIABLE}: {', '.join(cluster.addresses)}")
    strategy = open_devices(devices)
    lessons = None
    if recipe.distillation is not None:
        answering = _train_teacher(task, splits, teacher_folder, recipe, budget, seed, devices, progress)
        lessons = _ask(answering, build(model, task), splits, recipe, budget, seed, checkpoint, progress)
    progress(f"training {model} for {task.name} on {strategy.description}, {strategy.policy}")
    session = Session(task, splits, model, budget.fitted(recipe), seed, out, strategy, budget, lessons, start, stored)
    draw_pictures(task, splits, out, seed, progress)
    if checkpoint is not None:
        session.resume(checkpoint)
        progress(f"resumed after epoch {session.done} of {session.epochs or 'as many as fit in'}")
    with _interruption() as interrupted:
        session.run(interrupted, progress)
        return session.finish(interrupted.is_set())


def draw_pictures(task: Task, splits: Splits, out: Path, seed: int, progress: Callable[[str], None]) -> None:
    """Write to the folder of a run what the network sees of training pictures that are in a folder."""
    if splits.storable:
        height, width, _ = task.preprocessing.shape
        title = f"{task.name}: what the network sees, {height} x {width} {task.preprocessing.color} by {task.preprocessing.fit}"
        draw_contact_sheet(splits.train, task.labels, out / SHEET, title=title, seed=seed)
        progress(f"what the network sees of the pictures: {out / SHEET}")


def _taught(recipe: Recipe, model: str, task: Task, progress: Callable[[str], None]) -> Recipe:
    """Return the recipe with a teacher, unchanged where the pictures do not suit it; InputError for networks that have none."""
    if model.partition("-")[0] != "compact":
        raise InputError(f"only compact learns from a teacher, not {model}; leave the teacher out")
    if not can_be_taught(task):
        progress(f"without a teacher: {NOT_FOR_LITE}")
    return taught(recipe, task)


def _train_teacher(
    task: Task,
    splits: Splits,
    folder: Path,
    recipe: Recipe,
    budget: Budget,
    seed: int,
    devices: int,
    progress: Callable[[str], None],
) -> keras.Model:
    """Train the network that the recipe's distillation names in `folder`, or take the one that lies there.

    It gets TEACHER_SHARE of the minutes, or as many epochs as its own recipe has, but no more than its student.
    KeyboardInterrupt when it is interrupted.
    """
    assert recipe.distillation is not None
    name = recipe.distillation.teacher
    own = find_recipe(name, task)
    limits: dict[str, Any] = {"minutes": None if budget.minutes is None else round(budget.minutes * TEACHER_SHARE, 6)}
    limits["epochs"] = None if budget.minutes is not None else min(own.epochs, recipe.epochs)
    if not recipe.distillation.tuned:
        limits = {"minutes": None, "epochs": 0}
    made_by = with_overrides(own, limits["epochs"], None)
    if limits["minutes"] is not None:
        made_by = budget.fitted(made_by)
    if (kept := _kept(folder, splits, name, made_by, seed, limits)) is not None:
        progress(f"the teacher, {name}, lies in {folder} already")
        return kept
    try:
        run = train(
            task, splits, out=folder, model=name, recipe=own, seed=seed, resume=is_unfinished(folder),
            devices=devices, progress=lambda line: progress(f"teacher: {line}"), clock=budget.clock, **limits,
        )  # fmt: skip
    except MissingDependencyError as error:
        raise MissingDependencyError(f"{error}; or train without a teacher: --network compact --teacher none") from error
    if run.interrupted:
        raise KeyboardInterrupt
    return run.reference.model


def _kept(folder: Path, splits: Splits, name: str, recipe: Recipe, seed: int, limits: dict[str, Any]) -> keras.Model | None:
    """Return the teacher that an earlier training by the same recipe on the same pictures left in `folder`."""
    if not is_complete(folder):
        return None
    reference = open_reference(str(folder / MODEL_FILE))
    wanted = {"model": name, "seed": seed, "training_pictures": splits.train.digest(), "recipe_digest": recipe.digest()}
    wanted |= {what: value for what, value in limits.items() if value is not None}
    known = reference.training or {}
    return reference.model if all(known.get(what) == value for what, value in wanted.items()) else None


def _ask(
    teacher: keras.Model,
    student: keras.Model,
    splits: Splits,
    recipe: Recipe,
    budget: Budget,
    seed: int,
    checkpoint: Checkpoint | None,
    progress: Callable[[str], None],
) -> Lessons:
    """Return the teacher's answers on the training pictures, in a resumed training on as many views as before."""
    assert recipe.distillation is not None
    distillation, seconds = recipe.distillation, budget.left() * ANSWERS_SHARE
    if checkpoint is not None:
        distillation, seconds = dataclasses.replace(distillation, views=checkpoint.settings["views"]), math.inf
    lessons = ask_teacher(
        teacher, student, splits.train, distillation, recipe.augmentation, seed=seed, seconds=seconds, clock=budget.clock
    )
    progress(f"the teacher has answered {lessons.views} views of each of {len(splits.train)} training pictures")
    return dataclasses.replace(lessons, distillation=recipe.distillation)


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Give an event that the first SIGINT sets; a second one raises KeyboardInterrupt as usual."""
    event = threading.Event()
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, previous)

    with handling({signal.SIGINT: note}):
        yield event


def with_overrides(recipe: Recipe, epochs: int | None, batch_size: int | None, checkpoint: Checkpoint | None = None) -> Recipe:
    """Return a recipe with stated epochs and batch size, or those of a checkpoint; InputError for values out of range."""
    least = 0 if recipe.head_views else 1
    for name, value, lowest in (("--epochs", epochs, least), ("--batch-size", batch_size, 1)):
        if value is not None and value < lowest:
            raise InputError(f"{name} must be at least {lowest}, got {value}")
    if checkpoint is not None:
        batch_size = batch_size or checkpoint.settings["batch_size"]
        if epochs is None and checkpoint.settings.get("minutes") is None:
            epochs = checkpoint.settings["epochs"]
    chosen = recipe.epochs if epochs is None else epochs
    return dataclasses.replace(recipe, epochs=chosen, batch_size=batch_size or recipe.batch_size)


def _check_data(task: Task, splits: Splits) -> None:
    for name in ("train", "validation"):
        dataset = splits[name]
        if len(dataset) == 0:
            raise DatasetError(f"the {name} split of {splits.info.source} is empty; more pictures are needed")
        check_images(dataset.images, task.preprocessing.shape)
        if not 0 <= dataset.class_ids.min() <= dataset.class_ids.max() < len(task.labels):
            raise DatasetError(f"the {name} split has class ids outside 0..{len(task.labels) - 1}")


def _minutes_before(teacher_folder: Path) -> float | None:
    """Return the minutes of a training that ended before its student had begun, from its teacher's share."""
    path = teacher_folder / CHECKPOINT_FILE
    settings = Checkpoint.open(path).settings if path.exists() else open_reference(teacher_folder / MODEL_FILE).training
    minutes = (settings or {}).get("minutes")
    return None if minutes is None else round(minutes / TEACHER_SHARE, 4)
