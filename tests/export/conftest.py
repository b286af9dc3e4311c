"""A tiny trained net with everything that exports fold, place and convert, and its pictures; trained once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.frameworks import require_keras

require_keras()
import keras  # noqa: E402  # only after its start-up messages are held back
from keras import layers  # noqa: E402

from edgecnn_export.reference import Reference  # noqa: E402
from edgecnn_export.studies import trainings  # noqa: E402

BARS = Task("bars", "drawn bars", ("dark", "upright", "lying"), Preprocessing(16, 16, "gray"), max_drop=5.0)


def draw_bars(count_per_class: int, seed: int) -> Dataset:
    """Draw dark noise, upright bars and lying bars, 16 x 16."""
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


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let studies train in this process, where TensorFlow is loaded already; `test_trainings.py` has their children."""

    def run_here(shared: Any, left: list[trainings.Training], out: Path, jobs: int) -> Iterator[Any]:
        return ((each, trainings._run(shared, each, out / each.name)) for each in left)

    monkeypatch.setattr(trainings, "_run_here", run_here)


@pytest.fixture(scope="session")
def bar_splits() -> Splits:
    """Forty pictures per class to train on, twenty to validate."""
    info = SplitInfo("drawn bars", "each split from its own seed", 0)
    return Splits(draw_bars(40, 1), draw_bars(20, 2), draw_bars(1, 3), info)


@pytest.fixture(scope="session")
def bar_reference(bar_splits: Splits) -> Reference:
    """A net of batch normalisation, a separable convolution, an addition, pooling and dropout that knows the bars."""
    keras.utils.set_random_seed(7)
    image = keras.Input((16, 16, 1), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.8)(x)
    x = layers.ReLU()(x)
    y = layers.SeparableConv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.Add()([x, y])
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.8)(x)
    x = layers.ReLU(6.0)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.1)(x)
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="answer")(x), name="tiny")
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(bar_splits.train.images, bar_splits.train.class_ids, batch_size=20, epochs=15, verbose=0)
    return Reference(model, BARS, "tiny")
