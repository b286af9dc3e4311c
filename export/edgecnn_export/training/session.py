"""A training in progress: epochs, validation, checkpoints, and the files that remain."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import math
import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
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
from edgecnn.errors import ConversionError, InputError
from edgecnn.files import write_json
from edgecnn.mapped import let_go, new_pictures
from edgecnn.metrics import confusion_matrix, macro_recall, weak_classes, wilson_interval
from edgecnn.progress import report
from edgecnn.rejection.threshold import choose_rejection
from edgecnn.tasks import Task
from edgecnn_export.calibration_data import record_calibration
from edgecnn_export.conversion.calibration import COUNT
from edgecnn_export.networks import PRETRAINED, build
from edgecnn_export.plots.curves import draw_curves
from edgecnn_export.reference import MODEL_FILE, Reference, save_reference
from edgecnn_export.run_folder import CHECKPOINT_FILE, CURVES, RUN_FILE, is_unfinished
from edgecnn_export.training import checkpoints
from edgecnn_export.training.augmentation import Augmentation, augment
from edgecnn_export.training.balancing import alternating, balanced_weights
from edgecnn_export.training.batches import EpochBatches, ValidationBatches, one_hot
from edgecnn_export.training.budget import Budget, duration, learning_rate, startup_seconds, still_rising
from edgecnn_export.training.checkpoints import Checkpoint
from edgecnn_export.training.devices import Devices
from edgecnn_export.training.distillation import DistillationLoss, Lessons, label_accuracy, with_imitation
from edgecnn_export.training.epoch_pictures import TrainingPictures
from edgecnn_export.training.features import fit_last_layer, freeze
from edgecnn_export.training.recipes import Recipe

_VALIDATION_BATCH = 64
_PASSES = 3  # forward passes take as long as one forward and one backward pass
_LEAST_AVERAGED = 2  # epochs
_VIEWS = ("validation", "camera")
_RECALL = "recall"  # of the pictures of a class, the mean over classes where the recipe is balanced
_FEW = 32  # pictures to round weights by
_CAMERA_BYTES = 2**28  # of pictures that are seen through the camera at once
_CAMERA_SEED = 2026  # the camera's view of the validation pictures is the same in every epoch and every training


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """What a training left: the model with the best weights and the figures of its validation pictures.

    `record` is what `training.json` holds; `correct` of `count` validation pictures are classified correctly.
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
        return is_unfinished(self.folder)

    @property
    def validation_accuracy(self) -> float:
        """Share of the validation pictures that are classified correctly."""
        return self.correct / self.count

    @property
    def weak_classes(self) -> list[tuple[str, int, int]]:
        """Label, right answers and pictures of each class of which fewer than half the validation pictures were recognised."""
        confusion = np.array(self.record["validation"]["confusion"])
        labels = self.reference.task.labels
        return [(labels[i], int(confusion[i, i]), int(confusion[i].sum())) for i in weak_classes(confusion)]

    @property
    def guesses(self) -> bool:
        """True when always naming the commonest class gets as many validation pictures right, and a class is weak."""
        return bool(self.weak_classes) and self.correct <= max(map(sum, self.record["validation"]["confusion"]))

    @property
    def unmeasured_classes(self) -> list[str]:
        """Labels of the classes without validation pictures, about which nothing is known."""
        counts = np.array(self.record["validation"]["confusion"]).sum(axis=1)
        return [label for label, count in zip(self.reference.task.labels, counts, strict=True) if not count]

    @property
    def validation_interval(self) -> tuple[float, float]:
        """95 % Wilson interval of the validation accuracy."""
        return wilson_interval(self.correct, self.count)


