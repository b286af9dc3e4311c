"""How alike samples are: the distance of their features, of unit length and rounded to 8 bits as a sample's JSON keeps them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgecnn.runtimes.head import unit

# Distances of unit features, 0 to 2, on NEU with the shipped model: a picture and itself under a sensor's noise stay below
# 0.1 in 95 % of cases, and two different pictures of a class are further apart in 99 %. That
# model's threshold of novelty is 0.38.
DUPLICATE, ALIKE = 0.1, 0.3
_MOST_CHANNELS = 8192
_MOST_ALIKE = 24  # in one group: more do not fit on a screen
Features = NDArray[np.float64]


def encode_features(pooled: NDArray[np.float64]) -> str:
    """Return features `(channels,)` as base64 of int8, the largest being 127: their direction is what is compared."""
    steps = np.abs(pooled).max(initial=0.0) / 127 or 1.0
    return base64.b64encode(np.rint(pooled / steps).astype(np.int8).tobytes()).decode()


def decode_features(text: str) -> Features | None:
    """Return what `encode_features` wrote as `(channels,)` of unit length; None for what it did not write."""
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), np.int8)
    except (binascii.Error, ValueError):
        return None
    return unit(values[None].astype(np.float64))[0] if 0 < len(values) <= _MOST_CHANNELS and values.any() else None


def distances(one: Features, others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances of unit features `(channels,)` to others `(n, channels)`, `(n,)`."""
    return np.asarray(np.sqrt(np.maximum(2 - 2 * (others @ one), 0)))


def group_alike(features: Sequence[Features | None], spaces: Sequence[str]) -> list[list[int]]:
    """Return groups of what looks alike, by index: each joins the first group whose first member is nearer than ALIKE.

    Groups are in the order of their first members, and so are their members. Features are compared within one of `spaces`, the
    model that made them; what has none is a group by itself.
    """
    groups: list[list[int]] = []
    leaders: dict[tuple[str, int], tuple[list[Features], list[int]]] = {}
    for index, (own, space) in enumerate(zip(features, spaces, strict=True)):
        if own is None:
            groups.append([index])
            continue
        points, owners = leaders.setdefault((space, len(own)), ([], []))
        near = distances(own, np.stack(points)) if points else np.empty(0)
        open_ones = [i for i in np.argsort(near, kind="stable").tolist() if len(groups[owners[i]]) < _MOST_ALIKE]
        if open_ones and near[open_ones[0]] < ALIKE:
            groups[owners[open_ones[0]]].append(index)
            continue
        points.append(own)
        owners.append(len(groups))
        groups.append([index])
    return groups
