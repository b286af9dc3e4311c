"""What is like a taught class, and is accepted for it: `python -m benchmarks.taught_lookalikes`.

The shipped steel model is taught one drawn digit at a time by 30 pictures; the other digits, of which it is never told, are its
look-alikes. Each score has its threshold from the taught pictures alone, each judged by the others (conformal, at 95 %).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.datasets.synthetic import generate_digits
from edgecnn.runtimes.head import unit, unit_distances
from edgecnn.runtimes.runtime import answer

TAUGHT, HELD = 30, 30
KEPT = 0.95
Plane = NDArray[np.float64]
Score = Callable[[Plane, Plane, bool], Plane]


def features(classifier: Classifier, images: NDArray[np.uint8]) -> Plane:
    """Return the map of features of each picture, `(n, places, channels)`, as square roots."""
    side = classifier.preprocessing.shape[0]
    views = [cv2.resize(np.asarray(image).squeeze(), (side, side), interpolation=cv2.INTER_CUBIC) for image in images]
    inputs = [classifier.preprocessing(np.asarray(view, np.uint8)) for view in views]
    found = [answer(classifier.runtime, np.stack([each])).features for each in inputs]
    maps = np.concatenate([np.asarray(each, np.float64) for each in found])
    return np.asarray(np.sqrt(np.maximum(maps.reshape(len(maps), -1, maps.shape[-1]), 0)))


def nearest(of: Plane, to: Plane, is_own: bool) -> Plane:
    """Return the distance of each row to the nearest of others; with `is_own` to the nearest but itself."""
    found = unit_distances(of, to)
    if is_own:
        np.fill_diagonal(found, np.inf)
    return np.asarray(found.min(axis=1))


def pooled(maps: Plane) -> Plane:
    """Return the mean features of each picture, as the contract's centres compare them."""
    return unit(np.sqrt(np.square(maps).mean(axis=1)))


def placed(maps: Plane) -> Plane:
    """Return all places of each picture as one vector."""
    return unit(maps.reshape(len(maps), -1))


def places(of: Plane, to: Plane, is_own: bool) -> Plane:
    """Return the mean distance of each picture's places to the most alike ones that any taught picture has within one place."""
    side = round(of.shape[1] ** 0.5)
    rows, columns = np.divmod(np.arange(side * side), side)
    far = (np.abs(rows[:, None] - rows) > 1) | (np.abs(columns[:, None] - columns) > 1)
    scores = []
    for number, one in enumerate(of):
        squares = 2 - 2 * np.einsum("pc,nqc->npq", one, to)
        own = np.where(far, 9, squares).min(axis=2).mean(axis=1)
        scores.append(np.sort(np.delete(own, number) if is_own else own)[:3].mean())
    return np.asarray(scores)


def by_place(maps: Plane) -> Plane:
    """Return maps each of whose places has length 1."""
    return np.asarray(maps / np.maximum(np.linalg.norm(maps, axis=2, keepdims=True), 1e-6))


def measure(score: Score, maps: list[Plane]) -> tuple[float, float]:
    """Return the shares of held-back pictures of a taught class, and of its look-alikes, that are accepted."""
    kept, accepted = [], []
    for number, own in enumerate(maps):
        taught, held = own[:TAUGHT], own[TAUGHT:]
        limit = np.sort(score(taught, taught, True))[min(TAUGHT, int(np.ceil(KEPT * (TAUGHT + 1)))) - 1]
        kept.append(np.mean(score(held, taught, False) <= limit))
        others = np.concatenate([each[TAUGHT:] for place, each in enumerate(maps) if place != number])
        accepted.append(np.mean(score(others, taught, False) <= limit))
    return float(np.mean(kept)), float(np.mean(accepted))


def main() -> None:
    """Print a line for each score."""
    classifier = Classifier.open("neu")
    drawn = generate_digits(TAUGHT + HELD, 0)
    maps = [features(classifier, drawn.images[drawn.class_ids == digit]) for digit in range(10)]
    known = pooled(features(classifier, _steel()))

    def contrast(of: Plane, to: Plane, is_own: bool) -> Plane:
        return np.asarray(nearest(of, to, is_own) / np.maximum(nearest(of, known, False), 1e-6))

    tried: dict[str, tuple[Score, Callable[[Plane], Plane]]] = {
        "pooled features, nearest taught picture": (nearest, pooled),
        "the same, over the distance to the nearest known class": (contrast, pooled),
        "whole map, nearest taught picture": (nearest, placed),
        "places, each to its nearest within one place": (places, by_place),
    }
    for name, (score, form) in tried.items():
        kept, accepted = measure(score, [form(each) for each in maps])
        print(f"{name:<56} kept {kept:.2f}  look-alikes accepted {accepted:.2f}")


def _steel() -> NDArray[np.uint8]:
    from edgecnn.datasets.synthetic import generate_steel

    return np.asarray(generate_steel(20, 0).images)


if __name__ == "__main__":
    main()