class Session:
    """A training in progress: the compiled model, its history and the best weights so far."""

    def __init__(
        self,
        task: Task,
        splits: Splits,
        model: str,
        recipe: Recipe,
        seed: int,
        out: Path,
        devices: Devices,
        budget: Budget,
        lessons: Lessons | None = None,
        start: keras.Model | None = None,
        stored: Splits | None = None,
    ) -> None:
        """Build and compile the model, its weights drawn by `seed` or those of `start`; InputError for an impossible recipe.

        `lessons` are what the teacher said, where the recipe wants one. `stored` is the division to keep with the run, where
        `splits` has only some of its training pictures.
        """
        self.task, self.splits, self.name, self.recipe, self.seed, self.out = task, splits, model, recipe, seed, out
        self.devices, self.budget, self.lessons = devices, budget, lessons
        self.start, self.stored = start, stored or splits
        self.epochs: int | None = recipe.epochs if budget.minutes is None else None  # None: not decided yet
        self.history: list[dict[str, float]] = []
        self._digest = splits.train.digest()
        self._startup_s = 0.0  # of the latest epoch, for what no other one has to do
        self.best_weights: list[NDArray[Any]] = []
        self._average: list[NDArray[Any]] = []  # of the network's weights over the latest epochs
        keras.utils.set_random_seed(seed)
        self.pictures = TrainingPictures(splits.train, task, recipe, seed=seed, lessons=lessons)
        with _policy(devices.policy), devices.scope():
            network = build(model, task, pretrained=start is None)
            if start is not None:
                start_from(network, start)
            freeze(network, recipe.frozen)
            self.network = self.model = devices.prepare(network)
            if lessons is not None:
                self.model = with_imitation(self.network, lessons.maps.shape[2:])
            self._compile()
        self.validation = _views(splits.validation, recipe.augmentation)
        # Builds losses and metrics. Left to the first `fit`, the JAX backend takes a batch from the epoch for it, and a
        # resumed training would not repeat an uninterrupted one.
        self._evaluate(splits.validation.take(np.arange(min(len(splits.validation), _VALIDATION_BATCH))))

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this training the one that it is."""
        return {
            "task": self.task.name,
            "model": self.name,
            "parameters": self.network.count_params(),
            "epochs": self.epochs,
            "minutes": self.budget.minutes,
            "batch_size": self.recipe.batch_size,
            "seed": self.seed,
            "training_pictures": self._digest,
            "recipe_digest": self.recipe.digest(),
            **({} if self.lessons is None else {"views": self.lessons.views}),
            **({} if self.start is None else {"start": _digest(self.start)}),
        }

    @property
    def done(self) -> int:
        """How many epochs are done."""
        return int(self.history[-1]["epoch"]) if self.history else 0

    @property
    def best_epoch(self) -> int:
        """The best epoch, counted from 1 (`choose_epoch`); 0 for the fitted last layer alone."""
        return int(choose_epoch(self.history, np.bincount(self.splits.validation.class_ids))["epoch"])

    @property
    def complete(self) -> bool:
        """All epochs are done, or the validation loss has not become better for long."""
        if self.epochs is not None and self.done >= self.epochs:
            return bool(self.history)
        return self.done > 0 and self.done - self.best_epoch >= self.recipe.patience

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take up where a checkpoint of the same training left off; InputError for another's."""
        if self.budget.minutes is not None:
            self.epochs = checkpoint.settings["epochs"]
        checkpoint.check(self.settings, self.out / CHECKPOINT_FILE)
        with self.devices.scope():
            checkpoint.restore(self.model)
        self.history, self.best_weights, self._average = checkpoint.history, checkpoint.best_weights, checkpoint.average

    def run(self, interrupted: threading.Event, progress: Callable[[str], None]) -> None:
        """Train the epochs that are left, or until the interruption or the end of the time."""
        if self.recipe.head_views and not self.history:
            self._remember(self._fit_last_layer(interrupted), interrupted)
            progress(_line(self.history[-1], "last layer", self._seconds_left()))
        while not (self.complete or interrupted.is_set() or self._time_is_up()):
            entry = self._epoch(self.done, interrupted)
            if interrupted.is_set() and self.history:
                break  # a part of an epoch counts only when there is nothing else
            if self.epochs is None:
                at_most = self.recipe.most_epochs or self.recipe.epochs
                self.epochs = self.budget.epochs(entry["seconds"] - self._startup_s, self._reserve(), at_most)
            self._remember(entry, interrupted)
            progress(_line(entry, f"epoch {self.done}/{self.epochs}", self._seconds_left()))
        if not interrupted.is_set():
            progress(self._ending())

    def _remember(self, entry: dict[str, float], interrupted: threading.Event) -> None:
        self.history.append(entry)
        if self.best_epoch == self.done:
            self.best_weights = self._average or _weights(self.network)
        if not interrupted.is_set():
            self._checkpoint()

    def _ending(self) -> str:
        """Say why the training ends, and whether more of it would help."""
        if self.done and self.done - self.best_epoch >= self.recipe.patience:
            return f"done: no better epoch on validation for {self.recipe.patience} epochs: stopped early"
        if self.still_rising:
            return f"still rising after epoch {self.done}: more time would help"
        if self.done == 1:
            return "done: one epoch, too few to tell whether more would help"
        return f"done: the last of {self.done} epochs brought little" if self.done else "done: the last layer is fitted"

    @property
    def still_rising(self) -> bool:
        """True when the last epochs lowered the validation loss so much that more of them are worth a try."""
        return still_rising([_selection_loss(entry) for entry in self.history if entry["epoch"]])

    def _time_is_up(self) -> bool:
        """Tell whether another epoch would not fit; an answer there must be, however short the time."""
        return bool(self.history) and self.budget.left() < self._reserve() + 0.5 * self._epoch_seconds()

    def _epoch_seconds(self) -> float:
        """Return how long an epoch takes, guessed by a forward pass before there was one, 0 without either."""
        if self.done:
            return statistics.median(entry["seconds"] for entry in self.history if entry["epoch"])
        shown = min(len(self.splits.train), self.recipe.most_pictures or len(self.splits.train))
        return _PASSES * shown * self.history[0]["seconds_per_picture"] if self.history else 0.0

    def _reserve(self) -> float:
        """Return the seconds that measuring and calibrating take behind the last epoch."""
        known = self.history[0].get("seconds_per_picture", 0.0) if self.history else 0.0
        return known * (2 * len(self.splits.validation) + min(len(self.splits.train), COUNT))

    def _seconds_left(self) -> float | None:
        if self.budget.minutes is not None and self.epochs is None:
            return self.budget.left()
        if self.epochs is None or self.done >= self.epochs:
            return None
        return self._epoch_seconds() * (self.epochs - self.done) + self._reserve()

    def _fit_last_layer(self, interrupted: threading.Event) -> dict[str, float]:
        """Fit the last layer to the features of the network as it is; return its entry of the history, epoch 0."""
        start, recipe = self.budget.clock(), self.recipe
        fitted = fit_last_layer(
            self.model,
            self.splits.train,
            self.splits.validation,
            views=recipe.head_views,
            augmentation=recipe.augmentation,
            smoothing=recipe.label_smoothing,
            seed=self.seed,
            stop=lambda: interrupted.is_set() or self.budget.left() <= 0,
            clock=self.budget.clock,
        )
        entry = {"epoch": 0, "penalty": fitted.penalty, "views": fitted.views} | self._validated()
        return entry | {"seconds_per_picture": fitted.seconds_per_view, "seconds": self.budget.clock() - start}

    def finish(self, interrupted: bool) -> TrainingRun:
        """Put the best weights into a float32 model without optimizer, measure it and write the files."""
        with _policy("float32"):
            model = build(self.name, self.task, pretrained=False)
        model.set_weights(self.best_weights)
        if self.recipe.on_levels:
            from edgecnn_export.training.levels import put_on_levels  # TensorFlow, which other recipes do without

            put_on_levels(model, self._few_pictures(), self.seed)
        reference = Reference(model, self.task, self.name)
        predicted = reference.runtime().run(self.splits.validation.images).argmax(axis=1)
        confusion = confusion_matrix(predicted, self.splits.validation.class_ids, len(self.task.labels))
        correct, count = int(confusion.trace()), len(predicted)
        record = self._record(confusion, interrupted)
        reference = dataclasses.replace(reference, training=dict(record))
        reference = reference.rejecting(choose_rejection(reference.runtime(), self.task, self.splits.validation, self.seed))
        with contextlib.suppress(ConversionError):  # dead layers: a model that cannot be quantized yet is kept all the same
            reference = record_calibration(reference, self.splits, self.seed)
        record |= store_splits(
            self.task, self.stored, self.out
        )  # behind the reference: a model may be given away, where its pictures lie need not
        save_reference(reference, self.out / MODEL_FILE)
        write_json(self.out / RUN_FILE, record)
        title = f"{self.task.name} {self.name}: {correct} of {count} validation pictures"
        draw_curves(self.history, self.out / CURVES, title=title, best_epoch=self.best_epoch)
        if not interrupted:
            (self.out / CHECKPOINT_FILE).unlink(missing_ok=True)
        return TrainingRun(self.out, reference, record, correct, count, interrupted)

    def _few_pictures(self) -> NDArray[np.uint8]:
        """Return training pictures of all classes, each unchanged and augmented."""
        random = np.random.default_rng(self.seed)
        images = self.splits.train.images[alternating(self.splits.train.class_ids, random)[:_FEW]]
        if self.recipe.augmentation is None:
            return images
        seen = augment(images, self.recipe.augmentation, random)
        return np.stack([images, seen], axis=1).reshape(-1, *images.shape[1:])

    def _compile(self) -> None:
        recipe, classes = self.recipe, len(self.task.labels)
        optimizer = _optimizer(recipe, recipe.epochs * len(self._batches(0)))
        loss: Any = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
        if self.lessons is not None:
            loss = DistillationLoss(self.lessons.distillation, classes, recipe.label_smoothing)
        right = label_accuracy(classes)
        recall = keras.metrics.MeanMetricWrapper(right, name=_RECALL)
        self.model.compile(optimizer, loss, metrics=[right], weighted_metrics=[recall], jit_compile=self.devices.jit_compile)

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
            views=self.pictures.views_of_epoch(epoch, len(images)),
        )

    def _epoch(self, epoch: int, interrupted: threading.Event) -> dict[str, float]:
        """Train epoch `epoch`, counted from 0, validate, and return its entry of the history."""
        start = self.budget.clock()
        batches = self._batches(epoch)
        if self.recipe.by_epoch:
            self.model.optimizer.learning_rate = learning_rate(self.recipe, epoch, self.epochs)
        watch = _Watch(
            lambda: interrupted.is_set() or (not self.history and self.budget.left() <= 0),
            f"epoch {epoch + 1}",
            len(batches),
            self.budget.clock,
        )
        figures = self.devices.loop.train(self.model, batches, watch)
        self._startup_s = startup_seconds(start, watch.first_end, self.budget.clock(), len(batches))
        batches.release()
        entry: dict[str, float] = {"epoch": epoch + 1} | figures
        with self._averaged():
            entry |= self._validated()
        return entry | {"seconds": self.budget.clock() - start}

    @contextlib.contextmanager
    def _averaged(self) -> Iterator[None]:
        """Take the weights as they are into the average, and let the network have the average inside."""
        if not self.recipe.averaging:
            yield
            return
        latest = _weights(self.network)
        share = 1 / max(self.recipe.averaging * (self.epochs or 1), _LEAST_AVERAGED)
        pairs = zip(self._average or latest, latest, strict=True)
        self._average = [np.asarray(before + share * (now - before), now.dtype) for before, now in pairs]
        self.network.set_weights(self._average)
        try:
            yield
        finally:
            self.network.set_weights(latest)

    def _validated(self) -> dict[str, float]:
        return {
            f"{prefix}_{name}": value
            for prefix, dataset in self.validation.items()
            for name, value in self._evaluate(dataset).items()
        }

    def _evaluate(self, dataset: Dataset) -> dict[str, float]:
        classes = len(self.task.labels)
        weights = balanced_weights(dataset.class_ids, classes) if self.recipe.balanced else None
        targets = one_hot(dataset.class_ids, classes)
        targets = targets if self.lessons is None else self.lessons.untaught(targets)
        batches = ValidationBatches(dataset.images, targets, weights, batch_size=_VALIDATION_BATCH)
        return self.devices.loop.evaluate(self.model, batches)

    def _checkpoint(self) -> None:
        state = checkpoints.optimizer_state(self.model)
        checkpoint = Checkpoint(self.settings, self.history, _weights(self.model), self.best_weights, state, self._average)
        checkpoint.save(self.out / CHECKPOINT_FILE)

    def _record(self, confusion: NDArray[np.int64], interrupted: bool) -> dict[str, Any]:
        correct, count = int(confusion.trace()), int(confusion.sum())
        low, high = wilson_interval(correct, count)
        return {
            **self.settings,
            "data": {name: dataclasses.asdict(data_info(self.splits, name)) for name in ("train", "validation", "test")},
            "split": dataclasses.asdict(self.splits.info),
            "recipe": dataclasses.asdict(self.recipe) | {"epochs": self.epochs},
            "device": self.devices.description,
            "precision": self.devices.policy,
            "versions": versions(),
            "pretrained": dataclasses.asdict(weights.info) if (weights := PRETRAINED.get(self.name)) else None,
            "seconds_per_epoch": statistics.median(
                entry["seconds"] for entry in self.history if entry["epoch"] or not self.done
            ),
            "interrupted": interrupted,
            "best_epoch": self.best_epoch,
            "still_rising": self.still_rising,
            "validation": {
                "correct": correct,
                "count": count,
                "accuracy": correct / count,
                "macro_recall": macro_recall(confusion),
                "confidence": 0.95,
                "interval": [low, high],
                "confusion": confusion.tolist(),
            },
            "history": self.history,
        }


