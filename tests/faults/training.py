"""Trains a small network on drawn bars, going on where there is a checkpoint: `python training.py FOLDER`.

Writes the SHA-256 of the final weights beside the model.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.models import open_reference
from edgecnn_export.reference import MODEL_FILE
from edgecnn_export.run_folder import is_unfinished
from edgecnn_export.training import train

TASK = Task("bars", "drawn bars", ("dark", "upright", "lying"), Preprocessing(16, 16), max_drop=5.0)
EPOCHS = 12


def draw(count_per_class: int, seed: int) -> Dataset:
    """Draw dark noise, upright bars and lying bars."""
    random = np.random.default_rng(seed)
    class_ids = np.repeat(np.arange(3, dtype=np.int64), count_per_class)
    images = random.integers(0, 60, (len(class_ids), 16, 16, 1), dtype=np.uint8)
    for image, class_id in zip(images, class_ids, strict=True):
        at, width = random.integers(1, 11), random.integers(2, 5)
        if class_id == 1:
            image[:, at : at + width] += np.uint8(150)
        elif class_id == 2:
            image[at : at + width] += np.uint8(150)
    return Dataset(images, class_ids, tuple(f"bar[{i}]" for i in range(len(class_ids))))


def main() -> None:
    """Train or go on."""
    folder = Path(sys.argv[1])
    splits = Splits(draw(200, 1), draw(60, 2), draw(1, 3), SplitInfo("drawn bars", "each split from its own seed", 0))
    resume = is_unfinished(folder)
    if resume or not (folder / MODEL_FILE).exists():
        train(TASK, splits, out=folder, model="course", epochs=EPOCHS, batch_size=20, seed=0, resume=resume)
    weights = open_reference(folder).model.get_weights()
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in weights))
    (folder / "weights.sha256").write_text(digest.hexdigest())


if __name__ == "__main__":
    main()
