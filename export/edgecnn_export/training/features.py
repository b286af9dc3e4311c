"""The last layer of a network fitted to what the layers before it make of the training pictures, each looked at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.mapped import blocks, let_go
from edgecnn.progress import report
from edgecnn_export.training.augmentation import Augmentation, augment
from edgecnn_export.training.balancing import alternating
from edgecnn_export.training.head import PENALTIES, Head, balanced_loss, fit_head

MOST_VIEWS = 4000  # pictures that go through the network at most: a minute of two cores at 200 x 200
BATCH = 32
_STAGE = "features of the training pictures"


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A fitted last layer, the penalty that did best on the validation pictures, how many views it was fitted to, and time."""

    head: Head
    penalty: float
    views: int
    seconds_per_view: float


def fit_last_layer(
    model: keras.Model,
    train: Dataset,
    validation: Dataset,
    *,
    views: int,
    augmentation: Augmentation | None,
    smoothing: float,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> FittedHead:
    """Fit the last dense layer of `model` and put it there.

    The features of a picture as it is are computed once, and those of up to `views - 1` augmented ones, MOST_VIEWS in all.
    `smoothing` is the recipe's label smoothing, so that the losses of later epochs can be compared with this one's. Once
    `stop()` is true, the layer is fitted to what has been seen so far, some of each class.
    """
    last = model.layers[-1]
    network = keras.Model(model.inputs, last.input)
    began = clock()
    wanted = min(views * len(train), MOST_VIEWS)
    features, class_ids = [], []
    report(_STAGE, 0, wanted)
    for images, ids in _views(train, wanted, augmentation, seed):
        features.append(np.asarray(network.predict_on_batch(images.astype(np.float32)), np.float32))
        let_go()
        class_ids.append(ids)
        report(_STAGE, sum(map(len, class_ids)), wanted)
        if stop() and sum(map(len, class_ids)) >= last.units:  # classes take turns, so that each was seen
            break
    report(_STAGE, wanted, wanted)
    seen, of_class = np.concatenate(features), np.concatenate(class_ids)
    seconds = (clock() - began) / len(seen)
    held_out = np.concatenate([network.predict(block, batch_size=BATCH, verbose=0) for block in blocks(validation.images)])
    heads = {penalty: fit_head(seen, of_class, last.units, penalty=penalty, smoothing=smoothing) for penalty in PENALTIES}
    best = min(heads, key=lambda penalty: balanced_loss(heads[penalty], held_out, validation.class_ids))
    last.set_weights([heads[best].kernel, heads[best].bias])
    return FittedHead(heads[best], best, len(seen), seconds)


def _views(
    train: Dataset, wanted: int, augmentation: Augmentation | None, seed: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield batches of `wanted` views: all pictures as they are, then augmented, in each round classes taking turns."""
    given = view = 0
    while given < wanted:
        random = np.random.default_rng((seed, view))
        order = alternating(train.class_ids, random)[: wanted - given]
        for at in range(0, len(order), BATCH):
            chosen = order[at : at + BATCH]
            images = train.images[chosen]
            if view and augmentation is not None:
                images = augment(images, augmentation, random)
            yield images, train.class_ids[chosen]
        given, view = given + len(order), view + 1


def freeze(network: keras.Model, last: str | None) -> None:
    """Let the layers up to the one named `last`, and all batch normalisations, stay as they are; None freezes nothing.

    Few pictures cannot give better statistics than those of a million. Raises ValueError for a layer that there is not.
    """
    if last is None:
        return
    at = network.layers.index(network.get_layer(last))
    for i, layer in enumerate(network.layers):
        layer.trainable = i > at and not isinstance(layer, keras.layers.BatchNormalization)
