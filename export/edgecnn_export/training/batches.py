"""Training pictures in batches, shuffled and augmented again each epoch, the same ones for the same seed."""

from __future__ import annotations

import math
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.mapped import let_go
from edgecnn_export.training.augmentation import Augmentation, augment

Chosen = NDArray[np.int64] | slice


class Rows(Protocol):
    """The pictures or the targets of an epoch, made when they are asked for: all at once may be more than the memory holds."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, chosen: Chosen) -> NDArray[Any]:
        """Return those `chosen` `(k,)` as an array of their own."""


class EpochBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """The batches of one epoch. Each batch depends on the seed, the epoch and its own index only.

    So a resumed training sees what an uninterrupted one would have seen, and several workers may make batches at once. What
    is left over at the end of the shuffled order is dropped: batch normalisation over two or three pictures does harm.
    """

    def __init__(
        self,
        images: Rows,
        targets: Rows,
        augmentation: Augmentation | None,
        *,
        batch_size: int,
        seed: int,
        epoch: int,
        mixup: float = 0.0,
        views: NDArray[np.int64] | None = None,
        workers: int = 2,
    ) -> None:
        """Shuffle pictures `(n, h, w, c)` and targets `(n, classes)` for `epoch`, counted from 0.

        None for `augmentation` leaves the pictures as they are; `mixup` is the recipe's. `views` `(n, 2)` says which picture
        is shown in which of its views (`views_of`), whose appearance then changes from epoch to epoch.
        """
        super().__init__(workers=workers, max_queue_size=8)
        self._images, self._targets = images, targets
        self._augmentation, self._mixup, self._views = augmentation, mixup, views
        self._seed = (seed, epoch)
        self._batch_size = min(batch_size, len(images))
        self._order = np.random.default_rng(self._seed).permutation(len(images))

    def __len__(self) -> int:
        """Return how many whole batches the pictures fill."""
        return len(self._images) // self._batch_size

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return batch `index`: pixels `(batch, h, w, c)` of 0..255 and targets `(batch, classes)`."""
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        images, targets = self._images[chosen], self._targets[chosen]
        let_go()
        random = np.random.default_rng((*self._seed, index + 1))
        augmentation = self._augmentation
        if self._views is not None:
            images = views_of(images, augmentation, self._seed[0], *self._views[chosen].T)
            augmentation = None if augmentation is None else augmentation.appearance
        if augmentation is not None:
            images = augment(images, augmentation, random)
        return blend(images.astype(np.float32), targets, self._mixup, random)

    def release(self) -> None:
        """Let go of the pictures: TensorFlow keeps a reference to whatever `fit` was given for as long as the process lives."""
        nothing = slice(0, 0)
        self._images, self._targets = self._images[nothing].copy(), self._targets[nothing].copy()  # a view would keep them


class ValidationBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """Pictures in their order with targets and weights: given as arrays, Keras would copy all of them at once."""

    def __init__(
        self, images: NDArray[np.uint8], targets: NDArray[np.float32], weights: NDArray[np.float64] | None, *, batch_size: int
    ) -> None:
        """Take pictures `(n, h, w, c)`, targets `(n, ...)` and, where they differ, weights `(n,)`."""
        super().__init__()
        self._parts = (images, targets) if weights is None else (images, targets, weights)
        self._batch_size = batch_size

    def __len__(self) -> int:
        """Return how many batches there are; the last one may be smaller."""
        return math.ceil(len(self._parts[0]) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        """Return batch `index`: pixels of 0..255, targets, and weights where there are any."""
        images, *rest = (part[index * self._batch_size : (index + 1) * self._batch_size] for part in self._parts)
        batch = images.astype(np.float32), *rest
        let_go()
        return batch


def views_of(
    images: NDArray[np.uint8],
    augmentation: Augmentation | None,
    seed: int,
    pictures: NDArray[np.int64],
    views: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Return images `(n, h, w, c)` each in one of its views, the same whenever it is asked for; view 0 is the image itself.

    A view is what the geometry of an augmentation makes of it. It depends on the seed and the numbers of picture and view
    `(n,)` only.
    """
    if augmentation is None:
        return images
    seen, geometry = images.copy(), augmentation.geometry
    for i in np.flatnonzero(views):
        random = np.random.default_rng((seed, int(pictures[i]), int(views[i])))
        seen[i] = augment(images[i : i + 1], geometry, random)[0]
    return seen


def blend(
    images: NDArray[np.float32], targets: NDArray[np.float32], alpha: float, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Blend each picture `(n, h, w, c)` and its target `(n, classes)` with another's, by a share from Beta(alpha, alpha)."""
    if alpha <= 0:
        return images, targets
    share, partner = random.beta(alpha, alpha, len(images)).astype(np.float32), random.permutation(len(images))
    of_picture, of_target = share[:, None, None, None], share[:, None]
    blended = images * of_picture + images[partner] * (1 - of_picture)
    return blended, targets * of_target + targets[partner] * (1 - of_target)


def one_hot(class_ids: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Return targets `(n, classes)`: Keras smooths labels only in this form."""
    return np.eye(classes, dtype=np.float32)[class_ids]
