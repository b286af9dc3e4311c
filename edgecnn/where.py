"""Which places of a picture speak for its answer, and which are like nothing that was taught: maps over the feature map.

Where a network ends in a mean over all places and a dense layer, the class's score is the mean of a score for each place: its
class activation map (Zhou et al., arXiv:1512.04150) is exact, and costs one small product. It is as coarse as the network's
last map; what is drawn and boxed is that map, smoothed along the picture's edges, times the picture's own local contrast, which
points better (docs/explanation/rejection.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.rejection.evidence import Evidence, Judged
from edgecnn.rejection.good_parts import Guard
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.good_parts import GoodPartsRuntime
from edgecnn.runtimes.head import HeadRuntime
from edgecnn.runtimes.runtime import Answers
from edgecnn.runtimes.taught import TaughtRuntime

Map = NDArray[np.float32]
MapName = Literal["class", "novelty"]
COLORS_BGR: dict[MapName, tuple[int, int, int]] = {"class": (40, 40, 230), "novelty": (230, 90, 20)}
# Sigma of the contrast's window in shorter sides; 1/40 and 1/17 point as well within the noise of 300 pictures.
_WINDOW = 1 / 25
# Radius of the guided filter in shorter sides, and the variance of levels (0 to 1) that counts as an edge; 1/24 and 0.001 point
# as well, 1/6 and 1/4 worse.
_GUIDED, _EDGE = 1 / 12, 0.01
# What is drawn in full colour at least: novelty has a scale, and what is due to no place is not to look as if it were.
_LEAST_FULL: dict[MapName, float] = {"class": 1e-9, "novelty": 0.05}
_NO_MAP = "this model has no map of features, so that nothing says where it looked"
# Of maps by weights of places: so many of a picture's places are taken to show nothing, and so much of its mean contrast counts
# where it is even. Class maps are no better with it.
_QUIET, _GROUND = 0.25, 0.25
_HOT = 0.5  # of the way from the mean of a map to its maximum


def class_maps(runtime: Runtime, answers: Answers, class_ids: Sequence[int]) -> list[Map]:
    """Return what each place adds to the score of a class, `(h, w)` for each picture, relative to the other classes.

    Raises InputError for a model whose features have no places: it says what a picture shows, and not where.
    """
    features = _features(answers)
    if not isinstance(runtime, HeadRuntime | TaughtRuntime):
        raise InputError(_NO_MAP)
    weights = (runtime.weights - runtime.weights.mean(axis=1, keepdims=True)).astype(np.float32)
    return [np.asarray(own @ weights[:, class_id]) for own, class_id in zip(features, class_ids, strict=True)]


def located_maps(
    runtime: Runtime, guard: Guard | None, images: NDArray[np.uint8], answers: Answers, class_ids: Sequence[int]
) -> list[Map]:
    """Return for each of the model's inputs `(n, height, width, channels)` where a class is seen: fine maps, 0 or more.

    By the weights of places where the model has them (`EvidenceInfo.places`), as far as a place's sum lies above that of the
    picture's lowest quarter; else by the class map. Raises InputError for a model whose features have no places.
    """
    weights = guard.place_weights if isinstance(guard, Evidence) else None
    return maps_by_weights(runtime, weights, images, answers, class_ids)


def maps_by_weights(
    runtime: Runtime,
    weights: NDArray[np.float32] | NDArray[np.float64] | None,
    images: NDArray[np.uint8],
    answers: Answers,
    class_ids: Sequence[int],
) -> list[Map]:
    """Return the same by weights of places `(channels, classes)`; a class without them, or with 0 alone, has its class map."""
    coarse = class_maps(runtime, answers, class_ids)
    maps = []
    for image, own, class_map, class_id in zip(images, _features(answers), coarse, class_ids, strict=True):
        if weights is None or class_id >= weights.shape[1] or not weights[:, class_id].any():
            maps.append(fine_map(image, class_map))
            continue
        seen = as_located(own) @ weights[:, class_id]
        maps.append(fine_map(image, np.asarray(seen - np.quantile(seen, _QUIET), np.float32), _GROUND))
    return maps


def as_located(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features of places in the form that the weights of places are for: square roots, 0 of what is below 0.

    As with whole pictures, a few large features do not rule then (`edgecnn.runtimes.head.as_compared`).
    """
    return np.asarray(np.sqrt(np.maximum(features, 0)), np.float32)


def novelty_maps(guard: Guard, answers: Answers) -> list[Map]:
    """Return how much of a picture's novelty is due to each place and its neighbours, `(h, w)` for each picture.

    It is the picture's strangeness (`Evidence.strangeness`) minus the one that the picture would have without these places, on
    the scale of `Prediction.novelty`: 1 is the threshold, and 0 or less is no reason to call it novel. The neighbours of a
    place are those up to a seventh of the map's shorter side away. Of good parts alone it is how far each place lies beyond the
    threshold, on the same scale. Raises InputError for a model without a map of features.
    """
    features = _features(answers)
    if isinstance(guard, Evidence):
        return [_novelty_map(guard, own.astype(np.float64)) for own in features]
    return list(guard.novelties(features) - 1)


def _novelty_map(evidence: Evidence, features: NDArray[np.float64]) -> Map:
    whole = features.sum(axis=(0, 1))
    without = whole - _windows(features, round(min(features.shape[:2]) / 7))
    strangeness = evidence.strangeness(np.vstack([whole, without.reshape(-1, len(whole))]))
    due = (strangeness[0] - strangeness[1:]) / evidence.info.novel_above
    return np.asarray(due.reshape(features.shape[:2]), np.float32)


