"""The proofs that `benchmarks.disputed_pairs` judges a table of groups by."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.disputed_pairs import linked, lost_pairs, proofs


def surface(seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(size=(3, 200, 160)).astype(np.float32)
    layers = [cv2.GaussianBlur(layer, (0, 0), sigma) * sigma for layer, sigma in zip(noise, (1.2, 3.0, 8.0), strict=True)]
    return np.asarray(np.clip(128 + 35 * np.sum(layers, axis=0), 0, 255), np.uint8)


def test_each_proof_tells_a_surface_in_other_light_from_other_surfaces() -> None:
    darker = np.asarray(surface(0)[6:, 4:] * np.linspace(0.4, 0.8, 156), np.uint8)
    pictures = [surface(0), darker, *(surface(seed) for seed in range(1, 8))]

    of_one, of_others = proofs(pictures, [(0, 1)]), proofs(pictures, [(0, i) for i in range(2, 9)])

    assert (of_one > of_others.max(axis=0)).all()


def test_groups_are_linked_where_enough_of_the_pairs_between_them_were_found() -> None:
    pairs = [(0, 1), (2, 3), (1, 2)]

    assert len(set(linked(4, pairs, 0.25))) == 1
    assert linked(4, pairs, 0.5).tolist() == [0, 0, 2, 2]


def test_pairs_that_a_table_joins_and_the_search_does_not_are_lost() -> None:
    assert lost_pairs(np.array([0, 0, 1]), np.array([5, 5, 5])) == [(0, 2), (1, 2)]
