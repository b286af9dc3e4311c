"""A training in progress: epochs, validation, checkpoints, and the files that remain."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

import edgecnn
from edgecnn.datasets import split_table
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.datasets.load import data_info
from edgecnn.errors import ConversionError
from edgecnn.files import write_json
from edgecnn.metrics import confusion_matrix, weak_classes, wilson_interval
from edgecnn.rejection.threshold import choose_rejection
from edgecnn.tasks import Task
from edgecnn_export.calibration_data import record_calibration
from edgecnn_export.networks import build
from edgecnn_export.plots.curves import draw_curves
from edgecnn_export.reference import MODEL_FILE, Reference, save_reference
from edgecnn_export.training import checkpoints
from edgecnn_export.training.augmentation import Augmentation, augment
from edgecnn_export.training.batches import EpochBatches, one_hot
from edgecnn_export.training.checkpoints import Checkpoint
from edgecnn_export.training.devices import Devices
from edgecnn_export.training.epoch_pictures import TrainingPictures
from edgecnn_export.training.recipes import Recipe

_VALIDATION_BATCH = 64
_CAMERA_SEED = 2026  # the camera's view of the validation pictures is the same in every epoch and every training


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """What a training left: the model with the best weights and the figures of its validation pictures.

    `record` is what `training.json` holds; `correct` of `count` validation pictures are classified rightly.
    """

    folder: Path
    reference: Reference
    record: dict[str, Any]
    correct: int
    count: int
    interrupted: bool

    @property
    def resumable(self) -> bool:
        """True when the folder holds a checkpoint to go on from."""
        return (self.folder / checkpoints.FILE_NAME).exists()

    @property
    def validation_accuracy(self) -> float:
        """Share of the validation pictures that are classified rightly."""
        return self.correct / self.count

    @property
    def weak_classes(self) -> list[tuple[str, int, int]]:
        """Label, right answers and pictures of each class of which fewer than half the validation pictures were recognised."""
        confusion = np.array(self.record["validation"]["confusion"])
        labels = self.reference.task.labels
        return [(labels[i], int(confusion[i, i]), int(confusion[i].sum())) for i in weak_classes(confusion)]

    @property
    def validation_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the validation accuracy."""
        return wilson_interval(self.correct, self.count)


