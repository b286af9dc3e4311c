"""Many trainings side by side: each in a child process and a folder of its own, its result kept when it is complete."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np

import edgecnn
from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.errors import EdgecnnError, InferenceError, InputError
from edgecnn.files import make_folder, read_bytes, write_json
from edgecnn.mapped import Lent, lend
from edgecnn.runtimes.tflite import first_line
from edgecnn.shipped import with_loaders
from edgecnn.tasks import Task
from edgecnn.text import counted
from edgecnn_export.run_folder import unfinished_in
from edgecnn_export.studies.over_dask import map_over_dask, require_small, say

if TYPE_CHECKING:
    from edgecnn_export.reference import Reference
    from edgecnn_export.training.recipes import Recipe

# Thread pools of OpenMP, TensorFlow and XLA read these when they start.
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
RESULT = "result.json"
_SETTINGS = "settings"  # of a training, beside its result
_SHOWN = 20  # characters of a setting that a message shows
_one_at_a_time = threading.Lock()  # Keras has one state in a process, and a worker may have several threads

Measure = Callable[["Reference", Splits, Path], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Training:
    """One training of a study: the name of its folder, which pictures of the pool stand where, how it is trained.

    `parts` are indices into the pool: train, validation (the best epoch is chosen on it) and test (seen by nothing).
    `recipe` is the model's own where None.
    """

    name: str
    parts: tuple[Any, Any, Any]
    model: str
    seed: int
    epochs: int | None = None
    recipe: Recipe | None = None
    minutes: float | None = None


def run_trainings(
    task: Task,
    pool: Dataset,
    info: SplitInfo,
    trainings: Sequence[Training],
    measure: Measure,
    *,
    out: Path,
    settings: dict[str, Any],
    jobs: int = 1,
    scheduler: str | None = None,
) -> Iterator[tuple[Training, dict[str, Any]]]:
    """Give each training with what `measure(reference, splits, folder)` found, in the order in which they end.

    `measure` runs in the child and must be a function of a module. Each training has the folder `out/<name>`; one that is
    complete is not repeated, one that was interrupted goes on from its checkpoint. Progress goes to stderr, each line with
    the name of its training. With the address of a Dask `scheduler` its workers train, and nothing but results comes back:
    see `map_over_dask`. Raises InputError when `out` holds a study of other `settings`, or a complete training that was made in
    another way: by another recipe, on other pictures, by another edgecnn. The first error of a training ends
    the others, whose checkpoints stay: an EdgecnnError is raised with the training's name before its text, InferenceError
    stands for any other and for a child that was killed. A Ctrl-C says how many are done.
    """
    done = 0
    try:
        _claim(make_folder(out), settings)
        described = task.to_json()
        kept = {training.name: _kept(out / training.name, described, training) for training in trainings}
        left = [training for training in trainings if kept[training.name] is None]
        found = ((training, result) for training in trainings if (result := kept[training.name]) is not None)
        for each in itertools.chain(found, _train_left((described, pool, info, measure), left, out, jobs, scheduler)):
            done += 1
            yield each
    except KeyboardInterrupt:
        count = f"{done} of {counted(len(trainings), 'training')}"
        raise KeyboardInterrupt(f"{count} {'is' if done == 1 else 'are'} done; the same command goes on from there") from None


def _train_left(
    study: tuple[dict[str, Any], Dataset, SplitInfo, Measure], left: list[Training], out: Path, jobs: int, scheduler: str | None
) -> Iterator[tuple[Training, dict[str, Any]]]:
    """Train what no earlier call has left a result of, on this machine or on the workers of a `scheduler`."""
    described, pool, info, measure = study
    if scheduler is not None:
        require_small(pool.images.nbytes, "the pictures of this study")
        for training, result in map_over_dask(scheduler, _run_elsewhere, study, left):
            _keep(make_folder(out / training.name), described, training, result)
            yield training, result
        return
    without_pixels = replace(pool, images=np.empty((len(pool), 0, 0, 0), np.uint8))
    with lend(pool.images) as images:
        yield from _run_here((described, without_pixels, images, info, measure), left, out, jobs)


# What all children are given: the task, the pool without its pixels, these, and where the pool comes from.
Shared = tuple[dict[str, Any], Dataset, Lent, SplitInfo, Measure]


def _run_here(shared: Shared, trainings: Sequence[Training], out: Path, jobs: int) -> Iterator[tuple[Training, dict[str, Any]]]:
    """Train in child processes, `jobs` at once."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    waiting = iter(trainings)
    running: dict[Connection, tuple[SpawnProcess, Training]] = {}
    try:
        while True:
            for training in itertools.islice(waiting, jobs - len(running)):
                connection, child = _start(threads, (shared, training, out / training.name))
                running[connection] = child, training
            if not running:
                return
            for ready in wait(list(running)):
                connection = cast(Connection, ready)
                child, training = running.pop(connection)
                yield training, _received(connection, child, training)
    finally:  # an error or Ctrl-C: their last checkpoints are on the disk
        for child, _ in running.values():
            child.terminate()
            child.join()