def store_splits(task: Task, splits: Splits, out: Path) -> dict[str, Any]:
    """Write the table of splits that came from a folder into `out`; return what the record says of table and folder."""
    path = out / split_table.FILE_NAME
    summary = None if splits.summary is None else splits.summary.to_json()
    if not splits.storable:
        path.unlink(missing_ok=True)  # of a training that was here before
        return {"data_folder": None, "splits_table": None, "folder_summary": summary}
    table = {"file": path.name, "sha256": split_table.write_splits_table(task, splits, path)}
    return {"data_folder": str(splits.folder), "splits_table": table, "folder_summary": summary}


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Ends Keras' loop after the batch at which `stop()` was true, and reports how far the epoch is."""

    def __init__(self, stop: Callable[[], bool], name: str, batches: int, clock: Callable[[], float]) -> None:
        super().__init__()
        self._stop, self._name, self._batches, self._clock = stop, name, batches, clock
        self.first_end = 0.0  # s
        report(name, 0, batches)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if batch == 0:
            self.first_end = self._clock()
        if self._stop():
            self.model.stop_training = True
        report(self._name, batch + 1, self._batches)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        report(self._name, self._batches, self._batches)


def start_from(network: keras.Model, start: keras.Model) -> None:
    """Give a network the weights of one of its kind, layer by layer; classes more than before get those of the mean class.

    Raises InputError for a network of other layers, or of other shapes before the last one.
    """
    if len(network.layers) != len(start.layers):
        raise InputError(f"the weights of {start.name} are those of another network: {len(start.layers)} layers")
    for layer, other in zip(network.layers[:-1], start.layers[:-1], strict=True):
        try:
            layer.set_weights(other.get_weights())
        except ValueError as error:
            raise InputError(
                f"the weights of the run do not fit the input {network.input_shape[1:]}, theirs is {start.input_shape[1:]}; "
                "keep color and size, or train from the beginning"
            ) from error
    kernel, bias = start.layers[-1].get_weights()
    more = network.layers[-1].units - len(bias)
    kernel = np.concatenate([kernel, np.repeat(kernel.mean(axis=1, keepdims=True), more, axis=1)], axis=1)
    network.layers[-1].set_weights([kernel, np.concatenate([bias, np.repeat(bias.mean(), more)])])


