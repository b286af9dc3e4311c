"""Learning from a teacher: a small network imitates a large, pretrained one on the very views of the pictures that both see.

Hinton, Vinyals and Dean, arXiv:1503.02531; that teacher and student must see the same view: Beyer et al., CVPR 2022,
arXiv:2106.05237. A pass through the teacher costs several times a step of the student, so that each picture has a fixed number
of views, and the teacher looks at each of them once.
"""

from __future__ import annotations

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
from edgecnn_export.training.batches import one_hot, views_of

BATCH = 32
COMPONENTS = 64  # of the teacher's features, by which most of what they say about surfaces is kept
_STAGE = "answers of the teacher"


@dataclass(frozen=True)
class Distillation:
    """How a network learns from the answers of another, `teacher`.

    Each picture has up to `views`, the first of them unchanged. `weight` is the teacher's share of what a picture's target
    says, the labels have the rest; both networks' answers are softened by `temperature`. `features` weighs how far a linear
    layer on the student's features must come to the teacher's; that layer is dropped behind the training.
    """

    teacher: str = "lite"
    views: int = 8
    weight: float = 0.7
    temperature: float = 2.0
    features: float = 1.0


@dataclass(frozen=True, eq=False)
class Lessons:
    """What the teacher said about each view.

    `answers` are softened probabilities `(views, n, classes)`, `features` its principal components `(views, n, d)`, of
    variance 1 on average; both float32.
    """

    distillation: Distillation
    answers: NDArray[np.float32]
    features: NDArray[np.float32]

    @property
    def views(self) -> int:
        """How many views of each picture there are."""
        return len(self.answers)

    def targets(self, class_ids: NDArray[np.int64], pictures: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[Any]:
        """Return targets `(m, 2 * classes + d + 1)` of `pictures` of these classes in these `views`, all `(m,)`."""
        weight, classes = self.distillation.weight, self.answers.shape[2]
        labels, answers = (1 - weight) * one_hot(class_ids, classes), weight * self.answers[views, pictures]
        return np.concatenate([labels, answers, self.features[views, pictures], np.ones((len(views), 1), np.float32)], axis=1)

    def untaught(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return targets `(m, classes)` of pictures that the teacher has not seen in the form of `targets`."""
        rest = targets.shape[1] + self.features.shape[2] + 1
        return np.concatenate([targets, np.zeros((len(targets), rest), np.float32)], axis=1)


def ask_teacher(
    teacher: keras.Model,
    train: Dataset,
    distillation: Distillation,
    augmentation: Augmentation | None,
    *,
    seed: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Lessons:
    """Let the teacher answer the views of all training pictures: as many as `distillation` wants and `seconds` allow."""
    network = keras.Model(teacher.inputs, [teacher.layers[-1].input, teacher.output])
    features, answers = [], []
    began, wanted = clock(), distillation.views if augmentation is not None else 1
    pictures = np.arange(len(train))
    while len(answers) < wanted and (not answers or (clock() - began) * (1 + 1 / len(answers)) <= seconds):
        view, seen = len(answers), []
        for at in range(0, len(pictures), BATCH):
            chosen = pictures[at : at + BATCH]
            images = views_of(train.images[chosen], augmentation, seed, chosen, np.full(len(chosen), view))
            seen.append([np.asarray(each, np.float32) for each in network.predict_on_batch(images.astype(np.float32))])
            report(_STAGE, view * len(train) + at + len(chosen), wanted * len(train))
        pooled, probabilities = (np.concatenate(part) for part in zip(*seen, strict=True))
        features.append(pooled)
        answers.append(_softened(probabilities, distillation.temperature))
    report(_STAGE, wanted * len(train), wanted * len(train))
    return Lessons(distillation, np.stack(answers), _principal(np.stack(features)))


def _softened(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    powers = np.maximum(probabilities, 1e-7) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _principal(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the strongest components `(views, n, d)` of features `(views, n, channels)`, of variance 1 on average."""
    rows = features.reshape(-1, features.shape[2]).astype(np.float64)
    rows -= rows.mean(axis=0)
    _, basis = np.linalg.eigh(rows.T @ rows)
    components = rows @ basis[:, ::-1][:, :COMPONENTS]
    scale = max(float(np.sqrt((components**2).mean())), 1e-6)
    return np.asarray((components / scale).reshape(*features.shape[:2], -1), np.float32)


def with_imitation(network: keras.Model, components: int) -> keras.Model:
    """Return the network with, behind its probabilities, a linear guess `(n, components)` at the teacher's features."""
    pooled, probabilities = network.layers[-1].input, network.output
    guess = keras.layers.Dense(components, dtype="float32", name="imitation")(pooled)
    return keras.Model(network.inputs, keras.layers.Concatenate(dtype="float32", name="lesson")([probabilities, guess]))


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
