"""Features as a pretrained network might give them: a cloud for each class, pictures of one group close together."""

from __future__ import annotations

import numpy as np

from edgecnn.datasets.dataset import Dataset
from edgecnn_export.studies.frozen import Frozen


def clusters(classes: int = 3, groups: int = 30, members: int = 3, *, apart: float = 3.0, seed: int = 0) -> Frozen:
    """Draw `groups` groups of each class; `apart` is how far the classes' means lie from each other, 0 is all in one place."""
    random = np.random.default_rng(seed)
    class_ids = np.repeat(np.arange(classes, dtype=np.int64), groups * members)
    group_ids = np.repeat(np.arange(classes * groups, dtype=np.int64), members)
    means = apart * random.normal(size=(classes, 16)) / 2
    parts = random.normal(size=(classes * groups, 16))
    features = means[class_ids] + parts[group_ids] + 0.1 * random.normal(size=(len(class_ids), 16))
    labels = tuple(f"class{i}" for i in range(classes))
    names = tuple(f"{labels[c]}/{i}.png" for i, c in enumerate(class_ids))
    images = np.zeros((len(class_ids), 8, 8, 1), np.uint8)
    return Frozen(Dataset(images, class_ids, names, group_ids), labels, features.astype(np.float32), group_ids)