def _start(threads: int, work: tuple[Any, ...]) -> tuple[Connection, SpawnProcess]:
    """Start a child for one training, since TensorFlow keeps the memory of the models before; return what it answers by."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(theirs, threads, work))
    child.start()
    theirs.close()  # so that the end of the child is the end of what can be read
    return ours, child


def _answer(connection: Connection, threads: int, work: tuple[Any, ...]) -> None:
    """Train and send the result, or the error that ended it; in a child process."""
    _prepare_child(threads)
    try:
        connection.send(_run(*work))
    except EdgecnnError as error:
        connection.send(error)
    except Exception as error:
        traceback.print_exc()
        connection.send(RuntimeError(f"{type(error).__name__}: {first_line(error)}"))  # itself it may hold what cannot be sent


def _received(connection: Connection, child: SpawnProcess, training: Training) -> dict[str, Any]:
    """Return a training's result; raise the error that ended it."""
    try:
        answer = connection.recv()
    except EOFError:
        child.join()
        killed = f"the process of the training {training.name!r} ended with code {child.exitcode} and without a result"
        raise InferenceError(f"{killed}: was memory short? The same command goes on from its last checkpoint") from None
    finally:
        connection.close()
    child.join()
    if isinstance(answer, EdgecnnError):
        raise type(answer)(f"the training {training.name!r} failed: {answer}") from answer
    if isinstance(answer, Exception):
        raise InferenceError(f"the training {training.name!r} failed: {answer}") from answer
    return dict(answer)


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Write the settings into the folder of the study; InputError when another study's stand there."""
    path = out / "study.json"
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, settings)
        return
    kept = json.loads(read_bytes(path))
    if kept != settings:
        differing = sorted(name for name in kept.keys() | settings.keys() if kept.get(name) != settings.get(name))
        raise InputError(f"{out} holds a study that differs in {', '.join(differing)}; choose another folder with --out")


def _settings(described: dict[str, Any], training: Training) -> dict[str, Any]:
    """Return what decides what comes of a training beside the pool, with plain values."""
    from edgecnn_export.training.recipes import find_recipe  # Keras, which a child loads when its threads are set

    task = with_loaders(Task.from_json(described))  # as the child has it
    recipe = training.recipe or find_recipe(training.model, task)
    distillation = recipe.distillation
    settings = {
        "edgecnn": edgecnn.__version__,
        "model": training.model,
        "seed": training.seed,
        "epochs": training.epochs,
        "minutes": training.minutes,
        "pictures": hashlib.sha256(repr([np.asarray(part).tolist() for part in training.parts]).encode()).hexdigest(),
        "recipe": asdict(recipe),
        "teacher": None if distillation is None else asdict(find_recipe(distillation.teacher, task)),
    }
    return dict(json.loads(json.dumps(settings)))


def _keep(folder: Path, described: dict[str, Any], training: Training, result: dict[str, Any]) -> None:
    write_json(folder / RESULT, result | {_SETTINGS: _settings(described, training)})


def _kept(folder: Path, described: dict[str, Any], training: Training) -> dict[str, Any] | None:
    """Return the result of a training that is complete, None without one; InputError for one that was made in another way."""
    path = folder / RESULT
    if not path.exists():
        return None
    result = dict(json.loads(read_bytes(path)))
    made = result.pop(_SETTINGS, None)
    if made is None:
        found = "does not say how its training was made"
    elif differing := _differing(made, _settings(described, training)):
        found = f"is of a training made in another way: {'; '.join(differing)}"
    else:
        return result
    raise InputError(f"{path} {found}; choose another folder with --out, or delete {folder} to train it again")


def _differing(there: Any, here: Any, name: str = "") -> list[str]:
    """Name the settings that differ, those in others by dots, with their values where these are short."""
    if isinstance(there, dict) and isinstance(here, dict):
        every = [(each, f"{name}.{each}" if name else each) for each in sorted(there.keys() | here.keys())]
        return [line for each, full in every for line in _differing(there.get(each), here.get(each), full)]
    if there == here:
        return []
    values = json.dumps(there), json.dumps(here)
    return [name if max(map(len, values)) > _SHOWN else f"{name} {values[0]} there, {values[1]} here"]


def _splits(pool: Dataset, info: SplitInfo, training: Training) -> Splits:
    train, validation, test = (pool.take(part) for part in training.parts)
    return Splits(train, validation, test, info)


def _prepare_child(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its children
    for variable in _THREADS:
        os.environ.setdefault(variable, str(threads))


def _run(shared: Shared, training: Training, folder: Path) -> dict[str, Any]:
    """Train, measure and keep the result; in a child process."""
    described, without_pixels, images, info, measure = shared
    splits = _splits(replace(without_pixels, images=images.pictures()), info, training)
    result = _trained(described, splits, training, measure, folder, lambda line: click.echo(line, err=True))
    _keep(folder, described, training, result)
    return result


def _run_elsewhere(shared: tuple[dict[str, Any], Dataset, SplitInfo, Measure], training: Training) -> dict[str, Any]:
    """Train and measure on a worker of Dask, one training at a time, and leave nothing there."""
    import keras

    described, pool, info, measure = shared
    with _one_at_a_time, tempfile.TemporaryDirectory(prefix="edgecnn-") as folder:
        keras.backend.clear_session()  # of the training before
        return _trained(described, _splits(pool, info, training), training, measure, Path(folder), say)


def _trained(
    described: dict[str, Any],
    splits: Splits,
    training: Training,
    measure: Measure,
    folder: Path,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Train in a folder, and return the figures of the training with what was measured."""
    from edgecnn_export.training import train as run_training

    run = run_training(
        with_loaders(Task.from_json(described)),
        splits,
        out=folder,
        model=training.model,
        epochs=training.epochs,
        minutes=training.minutes,
        recipe=training.recipe,
        seed=training.seed,
        resume=unfinished_in(folder) is not None,
        progress=lambda line: progress(f"{training.name}: {line}"),
    )
    if run.interrupted:
        raise KeyboardInterrupt
    result = {"name": training.name, "validation": run.record["validation"], "best_epoch": run.record["best_epoch"]}
    return result | {"seconds_per_epoch": run.record["seconds_per_epoch"]} | measure(run.reference, splits, folder)
