"""Training that goes on from a run: from its weights, on its split, with pictures that were added to it.

Nothing is forgotten because old pictures are shown again beside the new ones ("replay"; Rolnick et al., NeurIPS 2019,
arXiv:1811.11682). The run that it starts from is only read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.classifier import Classifier
from edgecnn.datasets.dataset import Splits
from edgecnn.datasets.kept_split import extend_stored
from edgecnn.datasets.layout import OTHERS, LabelledFile
from edgecnn.datasets.split_table import (
    ADDED,
    FILE_NAME,
    IN_RUN,
    SPLITS,
    others_beside,
    place_of,
    read_splits_table,
    refuse_changed,
)
from edgecnn.errors import ConversionError, InferenceError, InputError
from edgecnn.files import make_folder, read_bytes, write_json
from edgecnn.preprocessing import Preprocessing
from edgecnn.samples.additions import Addition, Additions, keep_additions, read_additions, read_class_folders
from edgecnn.samples.labels import check_label
from edgecnn.shipped import with_loaders
from edgecnn.tasks import Task
from edgecnn.text import counted, printable
from edgecnn_export.exporter import export
from edgecnn_export.models import is_artifact, open_reference
from edgecnn_export.reference import MODEL_FILE, Reference
from edgecnn_export.run_folder import RUN_FILE, check_apart, unfinished_in
from edgecnn_export.run_pictures import RunPictures
from edgecnn_export.successor import Comparison, LabelledPicture, Paired, compare_models
from edgecnn_export.training.balancing import alternating
from edgecnn_export.training.recipes import Recipe, find_recipe
from edgecnn_export.training.session import TrainingRun
from edgecnn_export.training.trainer import train

FIELD = "field"  # the folder of a run with the pictures that are only measured on
MOST_REPLAYED = 1000  # old training pictures that are shown again
LEAST_OF_A_CLASS = 2
# Pictures that all epochs together show: what lite sees in two minutes of two cores, and what a small network does.
SHOWN = {"lite": 2500}
SHOWN_OTHERWISE, MOST_EPOCHS = 10_000, 12
_Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Start:
    """A run to start from: its model, where its pictures are, the task with the classes and the input that are wanted now."""

    folder: Path
    reference: Reference
    pictures: RunPictures
    task: Task

    @property
    def table(self) -> Path:
        """The table of its split."""
        assert self.pictures.table is not None
        return self.pictures.table


@dataclass(frozen=True, eq=False)
class ContinuedRun:
    """What came of it: the training, all pictures as they are divided now, and how old and new model compare.

    `comparison` is None where there was nothing to compare on, or the training was interrupted; `field` is the share of the
    field's pictures that both recognise, None without any.
    """

    run: TrainingRun
    splits: Splits
    comparison: Comparison | None
    field: Paired | None


def open_start(run: Path, *, new_classes: Sequence[str] = (), data: Path | None = None, **wanted: Any) -> Start:
    """Open the run to start from; `data` is where its pictures lie now, `wanted` what is to be another one of its input.

    Raises InputError in one line for what cannot be started from, and for a class that is no new one.
    """
    if is_artifact(run) or (run.is_file() and run.name != MODEL_FILE):
        raise InputError(f"{run} cannot be trained further; name the folder of the run that it was exported from")
    folder = run.parent if run.is_file() else run
    if not folder.is_dir():
        raise InputError(f"{run} is not the folder of a training run: --from takes one that edgecnn train wrote")
    if unfinished_in(folder) is not None and not (folder / MODEL_FILE).exists():
        raise InputError(f"{run} holds an unfinished training; complete it first, with --resume and its own options")
    if not (folder / MODEL_FILE).is_file():
        raise InputError(f"{run} holds no {MODEL_FILE}: --from takes the folder of a run that edgecnn train wrote")
    reference = open_reference(folder / MODEL_FILE)
    pictures = RunPictures.of(reference)
    if reference.raw is not None or pictures is None:
        raise InputError(f"{run} has no {RUN_FILE} of edgecnn train: only a run with its record and split can be continued")
    if reference.good_parts is not None:
        raise InputError(f"{run} knows good parts only, by no training; add the pictures to its folder, and --only-good again")
    if reference.task.read is not None and (pictures.folder is None or reference.task.read(pictures.folder) is not None):
        name = reference.task.name
        raise InputError(f"{run} was trained on the arrays of {name}, not on a folder of pictures: it cannot be continued")
    if pictures.folder is None or pictures.table is None or not pictures.table.is_file():
        raise InputError(f"{run} keeps no split of pictures in a folder (they were generated?): train anew with the pictures")
    pictures = pictures if data is None else dataclasses.replace(pictures, folder=data)
    assert pictures.folder is not None
    if not pictures.folder.is_dir():
        raise InputError(f"the pictures of {run} lay in {pictures.folder}, which is gone; name their folder with --data")
    return Start(folder, reference, pictures, _extended(reference.task, new_classes, run, wanted))


def _extended(task: Task, new_classes: Sequence[str], run: Path, wanted: dict[str, Any]) -> Task:
    new_classes = [check_label(label) for label in new_classes]
    if known := [label for label in new_classes if label in task.labels]:
        raise InputError(f"--new-class {known[0]}: {run} knows this class already; leave the option out")
    changed = {name: value for name, value in wanted.items() if value is not None}
    fitted: Preprocessing = dataclasses.replace(task.preprocessing, **changed)
    task = dataclasses.replace(task, labels=(*task.labels, *dict.fromkeys(new_classes)), preprocessing=fitted)
    return with_loaders(Task.from_json(task.to_json()))


def continue_training(
    start: Start,
    add: Sequence[Path],
    *,
    out: Path,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    resume: bool = False,
    devices: int = 1,
    progress: _Progress = lambda line: None,
) -> ContinuedRun:
    """Train the network of a run further, with the pictures in the folders `add`, and compare both models.

    Writes to `out` what `train` writes, and copies of the added pictures: `added/` with those that were dealt to the split,
    `field/` with those that a camera kept at random, which are measured on only. Those that the run was given before come
    along. The last layer is fitted first, then the network is trained for as long as `epochs`, `minutes` or the default
    say. Raises what `train` raises; InputError for labels that the task does not have, and for `out` that holds a run.
    """
    check_apart(start.folder, out, resume=resume)
    found = _with_earlier(start, read_additions(add))
    for remark in found.remarks:
        progress(printable(remark))
    found = _without_known(start, found, progress)
    _check_labels(start, found)
    make_folder(out)
    added, in_field = keep_additions(found.learn, out / ADDED), keep_additions(found.field, out / FIELD)
    splits = _divided(start, added, out, seed)
    progress(_counts(splits, added, in_field))
    shown = _replayed(splits, seed)
    recipe = _recipe(start.reference.name, start.task, len(shown.train))
    run = train(
        start.task, shown, out=out, model=start.reference.name, recipe=recipe, epochs=epochs, minutes=minutes,
        batch_size=batch_size, seed=seed, resume=resume, devices=devices, start=start.reference.model, stored=splits,
        progress=progress,
    )  # fmt: skip
    if run.interrupted:
        return ContinuedRun(run, splits, None, None)
    comparison, field = _compare(start, run, _test_pictures(start.task, splits, added, out), in_field, seed, progress)
    about = {
        "run": str(start.folder.resolve()),
        "model_sha256": hashlib.sha256(read_bytes(start.folder / MODEL_FILE)).hexdigest(),
        "added": len(added),
        "field": len(in_field),
        "shown_again": len(shown.train) - sum(name.startswith(IN_RUN) for name in shown.train.names),
        "comparison": None if comparison is None else comparison.to_json(),
        "field_test": None if field is None else field.to_json(),
    }
    run = dataclasses.replace(run, record=run.record | {"continued": about})
    write_json(out / RUN_FILE, run.record)
    return ContinuedRun(run, splits, comparison, field)


def _with_earlier(start: Start, found: Additions) -> Additions:
    """Put what the run was given before beside what is added now.

    A later label of the same picture holds, bad pictures go, and what was of the field stays there. Raises DatasetError where
    some of it is gone.
    """
    earlier = _earlier(start)
    now = {each.sha256: each for each in (*found.learn, *found.field)}
    remarks = list(found.remarks)
    kept = []
    for each in earlier:
        later = now.get(each.sha256)
        if each.row["sample"] in found.refused:
            remarks.append(f"{each.path} is left out: its sample is called a bad picture now")
            continue
        if later is not None and later.label != each.label:
            remarks.append(f"{each.path} is labelled {later.label!r} now, and no longer {each.label!r}")
            kept.append(dataclasses.replace(each, label=later.label, row={**each.row, "label": later.label}))
        else:
            kept.append(each)
    in_field = {each.sha256: each for each in (*found.field, *(each for each in kept if each.is_field))}
    learn = {each.sha256: each for each in (*found.learn, *(each for each in kept if not each.is_field))}
    return Additions(
        tuple(each for digest, each in learn.items() if digest not in in_field),
        tuple(in_field.values()),
        tuple(remarks),
        found.refused,
    )


def _earlier(start: Start) -> list[Addition]:
    """Return what was added to the run; DatasetError where a picture of its split is gone."""
    found: list[Addition] = []
    for name in (ADDED, FIELD):
        if (start.folder / name).is_dir():
            both = read_class_folders(start.folder / name, is_field=name == FIELD)
            found += [*both.learn, *both.field]
    there = {each.sha256 for each in found}
    rows = [row for row in read_splits_table(start.table) if row.file.startswith(IN_RUN)]
    gone = [f"{row.file.removeprefix(IN_RUN)} is missing or changed" for row in rows if row.sha256 not in there]
    refuse_changed(gone, start.folder, len(rows))
    return found


def _without_known(start: Start, found: Additions, progress: _Progress) -> Additions:
    """Leave out what lies in the data folder already; InputError where it has another label there."""
    rows = {row.sha256: row for row in read_splits_table(start.table)}
    assert start.pictures.folder is not None
    for each in found.learn:
        row = rows.get(each.sha256)
        if row is not None and not row.file.startswith(IN_RUN) and row.label != each.label:
            place = place_of(row.file, start.pictures.folder, start.table)
            raise InputError(
                f"{each.path}, labelled {each.label!r}, is the same picture as {place}, which {start.folder} was trained on as "
                f"{row.label!r}: correct one of the two labels"
            )
    known = {digest for digest, row in rows.items() if not row.file.startswith(IN_RUN)}
    trained_on = {digest for digest, row in rows.items() if row.split != "test"}
    learn = tuple(each for each in found.learn if each.sha256 not in known)
    in_field = tuple(each for each in found.field if each.sha256 not in trained_on)
    if len(learn) < len(found.learn):
        progress(f"{counted(len(found.learn) - len(learn), 'picture')} left out: among those of {start.folder} already")
    if len(in_field) < len(found.field):
        count = counted(len(found.field) - len(in_field), "picture")
        progress(f"{count} of the field left out: {start.folder} was trained on them, or chosen by them")
    return dataclasses.replace(found, learn=learn, field=in_field)


def _check_labels(start: Start, found: Additions) -> None:
    labels, counts = start.task.labels, found.labels()
    for label in counts:
        if label not in labels:
            where = next(each.path for each in (*found.learn, *found.field) if each.label == label)
            raise InputError(
                printable(
                    f"{where} is labelled {label!r}, which is no class of {start.folder} ({', '.join(labels)}); to learn it as "
                    f"a new one: --new-class {label!r}"
                )
            )
    learned = [each.label for each in found.learn]
    for label in labels[len(start.reference.task.labels) :]:
        if learned.count(label) < LEAST_OF_A_CLASS:
            raise InputError(
                f"--new-class {label!r}: {counted(learned.count(label), 'added picture')} to learn it from; at least "
                f"{LEAST_OF_A_CLASS} are needed"
            )
    if not found.learn:
        raise InputError("there is nothing new to learn from: no added picture may be trained on")


def _divided(start: Start, added: Sequence[Addition], out: Path, seed: int) -> Splits:
    """Return the pictures of the run and the added ones, which lie in `out` now, as they are divided."""
    of_classes = [each for each in added if each.label != OTHERS]
    files = [LabelledFile(each.path, IN_RUN + each.path.relative_to(out).as_posix(), each.label) for each in of_classes]
    assert start.pictures.folder is not None
    events = [each.row["group"] for each in of_classes]
    splits = extend_stored(start.task, start.pictures.folder, start.table, files, events, info=start.pictures.info, seed=seed)
    return dataclasses.replace(splits, others=others_beside(out / FILE_NAME))


def _counts(splits: Splits, added: Sequence[Addition], in_field: Sequence[Addition]) -> str:
    others = sum(each.label == OTHERS for each in added)
    by_part = {part: sum(name.startswith(IN_RUN) for name in splits[part].names) for part in SPLITS}
    parts = [f"{count} {part}" for part, count in by_part.items()]
    more = [f"{others} of no class"] if others else []
    more += [f"{len(in_field)} of the field, which are only measured on"] if in_field else []
    is_vain = any(by_part.values()) and not by_part["train"]
    warning = "; WARNING: none is trained on, all are to measure by; add pictures of other parts" if is_vain else ""
    return f"added pictures: {', '.join([*parts, *more])}{warning}"


def _replayed(splits: Splits, seed: int) -> Splits:
    """Return the splits with all added training pictures, and at most MOST_REPLAYED of the others, classes taking turns."""
    train = splits.train
    is_added = np.array([name.startswith(IN_RUN) for name in train.names], bool)
    old, new = np.flatnonzero(~is_added), np.flatnonzero(is_added)
    chosen = old[alternating(train.class_ids[old], np.random.default_rng(seed))[:MOST_REPLAYED]]
    return dataclasses.replace(splits, train=train.take(np.sort(np.concatenate([chosen, new]))))


def _recipe(network: str, task: Task, count: int) -> Recipe:
    """Return the network's own recipe, shortened to what is left to learn: the last layer first, then a few gentle epochs."""
    own = find_recipe(network.partition("-")[0], task)
    epochs = int(np.clip(round(SHOWN.get(network, SHOWN_OTHERWISE) / count), 1, MOST_EPOCHS))
    return dataclasses.replace(
        own,
        epochs=epochs,
        learning_rate=own.learning_rate if own.frozen else own.learning_rate / 10,
        patience=MOST_EPOCHS,
        head_views=own.head_views or 3,
        by_epoch=True,
    )


