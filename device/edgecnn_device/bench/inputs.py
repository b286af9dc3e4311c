"""Pictures to measure with: a file's or folder's own, or generated ones of a camera's size; never a constant."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from edgecnn.addresses import hide_addresses
from edgecnn.artifacts import Contract
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import InputError
from edgecnn.shipped import task_of
from edgecnn_device.frames import Frame, Image
from edgecnn_device.sources import SourceOptions, open_source

SIZE_WH = (640, 480)
_COUNT = 16


def measured_pictures(contract: Contract, source: str | None, seed: int, count: int = _COUNT) -> list[Image]:
    """Return up to `count` pictures `(h, w, 3)` uint8: of a video, a picture or a folder, or else generated ones.

    Raises what `open_source` raises, InputError for a source without a picture.
    """
    if source is None:
        return _generated(contract, seed, count)
    with open_source(SourceOptions(source, seed=seed, realtime=False if source == "synthetic" else None)) as opened:
        pictures = [item.image_bgr for item in itertools.islice(opened, count) if isinstance(item, Frame)]
    if not pictures:
        raise InputError(f"the source {hide_addresses(source)!r} gives no picture to measure with")
    return pictures


def _generated(contract: Contract, seed: int, count: int) -> list[Image]:
    """Return pictures of the task where it has a generator, else coarse coloured noise, enlarged to a camera's size."""
    task = task_of(contract)
    if task.synthesize is None:
        rng = np.random.default_rng(seed)
        small = [np.asarray(rng.integers(0, 256, (24, 32, 3)), np.uint8) for _ in range(count)]
    else:
        small = _in_colour(task.synthesize(-(-count // len(task.labels)), seed))[:count]
    side = min(SIZE_WH)
    size_wh = (side, side) if contract.preprocessing.fit == "digit" else SIZE_WH
    return [np.asarray(cv2.resize(image, size_wh), np.uint8) for image in small]


def _in_colour(dataset: Dataset) -> list[Image]:
    gray = dataset.images.shape[-1] == 1
    return [np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if gray else image, np.uint8) for image in dataset.images]
