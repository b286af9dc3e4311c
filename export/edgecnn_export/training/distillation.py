"""Learning from a teacher: a small network imitates a large, pretrained one that sees the same views, and sees them better.

Hinton, Vinyals and Dean, arXiv:1503.02531; that teacher and student must see the same crop: Beyer et al., CVPR 2022,
arXiv:2106.05237. The student sees each view through another camera every time, blurred, noisy, in other light; the teacher has
seen it as it is. So the student learns features that hold under a camera, by which a picture under a bad light is not taken for
something that was never seen. A pass through the teacher costs several times a step of the student, so that each picture has a
fixed number of views, and the teacher looks at each of them once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.progress import report
from edgecnn_export.training.augmentation import Augmentation
from edgecnn_export.training.balancing import alternating
from edgecnn_export.training.batches import one_hot, views_of

BATCH = 32
COMPONENTS = 64  # of the teacher's features: most of what they say about surfaces
MOST_VIEWS = 20_000  # of all pictures together: four minutes of a core at 200 x 200
MOST_BYTES = 2**29  # of what is kept of them
_SAMPLE = 256  # pictures by which the components are chosen
_PLACES = 20_000  # of their maps
_STAGE = "answers of the teacher"


@dataclass(frozen=True)
class Distillation:
    """How a network learns from the answers of another, `teacher`, of which only the last layer is trained where not `tuned`.

    Each picture has up to `views`, the first of them unchanged. `weight` is the teacher's share of what a picture's target
    says, the labels have the rest; both networks' answers are softened by `temperature`. `features` weighs how far the
    student's last map, through a linear layer that is dropped behind the training, lies from the teacher's: places teach a
    small network far more than one answer per picture does.
    """

    teacher: str = "lite"
    views: int = 16
    weight: float = 0.7
    temperature: float = 2.0
    features: float = 5.0
    tuned: bool = True


@dataclass(frozen=True, eq=False)
class Lessons:
    """What the teacher said about each view.

    `answers` are softened probabilities `(views, n, classes)` float32, `maps` the principal components of its features on the
    student's grid `(views, n, h, w, d)` float16, of variance 1 on average. `describe` makes such maps `(m, h, w, d)` of any
    other pictures `(m, height, width, c)`.
    """

    distillation: Distillation
    answers: NDArray[np.float32]
    maps: NDArray[np.float16]
    describe: Callable[[NDArray[np.uint8]], NDArray[np.float16]]

    @property
    def views(self) -> int:
        """How many views of each picture there are."""
        return len(self.answers)

    def targets(self, class_ids: NDArray[np.int64], pictures: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[Any]:
        """Return targets `(m, 2 * classes + h * w * d + 1)` of `pictures` of these classes in these `views`, all `(m,)`."""
        weight, classes = self.distillation.weight, self.answers.shape[2]
        labels, answers = (1 - weight) * one_hot(class_ids, classes), weight * self.answers[views, pictures]
        maps = self.maps[views, pictures].reshape(len(views), math.prod(self.maps.shape[2:])).astype(np.float32)
        return np.concatenate([labels, answers, maps, np.ones((len(views), 1), np.float32)], axis=1)

    def untaught(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return targets `(m, classes)` of pictures that the teacher has not seen in the form of `targets`."""
        rest = targets.shape[1] + math.prod(self.maps.shape[2:]) + 1
        return np.concatenate([targets, np.zeros((len(targets), rest), np.float32)], axis=1)

    def described(self, targets: NDArray[np.float32], maps: NDArray[np.float16]) -> NDArray[np.float32]:
        """Return targets `(m, classes)` in the form of `targets` of pictures of which only the teacher's maps count.

        What it sees on surfaces that have no name teaches the student to tell them from those that have one.
        """
        flat = maps.reshape(len(maps), -1).astype(np.float32)
        return np.concatenate([targets, np.zeros_like(targets), flat, np.ones((len(targets), 1), np.float32)], axis=1)


