"""Which places of a picture speak for its answer, and which are like nothing that was taught: maps over the feature map.

Where a network ends in a mean over all places and a dense layer, the class's score is the mean of a score for each place: its
class activation map (Zhou et al., arXiv:1512.04150) is exact, and costs one small product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.head import HeadRuntime
from edgecnn.runtimes.runtime import Answers

Map = NDArray[np.float32]
_HOT = 0.5  # of the way from the mean of a map to its maximum


def class_maps(runtime: Runtime, answers: Answers, class_ids: Sequence[int]) -> list[Map]:
    """Return what each place adds to the score of a class, `(h, w)` for each picture, relative to the other classes.

    Raises InputError for a model whose features have no places: it says what a picture shows, and not where.
    """
    features = answers.features
    if features is None or features.ndim != 4 or not isinstance(runtime, HeadRuntime):
        raise InputError("this model has no map of features, so that nothing says where it looked")
    weights = (runtime.weights - runtime.weights.mean(axis=1, keepdims=True)).astype(np.float32)
    return [np.asarray(own @ weights[:, class_id]) for own, class_id in zip(features, class_ids, strict=True)]


def enlarge(place_map: Map, input_hw: tuple[int, int], size_wh: tuple[int, int]) -> Map:
    """Return a map `(h, w)` of a network's input of `input_hw` in the size of the whole picture, smooth between its places."""
    axes = zip((place_map.shape[1], place_map.shape[0]), (input_hw[1], input_hw[0]), size_wh, strict=True)
    columns, rows = (_places(*each) for each in axes)
    grid = np.meshgrid(columns, rows)
    return np.asarray(cv2.remap(place_map, grid[0], grid[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _places(count: int, side: int, pixels: int) -> NDArray[np.float32]:
    """Return at which of `count` places each of `pixels` pixels lies, along an input of `side` pixels.

    Steps of stride 2 over padded pictures ("same") look at the pixels 2i + 1 where the side is even and 2i where it is odd. A
    network that comes to its places in another way is taken to divide its input evenly.
    """
    at = (np.arange(pixels) + 0.5) * side / pixels - 0.5
    sides = [side]
    while sides[-1] > count:
        sides.append(math.ceil(sides[-1] / 2))
    if sides[-1] != count:
        return np.asarray((at + 0.5) * count / side - 0.5, np.float32)
    for each in sides[:-1]:
        at = (at - (each % 2 == 0)) / 2
    return np.asarray(at, np.float32)


def hot_box(place_map: Map, input_hw: tuple[int, int], size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box (x, y, width, height) of the connected area around the maximum, in a picture of `size_wh`."""
    whole = enlarge(place_map, input_hw, size_wh)
    _, _, _, (x, y) = cv2.minMaxLoc(whole)
    threshold = float(whole.mean()) + _HOT * (float(whole.max()) - float(whole.mean()))
    _, labels, stats, _ = cv2.connectedComponentsWithStats((whole >= threshold).astype(np.uint8))
    left, top, width, height, _ = stats[labels[y, x]].tolist()
    return left, top, width, height


def overlay(image_bgr: NDArray[np.uint8], place_map: Map, input_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a picture `(h, w, 3)` uint8 with the places that speak for its answer in red; the rest stays as it is."""
    height, width = image_bgr.shape[:2]
    picture = cv2.cvtColor(image_bgr, cv2.COLOR_GRAY2BGR) if image_bgr.ndim == 2 else image_bgr
    heat = np.clip(enlarge(place_map, input_hw, (width, height)), 0, None)
    share = 0.6 * heat / max(float(heat.max()), 1e-9)
    red = np.array([40, 40, 230], np.float32)
    mixed = picture * (1 - share[..., None]) + red * share[..., None]
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)
