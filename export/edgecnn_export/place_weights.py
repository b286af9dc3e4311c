"""Weights that say where a class is seen, taught by the class maps and the pictures' gray levels: no box or mask is needed.

The dense layer's weights tell one class from the others. Where in a picture it is seen is another question: what tells these
places from the rest of the same picture? Two views answer it, each teaching the other (Blum and Mitchell, Combining labeled and
unlabeled data with co-training, COLT 1998). The highest and lowest places of the class maps teach a logistic regression of gray
levels, which is as fine as the picture; its map and the class map teach a ridge regression of the network's own features, or
rather of their square roots.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.rejection.contrast import fit_contrast
from edgecnn.robustness.measure import choose_pictures
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.runtime import Answers, answer_slices
from edgecnn.where import as_located, class_maps, enlarge, place_coordinates

Floats = NDArray[np.float64]
Levels = NDArray[np.float32]
PICTURES = 40  # of each class; with 20 or 100 maps are as good
_SIDE, _STEP = 100, 4  # the shorter side, in pixels, at which gray levels are seen, and the grid that they are compared on
_BLURS, _DEVIATIONS, _SPECKS = (1, 2, 4, 8, 16), (1.5, 3, 6, 12), (2, 6)  # sigmas at that side
_EXTREME = 0.2  # of the places of a class map at either end teach
_PENALTY, _RIDGE = 1e-2, 3.0  # of the two regressions, the second in mean variances of a feature
_CLASS_MAP = 0.5  # the class map's share in what the features are taught
_REACH = 0.44  # sigma of what a place stands for, in distances between places


def fit_place_weights(runtime: Runtime, train: Dataset, classes: int, seed: int = 0) -> Floats:
    """Return weights of the features' square roots `(channels, classes)` whose sum is high where a class is seen.

    Those of a class without pictures are 0. `runtime` must give a map of features of the pictures `train`, some of each
    class drawn by `seed`.
    """
    chosen = choose_pictures(train, PICTURES * classes, seed)
    found: dict[int, Floats] = {}
    for class_id in range(classes):
        images = chosen.images[chosen.class_ids == class_id]
        answers = list(answer_slices(runtime, images)) if len(images) else []
        features = [own for each in answers for own in _features(each)]
        maps = [own for each in answers for own in class_maps(runtime, each, [class_id] * len(each.probabilities))]
        if features:
            found[class_id] = _weights_of_class(list(images), features, maps)
    channels = len(next(iter(found.values()))) if found else 0
    return np.stack([found.get(each, np.zeros(channels)) for each in range(classes)], axis=1)


def _features(answers: Answers) -> Levels:
    assert answers.features is not None
    return as_located(answers.features)


def _weights_of_class(images: list[NDArray[np.uint8]], features: list[Levels], maps: list[Levels]) -> Floats:
    seen = [_Seen(image, own) for image, own in zip(images, maps, strict=True)]
    taught = [each.extremes() for each in seen]
    low, high = (np.concatenate([each[at] for each in taught]) for at in (0, 1))
    *direction, constant = fit_contrast(low, high, penalty=_PENALTY)
    inputs, wanted = [], []
    for each, own in zip(seen, features, strict=True):
        places = own.reshape(-1, own.shape[-1]).astype(np.float64)
        inputs.append(places - places.mean(axis=0))
        target = each.at_places(each.levels @ np.array(direction) + constant, (own.shape[0], own.shape[1]))
        wanted.append(target - target.mean())
    points, targets = np.concatenate(inputs), np.concatenate(wanted)
    spread = points.T @ points / len(points)
    ridge = _RIDGE * (np.trace(spread) / len(spread) or 1.0)
    return np.linalg.solve(spread + ridge * np.eye(len(spread)), points.T @ targets / len(points))


class _Seen:
    """A picture's gray levels and its class map on one grid; black bars around the picture are no part of it."""

    def __init__(self, image: NDArray[np.uint8], class_map: Levels) -> None:
        height, width = image.shape[:2]
        scale = _SIDE / min(height, width)
        size_wh = max(_STEP, round(width * scale)), max(_STEP, round(height * scale))
        self.grid_wh = size_wh[0] // _STEP, size_wh[1] // _STEP
        self._input_hw, self._class_map = (height, width), enlarge(class_map, (height, width), self.grid_wh)
        bars = image.any(axis=2).astype(np.float32)
        inner = np.outer(bars.max(axis=1), bars.max(axis=0))
        is_inner = cv2.resize(inner, self.grid_wh, interpolation=cv2.INTER_AREA).reshape(-1) > 0.5
        self._inner = np.flatnonzero(is_inner if is_inner.any() else ~is_inner)
        gray = (
            cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA).reshape(*size_wh[::-1], -1).mean(axis=2, dtype=np.float32)
        )
        self.levels = self._standardized(gray_levels(gray / 255, self.grid_wh))

    def _standardized(self, levels: Levels) -> Floats:
        flat = levels.reshape(-1, levels.shape[-1]).astype(np.float64)
        own = flat[self._inner]
        return np.asarray((flat - own.mean(axis=0)) / (own.std(axis=0) + 1e-6))

    def extremes(self) -> tuple[Floats, Floats]:
        """Return the levels `(k, features)` where the class map is lowest and where it is highest."""
        order = self._inner[np.argsort(self._class_map.reshape(-1)[self._inner], kind="stable")]
        count = max(1, int(len(order) * _EXTREME))
        return self.levels[order[:count]], self.levels[order[-count:]]

    def at_places(self, values: Floats, places_hw: tuple[int, int]) -> Floats:
        """Return what the features are taught, `(places,)`: `values` of the grid, and a share of the class map."""
        class_map = self._class_map.reshape(-1).astype(np.float64)
        taught = (values + _CLASS_MAP * class_map / (class_map.std() + 1e-6)).reshape(self.grid_wh[::-1])
        axes = zip(places_hw, self._input_hw, self.grid_wh[::-1], strict=True)
        rows, columns = (_shares(*each) for each in axes)
        return np.asarray(rows @ taught @ columns.T).reshape(-1)


def _shares(count: int, side: int, cells: int) -> Floats:
    """Return how much of each cell of a grid each place along one side stands for, `(count, cells)`; rows sum to 1."""
    gaps = (place_coordinates(count, side, cells)[None] - np.arange(count)[:, None]) / _REACH
    shares = np.exp(-0.5 * np.minimum(gaps**2, 1000.0)) + 1e-12
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float64)


def gray_levels(gray: Levels, grid_wh: tuple[int, int]) -> Levels:
    """Return what is compared of a picture `(h, w)`, 0 to 1, on a grid: `(grid height, grid width, 13)`.

    They are levels, standard deviations, and what is darker and brighter than its surroundings, at several scales.
    """
    blurred = {sigma: _blur(gray, sigma) for sigma in _BLURS}
    found = list(blurred.values())
    for sigma in _DEVIATIONS:
        found.append(np.sqrt(np.maximum(_blur(gray**2, sigma) - _blur(gray, sigma) ** 2, 0)))
    difference = blurred[_BLURS[0]] - blurred[_BLURS[-1]]
    found += [_blur(np.maximum(sign * difference, 0), sigma) for sigma in _SPECKS for sign in (-1, 1)]
    return np.stack([cv2.resize(each, grid_wh, interpolation=cv2.INTER_AREA) for each in found], axis=2)


def _blur(levels: Levels, sigma: float) -> Levels:
    return np.asarray(cv2.GaussianBlur(levels, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)