def ask_teacher(
    teacher: keras.Model,
    student: keras.Model,
    train: Dataset,
    distillation: Distillation,
    augmentation: Augmentation | None,
    *,
    seed: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Lessons:
    """Let the teacher answer as many views of all training pictures as are wanted and `seconds` allow, at least one of each.

    At most MOST_VIEWS in all, and as many as MOST_BYTES hold. Each depends on the seed and its own number only.
    """
    network, grid = keras.Model(teacher.inputs, [_last_map(teacher), teacher.output]), _grid(teacher, student)
    wanted = distillation.views if augmentation is not None else 1
    bytes_per_round = len(train) * math.prod(grid) * COMPONENTS * 2
    wanted = max(1, min(wanted, MOST_VIEWS // len(train), MOST_BYTES // bytes_per_round))
    pictures = np.arange(len(train))
    mean, basis = _components(network, train.images[alternating(train.class_ids, np.random.default_rng(seed))[:_SAMPLE]])

    def look(images: NDArray[np.uint8]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        features, probabilities = network.predict_on_batch(images.astype(np.float32))
        return _resized((features - mean) @ basis, grid), _softened(probabilities, distillation.temperature)

    def describe(images: NDArray[np.uint8]) -> NDArray[np.float16]:
        return np.concatenate([look(images[at : at + BATCH])[0] for at in range(0, len(images), BATCH)])

    began, answers, maps = clock(), list[NDArray[np.float32]](), list[NDArray[np.float16]]()
    while len(answers) < wanted and (not answers or (clock() - began) * (1 + 1 / len(answers)) <= seconds):
        view, seen = len(answers), list[tuple[NDArray[np.float16], NDArray[np.float32]]]()
        for at in range(0, len(pictures), BATCH):
            chosen = pictures[at : at + BATCH]
            images = views_of(train.images[chosen], augmentation, seed, chosen, np.full(len(chosen), view))
            seen.append(look(images))
            report(_STAGE, view * len(train) + at + len(chosen), wanted * len(train))
        maps.append(np.concatenate([each for each, _ in seen]))
        answers.append(np.concatenate([each for _, each in seen]))
    report(_STAGE, wanted * len(train), wanted * len(train))
    return Lessons(distillation, np.stack(answers), np.stack(maps), describe)


def _last_map(network: keras.Model) -> keras.KerasTensor:
    """Return the last tensor of a network that still has places, `(n, h, w, c)`."""
    return next(layer.output for layer in reversed(network.layers) if len(layer.output.shape) == 4)


def _grid(teacher: keras.Model, student: keras.Model) -> tuple[int, int]:
    """Return rows and columns at which both maps are compared: the student's, made fewer where the teacher has fewer."""
    own, theirs = _last_map(student).shape[1:3], _last_map(teacher).shape[1:3]
    rows, columns = (-(-mine // -(-mine // other)) for mine, other in zip(own, theirs, strict=True))
    return rows, columns


def _components(network: keras.Model, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean `(c,)` and principal components `(c, d)` of the features at all places of images `(n, h, w, c)`.

    Components are divided by one number, which makes their variance 1 on average.
    """
    batches = [images[at : at + BATCH].astype(np.float32) for at in range(0, len(images), BATCH)]
    rows = np.concatenate([network.predict_on_batch(each)[0].reshape(-1, _last_map(network).shape[-1]) for each in batches])
    rows = rows[:: max(1, len(rows) // _PLACES)].astype(np.float64)
    mean = rows.mean(axis=0)
    variances, basis = np.linalg.eigh(np.cov(rows - mean, rowvar=False))
    kept = np.maximum(variances[::-1][:COMPONENTS], 0)
    scale = max(float(np.sqrt(kept.mean())), 1e-6)
    return mean.astype(np.float32), np.asarray(basis[:, ::-1][:, :COMPONENTS] / scale, np.float32)


def _resized(maps: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float16]:
    """Return maps `(n, h, w, d)` as the means over the cells of a `grid` of rows and columns."""
    rows, columns = (_shares(size, cells) for size, cells in zip(maps.shape[1:3], grid, strict=True))
    return np.asarray(np.einsum("yh,nhwd,xw->nyxd", rows, maps, columns, optimize=True), np.float16)


def _shares(size: int, cells: int) -> NDArray[np.float32]:
    """Return which share each of `size` places has in the mean over each of as many `cells` of equal length `(cells, size)`."""
    edges, places = np.arange(cells + 1)[:, None] * size / cells, np.arange(size)
    overlap = np.minimum(edges[1:], places + 1) - np.maximum(edges[:-1], places)
    return np.asarray(np.maximum(overlap, 0) * cells / size, np.float32)


def _softened(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    powers = np.maximum(probabilities, 1e-7) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def with_imitation(network: keras.Model, grid: tuple[int, ...]) -> keras.Model:
    """Return the network with, behind its probabilities, its guess at the teacher's maps `(h, w, d)`, flattened."""
    rows, columns, components = grid
    places = _last_map(network)
    stride = (-(-places.shape[1] // rows), -(-places.shape[2] // columns))
    if stride != (1, 1):
        places = keras.layers.AveragePooling2D(stride, stride, padding="same", name="imitation_places")(places)
    guess = keras.layers.Conv2D(components, 1, dtype="float32", name="imitation")(places)
    lesson = keras.layers.Concatenate(dtype="float32", name="lesson")
    return keras.Model(network.inputs, lesson([network.output, keras.layers.Flatten(dtype="float32")(guess)]))


class DistillationLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras ships no types
    """The loss of the outputs of `with_imitation` against the targets of `Lessons`."""

    def __init__(self, distillation: Distillation, classes: int, label_smoothing: float) -> None:
        """Compare by the weights of `distillation`; the labels are smoothed as the recipe says."""
        super().__init__(name="distillation")
        self._distillation, self._classes, self._smoothing = distillation, classes, label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the losses `(n,)`; the soft part is scaled by the temperature's square, which keeps its gradients' size."""
        classes, temperature = self._classes, self._distillation.temperature
        labels, answers = y_true[:, :classes], y_true[:, classes : 2 * classes]
        features, taught = y_true[:, 2 * classes : -1], y_true[:, -1]
        smooth = labels * (1 - self._smoothing) + keras.ops.sum(labels, axis=1, keepdims=True) * self._smoothing / classes
        logs = keras.ops.log(keras.ops.clip(y_pred[:, :classes], 1e-7, 1.0))
        hard = -keras.ops.sum(smooth * logs, axis=1)
        soft = -keras.ops.sum(answers * keras.ops.log_softmax(logs / temperature, axis=1), axis=1)
        distance = keras.ops.mean(keras.ops.square(y_pred[:, classes:] - features), axis=1)
        return hard + temperature**2 * soft + self._distillation.features * taught * distance


def label_accuracy(classes: int) -> Callable[[Any, Any], Any]:
    """Return the metric `accuracy` of the labels in the targets of `Lessons`."""

    def accuracy(y_true: Any, y_pred: Any) -> Any:
        right = keras.ops.equal(keras.ops.argmax(y_true[:, :classes], axis=1), keras.ops.argmax(y_pred[:, :classes], axis=1))
        return keras.ops.cast(right, "float32")

    return accuracy