class Session:
    """A training in progress: the compiled model, its history and the best weights so far."""

    def __init__(self, task: Task, splits: Splits, model: str, recipe: Recipe, seed: int, out: Path, devices: Devices) -> None:
        """Build and compile the model, its weights drawn by `seed`; InputError for an impossible recipe."""
        self.task, self.splits, self.name, self.recipe, self.seed, self.out = task, splits, model, recipe, seed, out
        self.devices = devices
        self.history: list[dict[str, float]] = []
        self.best_weights: list[NDArray[Any]] = []
        keras.utils.set_random_seed(seed)
        self.pictures = TrainingPictures(splits.train, task, recipe, seed=seed)
        with _policy(devices.policy), devices.scope():
            self.model = devices.prepare(build(model, task))
            _compile(self.model, recipe, steps=recipe.epochs * len(self._batches(0)), jit_compile=devices.jit_compile)
        self.validation = _views(splits.validation, recipe.augmentation)
        # Builds losses and metrics. Left to the first `fit`, the JAX backend takes a batch from the epoch for it, and a
        # resumed training would not repeat an uninterrupted one.
        self._evaluate(splits.validation.take(np.arange(min(len(splits.validation), _VALIDATION_BATCH))))
        self.settings = {
            "task": task.name,
            "model": model,
            "parameters": self.model.count_params(),
            "epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "seed": seed,
            "training_pictures": splits.train.digest(),
            "recipe_digest": hashlib.sha256(repr(recipe).encode()).hexdigest(),
        }

    @property
    def best_epoch(self) -> int:
        """The epoch, counted from 1, with the lowest validation loss over all views."""
        return 1 + int(np.argmin([_selection_loss(entry) for entry in self.history]))

    @property
    def complete(self) -> bool:
        """All epochs are done, or the validation loss has not become better for long."""
        done = len(self.history)
        return done >= self.recipe.epochs or (done > 0 and done - self.best_epoch >= self.recipe.patience)

    def try_epoch(self) -> None:
        """Train an epoch that does not count, to see how long it takes."""
        self._epoch(0, threading.Event())

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take up where a checkpoint of the same training left off; InputError for another's."""
        checkpoint.check(self.settings, self.out / checkpoints.FILE_NAME)
        with self.devices.scope():
            checkpoint.restore(self.model)
        self.history, self.best_weights = checkpoint.history, checkpoint.best_weights

    def run(self, interrupted: threading.Event, progress: Callable[[str], None]) -> None:
        """Train the epochs that are left, or until the interruption."""
        while not (self.complete or interrupted.is_set()):
            entry = self._epoch(len(self.history), interrupted)
            if interrupted.is_set() and self.history:
                break  # a part of an epoch counts only when there is nothing else
            self.history.append(entry)
            if self.best_epoch == len(self.history):
                self.best_weights = self._weights()
            if not interrupted.is_set():
                self._checkpoint()
            progress(_line(entry, self.recipe.epochs))
        if len(self.history) < self.recipe.epochs and self.complete:
            progress(f"no better validation loss for {self.recipe.patience} epochs: stopped early")

    def finish(self, interrupted: bool) -> TrainingRun:
        """Put the best weights into a float32 model without optimizer, measure it and write the files."""
        with _policy("float32"):
            model = build(self.name, self.task)
        model.set_weights(self.best_weights)
        reference = Reference(model, self.task, self.name)
        predicted = reference.runtime().run(self.splits.validation.images).argmax(axis=1)
        confusion = confusion_matrix(predicted, self.splits.validation.class_ids, len(self.task.labels))
        correct, count = int(confusion.trace()), len(predicted)
        record = self._record(confusion, interrupted)
        reference = dataclasses.replace(reference, training=dict(record))
        reference = reference.rejecting(choose_rejection(reference.runtime(), self.task, self.splits.validation, self.seed))
        with contextlib.suppress(ConversionError):  # dead layers: a model that cannot be quantized yet is kept all the same
            reference = record_calibration(reference, self.splits, self.seed)
        record |= self._store_splits()  # behind the reference: a model may be given away, where its pictures lie need not
        save_reference(reference, self.out / MODEL_FILE)
        write_json(self.out / "training.json", record)
        title = f"{self.task.name} {self.name}: {correct} of {count} validation pictures"
        draw_curves(self.history, self.out / "curves.png", title=title, best_epoch=self.best_epoch)
        if not interrupted:
            (self.out / checkpoints.FILE_NAME).unlink(missing_ok=True)
        return TrainingRun(self.out, reference, record, correct, count, interrupted)

    def _batches(self, epoch: int) -> EpochBatches:
        recipe = self.recipe
        images, targets = self.pictures.of_epoch(epoch)
        return EpochBatches(
            images,
            targets,
            recipe.augmentation,
            batch_size=recipe.batch_size,
            seed=self.seed,
            epoch=epoch,
            mixup=recipe.mixup,
        )

    def _epoch(self, epoch: int, interrupted: threading.Event) -> dict[str, float]:
        """Train epoch `epoch`, counted from 0, validate, and return its entry of the history."""
        start = time.monotonic()
        batches = self._batches(epoch)
        fitted = self.model.fit(batches, verbose=0, shuffle=False, callbacks=[_StopOn(interrupted)])
        batches.release()
        entry = {"epoch": epoch + 1} | {name: float(values[-1]) for name, values in fitted.history.items()}
        for prefix, dataset in self.validation.items():
            entry |= {f"{prefix}_{name}": value for name, value in self._evaluate(dataset).items()}
        return entry | {"seconds": time.monotonic() - start}

    def _evaluate(self, dataset: Dataset) -> dict[str, float]:
        targets = one_hot(dataset.class_ids, len(self.task.labels))
        figures = self.model.evaluate(dataset.images, targets, batch_size=_VALIDATION_BATCH, verbose=0, return_dict=True)
        return {name: float(value) for name, value in figures.items()}

    def _weights(self) -> list[NDArray[Any]]:
        # Copies: on the JAX backend Keras gives views of buffers that the next step overwrites.
        return [np.array(weights) for weights in self.model.get_weights()]

    def _checkpoint(self) -> None:
        state = checkpoints.optimizer_state(self.model)
        checkpoint = Checkpoint(self.settings, self.history, self._weights(), self.best_weights, state)
        checkpoint.save(self.out / checkpoints.FILE_NAME)

    def _store_splits(self) -> dict[str, Any]:
        """Write the table of the splits where they came from a folder; return what the record says of table and folder."""
        path = self.out / split_table.FILE_NAME
        summary = None if self.splits.summary is None else self.splits.summary.to_json()
        if not self.splits.storable:
            path.unlink(missing_ok=True)  # of a training that was here before
            return {"data_folder": None, "splits_table": None, "folder_summary": summary}
        table = {"file": path.name, "sha256": split_table.write_splits_table(self.task, self.splits, path)}
        return {"data_folder": str(self.splits.folder), "splits_table": table, "folder_summary": summary}

    def _record(self, confusion: NDArray[np.int64], interrupted: bool) -> dict[str, Any]:
        correct, count = int(confusion.trace()), int(confusion.sum())
        low, high = wilson_interval(correct, count)
        return {
            **self.settings,
            "data": {name: dataclasses.asdict(data_info(self.splits, name)) for name in ("train", "validation", "test")},
            "split": dataclasses.asdict(self.splits.info),
            "recipe": dataclasses.asdict(self.recipe),
            "device": self.devices.description,
            "precision": self.devices.policy,
            "versions": _versions(),
            "seconds_per_epoch": statistics.median(entry["seconds"] for entry in self.history),
            "interrupted": interrupted,
            "best_epoch": self.best_epoch,
            "validation": {
                "correct": correct,
                "count": count,
                "accuracy": correct / count,
                "confidence": 0.95,
                "interval": [low, high],
                "confusion": confusion.tolist(),
            },
            "history": self.history,
        }