def _windows(features: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Return sums over all places up to `reach` rows and columns away, of `(h, w, channels)`."""
    padded = np.pad(features, ((reach, reach), (reach, reach), (0, 0)))
    for axis in (0, 1):
        padded = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis).sum(axis=-1)
    return np.asarray(padded)


def _features(answers: Answers) -> NDArray[np.float32]:
    features = answers.features
    if features is None or answers.places == 1:
        raise InputError(_NO_MAP)
    return features


def fine_map(image: NDArray[np.uint8], place_map: Map, ground: float = 0.0) -> Map:
    """Return a class map as fine as the model's input `(height, width, channels)` uint8: `(height, width)`, 0 or more.

    Where a place speaks for the class, it is the structure in it that speaks: the map, smoothed by a guided filter (He, Sun and
    Tang, TPAMI 35, 2013) whose guide is the picture, times the picture's contrast around each pixel, its standard deviation
    under a Gaussian window; `ground` of its mean counts everywhere. A map that speaks for the class nowhere counts from its
    lowest value. All are computed on a grid of about four places for each sigma of the window, which is a tenth of the work.
    """
    height, width = image.shape[:2]
    contrast = _contrast(image)
    contrast = contrast + np.float32(ground) * contrast.mean()
    speaking = _from_zero(enlarge(place_map, (height, width), (contrast.shape[1], contrast.shape[0])))
    fine = cv2.resize(_guided(speaking, image) * contrast, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine, np.float32)


def _from_zero(values: Map) -> Map:
    lowest = 0.0 if float(values.max()) > 0 else float(values.min())
    return np.asarray(np.maximum(values - lowest, 0), np.float32)


def _guided(place_map: Map, image: NDArray[np.uint8]) -> Map:
    """Return a map, 0 or more, that follows the edges of a picture `(height, width, channels)`: locally, it is linear in it."""
    size_wh = place_map.shape[1], place_map.shape[0]
    radius = max(1, round(min(size_wh) * _GUIDED))
    small = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA).reshape(*place_map.shape, -1)
    guide = np.asarray(small.mean(axis=2, dtype=np.float32) / 255, np.float32)

    def mean(values: Map) -> Map:
        side = 2 * radius + 1
        return np.asarray(cv2.blur(values, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)

    mean_guide, mean_map = mean(guide), mean(place_map)
    slope = (mean(guide * place_map) - mean_guide * mean_map) / (mean(guide * guide) - mean_guide**2 + _EDGE)
    return np.asarray(np.maximum(mean(slope) * guide + mean(mean_map - slope * mean_guide), 0), np.float32)


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


def locating_maps(
    runtime: Runtime, guard: Guard | None, inputs: NDArray[np.uint8], answers: Answers, judged: Judged | None
) -> list[tuple[MapName, Map] | None]:
    """Return the map that says where each answer lies, 0 or more: of novelty if the picture is novel, else of its class.

    None for what passes as good where good parts alone are known: no place of it is odd.
    """
    maps: list[tuple[MapName, Map] | None] = []
    for i, class_id in enumerate(answers.probabilities.argmax(axis=1).tolist()):
        own = answers.only(i)
        if guard is not None and judged is not None and judged.novelty[i] > 1:
            maps.append(("novelty", np.maximum(novelty_maps(guard, own)[0], 0)))
        elif isinstance(runtime, GoodPartsRuntime):
            maps.append(None)
        else:
            maps.append(("class", located_maps(runtime, guard, inputs[i : i + 1], own, [class_id])[0]))
    return maps


def enlarge(place_map: Map, input_hw: tuple[int, int], size_wh: tuple[int, int]) -> Map:
    """Return a map `(h, w)` of a network's input of `input_hw` in the size of the whole picture, smooth between its places."""
    if place_map.shape == tuple(input_hw) == size_wh[::-1]:
        return place_map  # every place is a pixel
    axes = zip((place_map.shape[1], place_map.shape[0]), (input_hw[1], input_hw[0]), size_wh, strict=True)
    columns, rows = (place_coordinates(*each) for each in axes)
    grid = np.meshgrid(columns, rows)
    return np.asarray(cv2.remap(place_map, grid[0], grid[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), np.float32)


def place_coordinates(count: int, side: int, pixels: int) -> NDArray[np.float32]:
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


def overlay(
    image_bgr: NDArray[np.uint8], place_map: Map, input_hw: tuple[int, int], name: MapName = "class"
) -> NDArray[np.uint8]:
    """Return a picture `(h, w, 3)` uint8 with the places that count in red, those that are novel in blue; the rest stays.

    The picture is gray, `(h, w)` or `(h, w, 1)`, or BGR `(h, w, 3)`.
    """
    height, width = image_bgr.shape[:2]
    picture = cv2.cvtColor(image_bgr, cv2.COLOR_GRAY2BGR) if image_bgr.shape[2:] != (3,) else image_bgr
    share = _opacity(enlarge(place_map, input_hw, (width, height)), name)[..., None]
    mixed = picture * (1 - share) + np.array(COLORS_BGR[name], np.float32) * share
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def layer(place_map: Map, name: MapName) -> NDArray[np.uint8]:
    """Return what `overlay` lays over a picture as a picture of its own: BGRA `(h, w, 4)` uint8, as large as the map."""
    bgra = np.empty((*place_map.shape, 4), np.uint8)
    bgra[..., :3] = COLORS_BGR[name]
    bgra[..., 3] = np.rint(255 * _opacity(place_map, name))
    return bgra


def _opacity(place_map: Map, name: MapName) -> Map:
    """Return how much of a map hides the picture below, 0 to 0.6; nothing where it is 0 or less."""
    heat = np.maximum(place_map, 0)
    return np.asarray(0.6 * heat / max(float(heat.max()), _LEAST_FULL[name]), np.float32)