def _test_pictures(task: Task, splits: Splits, added: Sequence[Addition], out: Path) -> list[LabelledPicture]:
    """Return the test pictures; a sample that a camera kept in doubt was chosen by the old model."""
    assert splits.folder is not None
    test, doubted = splits.test, {each.path for each in added if each.row["kept"]}
    groups = range(len(test)) if test.groups is None else test.groups.tolist()
    paths = [place_of(name, splits.folder, out / FILE_NAME) for name in test.names]
    return [
        LabelledPicture(path, task.labels[class_id], f"test {group}", path in doubted)
        for path, class_id, group in zip(paths, test.class_ids.tolist(), groups, strict=True)
    ]


def _compare(
    start: Start,
    run: TrainingRun,
    test: Sequence[LabelledPicture],
    in_field: Sequence[Addition],
    seed: int,
    progress: _Progress,
) -> tuple[Comparison | None, Paired | None]:
    """Compare both models as int8 files on the test pictures and those of the field; None where that cannot be done."""
    field = [LabelledPicture(each.path, each.label, f"field {each.row['group'] or each.sha256}") for each in in_field]
    if not test and not field:
        progress("not compared with the old model: there are no test pictures")
        return None, None
    progress(f"comparing with the old model on {counted(len(test), 'test picture')} and {len(field)} of the field, as int8")
    with tempfile.TemporaryDirectory() as folder:
        try:
            old, new = (
                _as_int8(reference, Path(folder) / name)
                for name, reference in (("old", start.reference), ("new", run.reference))
            )
        except (ConversionError, InferenceError) as error:
            progress(f"not compared with the old model: {error}")
            return None, None
        comparison = compare_models(old, new, [*test, *field], seed=seed)
        alone = compare_models(old, new, field, seed=seed).overall.get("right") if field else None
    return comparison, alone


def _as_int8(reference: Reference, folder: Path) -> Classifier:
    return Classifier.open(export(reference, out=folder, formats=["tflite"], int8=True).files[-1].path)