class _StopOn(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Ends Keras' loop after the batch during which the event was set."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self._event.is_set():
            self.model.stop_training = True


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    """Let layers made inside have this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _compile(model: keras.Model, recipe: Recipe, *, steps: int, jit_compile: bool | str) -> None:
    rate: Any = recipe.learning_rate
    if recipe.cosine:
        # A twentieth of the steps to warm up: batch normalisation's first statistics are poor.
        warm = max(1, steps // 20)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100, max(1, steps - warm), warmup_target=recipe.learning_rate, warmup_steps=warm
        )
    if recipe.weight_decay > 0:
        optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
        optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    else:
        optimizer = keras.optimizers.Adam(rate)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=jit_compile)


def _views(validation: Dataset, augmentation: Augmentation | None) -> dict[str, Dataset]:
    """Return the validation pictures as they are and, for an augmented training, as one camera saw them.

    Clean validation saturates early; the second view tells which epoch is the more robust.
    """
    views = {"validation": validation}
    if augmentation is not None:
        seen = augment(validation.images, augmentation, np.random.default_rng(_CAMERA_SEED))
        views["camera"] = dataclasses.replace(validation, images=seen)
    return views


def _selection_loss(entry: dict[str, float]) -> float:
    return entry["validation_loss"] + entry.get("camera_loss", 0.0)


def _versions() -> dict[str, str]:
    backend = keras.backend.backend()
    return {
        "edgecnn": edgecnn.__version__,
        "keras": keras.__version__,
        backend: importlib.metadata.version(backend),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def _line(entry: dict[str, float], epochs: int) -> str:
    parts = [f"epoch {entry['epoch']:.0f}/{epochs}", f"loss {entry['loss']:.4f} accuracy {entry['accuracy']:.4f}"]
    for prefix in ("validation", "camera"):
        if f"{prefix}_loss" in entry:
            parts.append(f"{prefix} {entry[f'{prefix}_loss']:.4f} {entry[f'{prefix}_accuracy']:.4f}")
    return " | ".join([*parts, f"{entry['seconds']:.1f} s"])
