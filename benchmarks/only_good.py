"""Good parts alone: our int8 file beside PaDiM and PatchCore, on the same pictures, folds and network.

    python -m benchmarks.only_good DIR --others DAMAGED [--group-by FILE.csv]

anomalib's own implementations download ImageNet weights and need gigabytes of PyTorch. Here the two algorithms are written
again as their papers have them, in NumPy, on float32 features of stages 4 and 5 of EfficientNet-Lite0: the rows say what our
bank of 512 places in int8 loses against them, not what a larger network would bring.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import SplitInfo, Splits
from edgecnn.datasets.group_by import parse_group_by
from edgecnn.datasets.reading import LITE_SIDE, InputChoice
from edgecnn.rejection.good_parts import far_apart
from edgecnn.tasks import Task
from edgecnn_export.frameworks import require_keras
from edgecnn_export.studies.only_good import (
    ALL,
    Fit,
    OnlyGoodData,
    Score,
    fit_int8,
    int8_runtime,
    read_only_good,
    study_only_good,
)

_LAYERS = ("block8_add", "block11_add")  # the ends of stages 4 and 5
_BATCH = 16
_DIMENSIONS = 100  # PaDiM: of the features, drawn at random
_RIDGE = 0.01  # PaDiM: added to each covariance's diagonal
_CORESET = 0.1  # PatchCore: of all places
_MOST_PLACES = 4000

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def features_of(task: Task) -> Features:
    """Return the function from pictures to the features of both stages at each place, `(n, h, w, channels)`."""
    import keras

    from edgecnn_export.networks import build

    model = build("lite", task)
    network = keras.Model(model.inputs, [model.get_layer(name).output for name in _LAYERS])

    def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = []
        for at in range(0, len(images), _BATCH):
            maps = network.predict_on_batch(images[at : at + _BATCH].astype(np.float32))
            parts.append(np.concatenate([np.asarray(each) for each in maps], axis=-1))
        return np.concatenate(parts)

    return features


def padim(task: Task, splits: Splits, seed: int) -> Score:
    """Fit a Gaussian to each place of the picture (Defard et al., ICPR 2021, arXiv:2011.08785); the largest distance counts."""
    features, random = features_of(task), np.random.default_rng(seed)
    train = features(splits.train.images)
    chosen = random.permutation(train.shape[-1])[:_DIMENSIONS]
    rows = train[..., chosen].reshape(len(train), -1, len(chosen)).transpose(1, 0, 2).astype(np.float64)
    means = rows.mean(axis=1, keepdims=True)
    centred = rows - means
    inverse = np.linalg.inv(centred.transpose(0, 2, 1) @ centred / (len(train) - 1) + _RIDGE * np.eye(len(chosen)))

    def score(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        own = features(images)[..., chosen].reshape(len(images), -1, len(chosen)).transpose(1, 0, 2) - means
        return np.asarray(np.sqrt(np.einsum("pnc,pcd,pnd->pn", own, inverse, own, optimize=True)).max(axis=0))

    return score


def patchcore(task: Task, splits: Splits, seed: int) -> Score:
    """Keep a tenth of all places, each averaged with its neighbours (Roth et al., CVPR 2022, arXiv:2106.08265)."""
    features = features_of(task)

    def pooled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        maps = [cv2.blur(each, (3, 3), borderType=cv2.BORDER_REPLICATE) for each in features(images)]
        return np.stack(maps)

    rows = pooled(splits.train.images)
    rows = rows.reshape(-1, rows.shape[-1])
    bank = rows[far_apart(rows, min(_MOST_PLACES, round(_CORESET * len(rows))), np.random.default_rng(seed))]
    squares = (bank**2).sum(axis=1)

    def score(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = []
        for own in pooled(images):
            flat = own.reshape(-1, own.shape[-1])
            nearest = (squares - 2 * flat @ bank.T).min(axis=1) + (flat**2).sum(axis=1)
            found.append(float(np.sqrt(np.maximum(nearest, 0)).max()))
        return np.array(found)

    return score


def cost(data: OnlyGoodData) -> float:
    """Return what scoring costs in NumPy beside the int8 network, in processor time, best of ten interleaved rounds."""
    runtime = int8_runtime(data.task, Splits(data.good, data.good, data.good, SplitInfo("good parts", "all for all")), 0)
    images, network, scoring = data.good.images[:4], list[float](), list[float]()
    for _ in range(10):
        began = time.process_time()
        found = runtime.inner.answer(images)
        between = time.process_time()
        runtime.scores_of(found)
        network.append(between - began)
        scoring.append(time.process_time() - between)
    return min(scoring) / min(network)


def main() -> None:
    """Measure all ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--others", type=Path, action="append", required=True)
    parser.add_argument("--group-by")
    parser.add_argument("--seed", type=int, default=0)
    stated = parser.parse_args()
    require_keras()
    group_by = None if stated.group_by is None else parse_group_by(stated.group_by)
    data = read_only_good(stated.folder, stated.others, choice=InputChoice(side=LITE_SIDE), group_by=group_by)
    ways: dict[str, Fit] = {"edgecnn, int8": fit_int8, "PaDiM, float32": padim, "PatchCore, float32": patchcore}
    kinds = [*data.others, ALL]
    print(f"| way | {' | '.join(kinds)} (95 % interval, by part) |\n|---|{'---|' * len(kinds)}", flush=True)
    for name, fit in ways.items():
        found = {row.kind: row for row in study_only_good(data, fit=fit, seed=stated.seed).rows}
        low, high = found[ALL].interval
        cells = " | ".join(f"{found[kind].auroc:.3f}" for kind in kinds)
        print(f"| {name} | {cells} ({low:.3f} to {high:.3f}) |", flush=True)
    print(f"\nscoring in NumPy costs {cost(data):.2f} times the int8 network's processor time")


if __name__ == "__main__":
    main()