def _digest(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weights in model.get_weights():
        digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()


def _weights(model: keras.Model) -> list[NDArray[Any]]:
    # Copies: on the JAX backend Keras gives views of buffers that the next step overwrites.
    return [np.array(weights) for weights in model.get_weights()]


@contextlib.contextmanager
def _policy(name: str) -> Iterator[None]:
    """Let layers made inside have this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _optimizer(recipe: Recipe, steps: int) -> keras.optimizers.Optimizer:
    rate: Any = recipe.learning_rate
    if recipe.cosine and not recipe.by_epoch:
        # A twentieth of the steps to warm up: batch normalisation's first statistics are poor.
        warm = max(1, steps // 20)
        rate = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate / 100, max(1, steps - warm), warmup_target=recipe.learning_rate, warmup_steps=warm
        )
    if recipe.weight_decay <= 0:
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


def _views(validation: Dataset, augmentation: Augmentation | None) -> dict[str, Dataset]:
    """Return the validation pictures as they are and, for an augmented training, as one camera saw them.

    Clean validation saturates early; the second view tells which epoch is the more robust.
    """
    views = {"validation": validation}
    if augmentation is not None:
        seen, random = new_pictures(validation.images.shape), np.random.default_rng(_CAMERA_SEED)
        at_once = max(1, _CAMERA_BYTES // validation.images[0].size)
        for at in range(0, len(validation), at_once):
            seen[at : at + at_once] = augment(validation.images[at : at + at_once], augmentation, random)
            let_go()
        views["camera"] = dataclasses.replace(validation, images=seen)
    return views


def choose_epoch(history: Sequence[dict[str, float]], counts: NDArray[np.int64]) -> dict[str, float]:
    """Return the entry of a history whose weights are kept; `counts` are the validation pictures of each class.

    Of the epochs whose recall is the best but for one standard error (Breiman et al., Classification and Regression Trees,
    1984) the one of the lowest loss, both over all views. Loss alone would take a network that calls everything by one name
    where the others are sure of themselves and now and then wrong. Decided from epoch to epoch, so that only one epoch's
    weights have to be kept.
    """
    kept, best = history[0], _recall(history[0])
    for entry in history[1:]:
        best = max(best, _recall(entry))
        least = best - _standard_error(best, counts)
        if _recall(entry) >= least and (_recall(kept) < least or _selection_loss(entry) < _selection_loss(kept)):
            kept = entry
    return kept


def _standard_error(recall: float, counts: NDArray[np.int64]) -> float:
    """Return that of a mean over classes with `counts` pictures, of which about `recall` are recognised in each.

    With two right and two wrong answers more (Agresti and Coull, The American Statistician 52, 1998): one picture is chance.
    """
    present = counts[counts > 0]
    effective = len(present) ** 2 / (1 / present).sum()
    shrunk = (recall * effective + 2) / (effective + 4)
    return math.sqrt(shrunk * (1 - shrunk) / effective)


def _recall(entry: dict[str, float]) -> float:
    views = [entry[f"{view}_{_RECALL}"] for view in _VIEWS if f"{view}_{_RECALL}" in entry]
    return sum(views) / len(views)


def _selection_loss(entry: dict[str, float]) -> float:
    return entry["validation_loss"] + entry.get("camera_loss", 0.0)


def versions() -> dict[str, str]:
    """Return what a training ran on."""
    backend = keras.backend.backend()
    return {
        "edgecnn": edgecnn.__version__,
        "keras": keras.__version__,
        backend: importlib.metadata.version(backend),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def _line(entry: dict[str, float], name: str, left: float | None) -> str:
    parts = [name]
    if "loss" in entry:
        parts.append(f"loss {entry['loss']:.4f} accuracy {entry['accuracy']:.4f}")
    for prefix in ("validation", "camera"):
        if f"{prefix}_loss" in entry:
            parts.append(f"{prefix} {entry[f'{prefix}_loss']:.4f} {entry[f'{prefix}_accuracy']:.4f}")
    return " | ".join([*parts, f"{entry['seconds']:.1f} s" + ("" if left is None else f", {duration(left)} left")])
