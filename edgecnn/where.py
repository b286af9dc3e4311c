"""Which places of a picture speak for its answer, and which are like nothing that was taught: maps over the feature map.

Where a network ends in a mean over all places and a dense layer, the class's score is the mean of a score for each place: its
class activation map (Zhou et al., arXiv:1512.04150) is exact, and costs one small product. It is as coarse as the network's
last map; what is drawn and boxed is that map times the picture's own local contrast, which points better
(docs/explanation/rejection.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.good_parts import GoodPartsRuntime
from edgecnn.runtimes.head import HeadRuntime
from edgecnn.runtimes.runtime import Answers

Map = NDArray[np.float32]
# Sigma of the contrast's window in shorter sides; 1/40 and 1/17 point as well within the noise of 300 pictures.
_WINDOW = 1 / 25
_HOT = 0.5  # of the way from the mean of a map to its maximum


def class_maps(runtime: Runtime, answers: Answers, class_ids: Sequence[int]) -> list[Map]:
    """Return what each place adds to the score of a class, `(h, w)` for each picture, relative to the other classes.

    Of a model that knows good parts only, how much more novel each place is than a good picture may be. Raises InputError for a
    model whose features have no places: it says what a picture shows, and not where.
    """
    features = answers.features
    if features is not None and isinstance(runtime, GoodPartsRuntime):
        return list(runtime.bank.novelty_maps(features) - 1)
    if features is None or answers.places == 1 or not isinstance(runtime, HeadRuntime):
        raise InputError("this model has no map of features, so that nothing says where it looked")
    weights = (runtime.weights - runtime.weights.mean(axis=1, keepdims=True)).astype(np.float32)
    return [np.asarray(own @ weights[:, class_id]) for own, class_id in zip(features, class_ids, strict=True)]


def pixel_maps(runtime: Runtime, images: NDArray[np.uint8], answers: Answers, class_ids: Sequence[int]) -> list[Map]:
    """Return `class_maps` as fine as the model's inputs `(n, height, width, channels)`: `(height, width)` each.

    Raises what `class_maps` raises.
    """
    place_maps = class_maps(runtime, answers, class_ids)
    if isinstance(runtime, GoodPartsRuntime):  # an odd place need not have any structure
        height, width = images.shape[1:3]
        return [enlarge(own, (height, width), (width, height)) for own in place_maps]
    return fine_maps(images, place_maps)


def fine_maps(images: NDArray[np.uint8], place_maps: Sequence[Map]) -> list[Map]:
    """Return class maps as fine as the model's inputs `(n, height, width, channels)` uint8: `(height, width)` each, 0 or more.

    Where a place speaks for the class, it is the structure in it that speaks: the map times the picture's contrast around each
    pixel, its standard deviation under a Gaussian window. A map that speaks for the class nowhere counts from its lowest value.
    Both are computed on a grid of about four places for each sigma of the window, which is a tenth of the work.
    """
    height, width = images.shape[1:3]
    found = []
    for image, own in zip(images, place_maps, strict=True):
        contrast = _contrast(image)
        speaking = _from_zero(enlarge(own, (height, width), (contrast.shape[1], contrast.shape[0])))
        fine = cv2.resize(speaking * contrast, (width, height), interpolation=cv2.INTER_LINEAR)
        found.append(np.asarray(fine, np.float32))
    return found


def _from_zero(values: Map) -> Map:
    lowest = 0.0 if float(values.max()) > 0 else float(values.min())
    return np.asarray(np.maximum(values - lowest, 0), np.float32)


def _contrast(image: NDArray[np.uint8]) -> Map:
    """Return the standard deviation of levels around each place of a grid over `(height, width, channels)`, at least 1 x 1.

    Of several channels that with most counts. Black bars around a picture (fit `pad`) are no part of it, and their edges no
    structure.
    """
    sigma = min(image.shape[:2]) * _WINDOW
    step = max(1, round(sigma / 4))
    rows, columns = (np.flatnonzero(image.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    grid_hw = max(1, image.shape[0] // step), max(1, image.shape[1] // step)
    if not len(rows):
        return np.zeros(grid_hw, np.float32)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    levels = image[top:bottom, left:right].astype(np.float32)
    inner_wh = max(1, len(levels[0]) // step), max(1, len(levels) // step)
    mean, squares = (_blurred(each, inner_wh, sigma / step) for each in (levels, levels**2))
    inner = np.sqrt(np.maximum(squares - mean**2, 0)).max(axis=2)
    if inner.shape == grid_hw:
        return np.asarray(inner, np.float32)
    whole = np.zeros(image.shape[:2], np.float32)
    whole[top:bottom, left:right] = cv2.resize(inner, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(whole, grid_hw[::-1], interpolation=cv2.INTER_AREA), np.float32)


def _blurred(levels: NDArray[np.float32], size_wh: tuple[int, int], sigma: float) -> NDArray[np.float32]:
    small = cv2.resize(levels, size_wh, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return np.asarray(blurred.reshape(size_wh[1], size_wh[0], -1), np.float32)


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
    """Return a picture `(h, w, 3)` uint8 with the places that speak for its answer in red; the rest stays as it is.

    The picture is gray, `(h, w)` or `(h, w, 1)`, or BGR `(h, w, 3)`.
    """
    height, width = image_bgr.shape[:2]
    picture = cv2.cvtColor(image_bgr, cv2.COLOR_GRAY2BGR) if image_bgr.shape[2:] != (3,) else image_bgr
    heat = np.clip(enlarge(place_map, input_hw, (width, height)), 0, None)
    share = 0.6 * heat / max(float(heat.max()), 1e-9)
    red = np.array([40, 40, 230], np.float32)
    mixed = picture * (1 - share[..., None]) + red * share[..., None]
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)
