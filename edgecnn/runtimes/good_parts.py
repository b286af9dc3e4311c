"""How unlike good parts a picture is: the distance of each place's features to the nearest of a bank of good places.

As in PatchCore (Roth et al., CVPR 2022, arXiv:2106.08265), on the features of a network that a board can run.
"""

from __future__ import annotations

import base64
import binascii
import math

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import GoodPartsInfo
from edgecnn.errors import ContractError, InferenceError
from edgecnn.runtimes.runtime import Answers, FeatureRuntime, answer_slices, check_answers

MAX_BANK_BYTES = 2**19  # as base64 a contract of a megabyte has room for them
ODDEST = 0.02  # of the places make a picture's score: one that is off by rounding alone does not decide
MOST_NOVEL = 19.0  # behind it likenesses of six digits cannot be told apart
_DECIMALS = 6
_SLICE = 64  # pictures whose distances to the whole bank are in memory at once, at 14 x 14 places about 50 MB


class Bank:
    """The features of good places, ready to compare with."""

    def __init__(self, info: GoodPartsInfo, channels: int | None) -> None:
        """Read a contract's bank; ContractError when it is none, or of features of other `channels`."""
        if not all(math.isfinite(each) and each > 0 for each in (info.scale, info.novel_above)):
            raise ContractError("the scale and the threshold of the good parts must be finite and above 0")
        try:
            integers = np.frombuffer(base64.b64decode(info.bank, validate=True), np.int8).reshape(-1, channels or 1)
        except (binascii.Error, ValueError) as error:
            raise ContractError(f"the bank of good parts is malformed: {error}") from error
        if not channels or not 0 < integers.size <= MAX_BANK_BYTES:
            raise ContractError(f"a bank of {integers.size} numbers for {channels} channels is none that is read")
        self.info = info
        self._rows = np.ascontiguousarray(integers.astype(np.float32).T) * np.float32(info.scale)
        self._squares = (self._rows**2).sum(axis=0)

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how far each place of features `(n, h, w, channels)` is from the nearest of the bank, `(n, h, w)`, 0 to 2."""
        found = [self._nearest(features[at : at + _SLICE]) for at in range(0, len(features), _SLICE)]
        return np.concatenate(found) if found else np.empty(features.shape[:3], np.float32)

    def _nearest(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        products = unit_places(features) @ self._rows
        products *= -2
        products += self._squares
        squares = products.min(axis=1) + 1
        return np.asarray(np.sqrt(np.maximum(squares, 0)).reshape(features.shape[:3]), np.float32)


def unit_places(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features `(n, h, w, channels)` as rows `(places, channels)` of length 1, each of a place and those around.

    The mean over 3 x 3 places is that of PatchCore: what lies a little aside on another good part is not odd. The length is how
    much contrast there is, which good parts differ by: on classes of steel taken for good parts in turn, distances without it
    tell the other classes far better.
    """
    rows = _around(np.asarray(features, np.float32)).reshape(-1, features.shape[-1])
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-6)))


def _around(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of each place of `(n, h, w, channels)` and its neighbours; at the border its own places count again."""
    for axis in (1, 2):
        size = features.shape[axis]
        padded = np.pad(features, [(int(axis == each),) * 2 for each in range(4)], "edge")
        before, same, after = (padded.take(np.arange(size) + shift, axis) for shift in range(3))
        features = (before + same + after) / np.float32(3)
    return features


def picture_scores(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of the largest distances of each picture `(n, h, w)`, `(n,)`: a maximum that no single place makes."""
    flat = distances.reshape(len(distances), -1)
    count = max(1, round(ODDEST * flat.shape[1]))
    return np.asarray(np.partition(flat, flat.shape[1] - count, axis=1)[:, -count:].mean(axis=1, dtype=np.float64))


def likeness(scores: NDArray[np.float64], novel_above: float) -> NDArray[np.float32]:
    """Return 2 ** -novelty of scores `(n,)`: 1 for what lies in the bank, a half at the threshold."""
    return np.asarray(np.round(np.exp2(-np.minimum(scores / novel_above, MOST_NOVEL)), _DECIMALS), np.float32)


def novelty_of(likenesses: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the novelty `(n,)` that a likeness was made of, at most MOST_NOVEL."""
    return np.asarray(-np.log2(np.maximum(likenesses.astype(np.float64), 2**-MOST_NOVEL)))


class GoodPartsRuntime:
    """A runtime whose one probability is how like good parts a picture is, instead of the graph's own."""

    def __init__(self, inner: FeatureRuntime, info: GoodPartsInfo, channels: int | None) -> None:
        """Take a runtime whose model gives a map of so many `channels`; ContractError when the bank is for others."""
        self.name = inner.name
        self.bank = Bank(info, channels)
        self.inner = inner

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to their likeness `(n, 1)`."""
        return self.answer(images).probabilities

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Map images `(n, height, width, channels)` to their likeness and the map of features."""
        found = self.inner.answer(images)
        likenesses = likeness(self.scores_of(found), self.bank.info.novel_above)
        return Answers(check_answers(likenesses[:, None], self.name), found.values, found.spec)

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the scores of images `(n, height, width, channels)`, `(n,)`: what a threshold is chosen on."""
        return np.concatenate([self.scores_of(each) for each in answer_slices(self.inner, images)])

    def scores_of(self, found: Answers) -> NDArray[np.float64]:
        """Return the scores `(n,)` of what the graph answered."""
        if found.features is None or found.features.ndim != 4:
            raise InferenceError(f"{self.name} gives no map of features of this model")
        return picture_scores(self.bank.distances(found.features))
