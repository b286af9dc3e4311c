"""Features of pictures under the pretrained network as it is: what studies of a folder rest on, computed once and kept.

The network has never seen a label of the folder, so that a wrong one cannot hide in what it learned by heart.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, Splits, concatenate
from edgecnn.datasets.flattery import Described
from edgecnn.datasets.folder import FolderContents
from edgecnn.datasets.overlap_cache import numbered
from edgecnn.errors import EdgecnnError, InputError
from edgecnn.files import exists, read_bytes, write_bytes
from edgecnn.mapped import stack_pictures
from edgecnn.progress import report
from edgecnn.tasks import Task
from edgecnn_export.networks import build
from edgecnn_export.networks.lite import CUT
from edgecnn_export.networks.pretrained import LITE0
from edgecnn_export.networks.sizes import PRETRAINED_FROM_PIXELS
from edgecnn_export.training.balancing import alternating
from edgecnn_export.training.head import feature_scales

FILE_NAME = "features.npz"
MOST_PICTURES = 2000  # a minute of two cores at 200 x 200
DIMENSIONS = 128  # principal components that are kept: a head on them answers alike, and is fitted several times as fast
_BATCH = 16
_MAX_BYTES = 2**28
_STAGE = "features of the pretrained network"


@dataclass(frozen=True, eq=False)
class Frozen:
    """Pictures with their features `(n, d)` float32; `groups` `(n,)` tells which show the same thing, counted from 0.

    `pool` has no more than the pictures that were looked at; `left_out` counts the others.
    """

    pool: Dataset
    labels: tuple[str, ...]
    features: NDArray[np.float32]
    groups: NDArray[np.int64]
    left_out: int = 0

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """The given class of each picture `(n,)`."""
        return self.pool.class_ids

    @property
    def unit(self) -> NDArray[np.float32]:
        """Features of length 1, about their mean: their products are the likeness of two pictures, -1 to 1."""
        centred = self.features - self.features.mean(axis=0)
        return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9), np.float32)


def freeze_features(
    task: Task,
    parts: Splits | Sequence[Dataset],
    *,
    cache: Path | None = None,
    most: int = MOST_PICTURES,
    seconds: float | None = None,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Frozen:
    """Compute the features of a folder's pictures, at most `most` of them, classes taking turns.

    `cache` is a file that keeps them for the next time; one that was made of other pictures is replaced. After `seconds` what
    was looked at is all. Raises InputError for pictures that the network cannot take, MissingDependencyError without the
    package of its weights.
    """
    height, width, _ = task.preprocessing.shape
    if min(height, width) < PRETRAINED_FROM_PIXELS:
        raise InputError(
            f"the pretrained network needs pictures of at least {PRETRAINED_FROM_PIXELS} pixels a side, got {height} x {width}"
        )
    whole = concatenate([parts.train, parts.validation, parts.test] if isinstance(parts, Splits) else parts)
    order = alternating(whole.class_ids, np.random.default_rng(seed))[:most]
    chosen = whole.take(np.sort(order))
    key = hashlib.sha256(f"{chosen.digest()} {LITE0.info.sha256} {CUT}".encode()).hexdigest()
    features = None if cache is None else _read(cache, key, len(chosen))
    if features is None:
        order = np.arange(len(chosen)) if seconds is None else alternating(chosen.class_ids, np.random.default_rng(seed))
        features, seen = _computed(task, chosen.images, order, seconds, clock)
        if len(seen) == len(chosen) and cache is not None:
            _write(cache, key, features)
        chosen = chosen.take(seen)
    groups = np.arange(len(chosen)) if chosen.groups is None else numbered(chosen.groups)
    return Frozen(chosen, task.labels, _components(features), groups, len(whole) - len(chosen))


def describe_folder(contents: FolderContents, class_ids: NDArray[np.int64], seed: int = 0) -> Described | None:
    """Return the features of a folder's pictures with classes `(n,)`, of at most MOST_PICTURES, classes taking turns.

    None for pictures that the network cannot take.
    """
    if min(contents.preprocessing.shape[:2]) < PRETRAINED_FROM_PIXELS:
        return None
    task = Task(name="folder", title="pictures", labels=contents.labels, preprocessing=contents.preprocessing)
    chosen = np.sort(alternating(class_ids, np.random.default_rng(seed))[:MOST_PICTURES])
    images = stack_pictures([contents.pictures[i].image for i in chosen])
    features, _ = _computed(task, images, np.arange(len(chosen)), None, time.monotonic)
    return Described("a linear classifier on features of the pretrained network", chosen, _components(features))


def _computed(
    task: Task, images: NDArray[np.uint8], order: NDArray[np.int64], seconds: float | None, clock: Callable[[], float]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features `(m, d)` of the first pictures in `order` that fit into the time, and which these are, sorted."""
    import keras

    report(_STAGE, 0, len(order))
    model = build("lite", task)
    network = keras.Model(model.inputs, model.layers[-1].input)
    began, found = clock(), []
    for at in range(0, len(order), _BATCH):
        batch = np.sort(order[at : at + _BATCH])
        found.append((batch, np.asarray(network.predict_on_batch(images[batch].astype(np.float32)), np.float32)))
        report(_STAGE, min(at + _BATCH, len(order)), len(order))
        if seconds is not None and clock() - began > seconds:
            break
    report(_STAGE, len(order), len(order))
    seen = np.concatenate([batch for batch, _ in found])
    features = np.concatenate([own for _, own in found])
    sequence = np.argsort(seen)
    return features[sequence], seen[sequence]


def _components(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return standardised features, turned into the directions in which they differ most, the first DIMENSIONS of them."""
    scaled = (features - features.mean(axis=0, dtype=np.float64)) / feature_scales(features)
    _, vectors = np.linalg.eigh(scaled.T @ scaled)
    return np.asarray(scaled @ vectors[:, ::-1][:, :DIMENSIONS], np.float32)


def _read(path: Path, key: str, count: int) -> NDArray[np.float32] | None:
    """Return what was kept under this key, None where there is nothing or it is damaged."""
    kept = _kept(path)
    if kept is None or kept[0] != key:
        return None
    fits = kept[1].ndim == 2 and len(kept[1]) == count and bool(np.isfinite(kept[1]).all())
    return kept[1] if fits else None


def _kept(path: Path) -> tuple[str, NDArray[np.float32]] | None:
    """Return the key and the features in a file, None where it is none of ours."""
    try:
        with np.load(io.BytesIO(read_bytes(path, at_most=_MAX_BYTES)), allow_pickle=False) as kept:
            return str(kept["key"]), np.asarray(kept["features"], np.float32)
    except (EdgecnnError, ValueError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, key: str, features: NDArray[np.float32]) -> None:
    if exists(path) and _kept(path) is None:
        return  # somebody else's
    packed = io.BytesIO()
    np.savez(packed, key=np.array(key), features=features.astype(np.float16))
    with contextlib.suppress(EdgecnnError):  # without it they are computed again
        write_bytes(path, packed.getvalue())
