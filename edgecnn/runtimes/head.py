"""Class probabilities computed from the features, by the last dense layer that the contract holds.

A graph of integers rounds the mean of its features, the scores and the probabilities (in steps of 1/256), and the last of these
steps differs between processors. Here integer features are added up and weighted in integers: the same features give the very
same scores on every machine, and probabilities of six digits.
"""

from __future__ import annotations

import base64
import binascii
import math

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import EvidenceInfo, HeadInfo
from edgecnn.errors import ContractError
from edgecnn.runtimes.runtime import Answers, FeatureRuntime, check_answers

# Exponentials differ by an ULP between C libraries: once in 10**9 probabilities that shows in the sixth digit.
_DECIMALS, _STEPS = 6, 1e6
# Up to so many classes Python's own floats take less time than NumPy's calls do.
FEW_CLASSES = 16
SHORTEST = 1e-12  # features of less length are taken for none
_WEIGHT_BITS, _SUM_BITS = 30, 62


class HeadRuntime:
    """A runtime whose probabilities are those of the features and the head instead of the graph's own."""

    def __init__(self, inner: FeatureRuntime, head: HeadInfo, channels: int | None) -> None:
        """Take a runtime whose model gives features of this many `channels`.

        Raises ContractError when the head's weights are no such thing, or are for other channels.
        """
        self.name = inner.name
        self._inner = inner
        self.weights, self._bias = read_weights(head), np.array(head.bias, np.float64)
        if channels != len(self.weights):
            raise ContractError(f"the head takes {len(self.weights)} channels, the model gives {channels}")
        self._grid: tuple[NDArray[np.int64], int] | None = None

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`."""
        return self.answer(images).probabilities

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Map images `(n, height, width, channels)` to probabilities and features."""
        found = self._inner.answer(images)
        if self._grid is None and found.sums is not None:
            self._grid = on_grid(found, self.weights)
        scores = head_scores(found, self.weights, self._bias, self._grid)
        return found.answered(check_answers(softmax(scores), self.name))


def head_scores(
    found: Answers,
    weights: NDArray[np.float64],
    bias: NDArray[np.float64],
    grid: tuple[NDArray[np.int64], int] | None = None,
) -> NDArray[np.float64]:
    """Return `(n, classes)`: the mean of the features over all places @ `weights` `(channels, classes)` + `bias`.

    Of integer features the weights are rounded to a common step of 2**-30 of the largest, a 64th of what float32 resolves
    there. Their products are added up as integers, without another rounding and in any order, so that scores are bit-identical
    on all machines; two operations in double precision follow. `grid` is what `on_grid` gives, where it is known already.
    """
    sums = found.sums
    if sums is None or found.spec is None or found.spec.scale is None:
        assert found.pooled is not None
        return np.asarray(found.pooled @ weights + bias)
    integers, shift = on_grid(found, weights) if grid is None else grid
    step = math.ldexp(found.spec.scale / found.places, -shift)
    return np.asarray((sums @ integers) * step + bias)


def on_grid(found: Answers, weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """Return weights as integers, and the power of two that they were multiplied by, for features like those `found`."""
    assert found.values is not None
    # No sum may leave 63 bits: `terms` products of a feature and a weight make one.
    terms = found.places * len(weights)
    room = _SUM_BITS - 8 * found.values.itemsize - math.ceil(math.log2(max(terms, 2)))
    _, exponent = math.frexp(float(np.abs(weights).max(initial=0.0)))
    shift = min(_WEIGHT_BITS, room) - exponent
    return np.rint(np.ldexp(weights, shift)).astype(np.int64), shift


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return probabilities `(n, classes)`, rounded to six digits; NaN where scores are no numbers."""
    if scores.shape[1] <= FEW_CLASSES:
        return np.array([_softmax(row) for row in scores.tolist()], np.float32).reshape(scores.shape)
    with np.errstate(invalid="ignore"):  # scores that are no numbers are answers that are refused
        powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(np.round(powers / powers.sum(axis=1, keepdims=True), _DECIMALS), np.float32)


def _softmax(row: list[float]) -> list[float]:
    highest = max(row)
    powers = [math.exp(each - highest) for each in row]
    total = sum(powers)
    if not math.isfinite(total):
        return [math.nan] * len(row)
    return [round(each / total * _STEPS) / _STEPS for each in powers]  # which is what `rounded` does


def rounded(value: float, decimals: int) -> float:
    """Return what `np.round` does of one number, NaN of what is none."""
    scale = 10.0**decimals
    scaled = value * scale
    return round(scaled) / scale if math.isfinite(scaled) else value


def read_weights(head: HeadInfo) -> NDArray[np.float64]:
    """Return the weights of a head, `(channels, classes)`; ContractError when they are no such thing."""
    try:
        values = np.frombuffer(base64.b64decode(head.weights, validate=True), "<f4")
        weights = values.reshape(-1, len(head.bias)).astype(np.float64)
    except (binascii.Error, ValueError) as error:
        raise ContractError(f"the head's weights are malformed: {error}") from error
    if not np.isfinite(weights).all() or not np.isfinite(head.bias).all():
        raise ContractError("the head's weights are not all finite numbers")
    return weights


def read_centres(info: EvidenceInfo, channels: int) -> NDArray[np.float64]:
    """Return the centres of an evidence, `(n, channels)`; ContractError when they are no such thing."""
    try:
        values = np.frombuffer(base64.b64decode(info.centres, validate=True), np.int8).reshape(-1, channels)
    except (binascii.Error, ValueError) as error:
        raise ContractError(f"the evidence's centres are malformed: {error}") from error
    return values.astype(np.float64) * info.scale


def read_contrast(info: EvidenceInfo, channels: int) -> tuple[NDArray[np.float64], float]:
    """Return the contrast of an evidence, `(channels,)`, and its constant; ContractError when they are no such thing."""
    try:
        values = np.frombuffer(base64.b64decode(info.contrast, validate=True), "<f4").astype(np.float64)
    except (binascii.Error, ValueError) as error:
        raise ContractError(f"the evidence's contrast is malformed: {error}") from error
    if len(values) != channels + 1 or not np.isfinite(values).all():
        raise ContractError(f"the evidence's contrast is not {channels + 1} finite numbers")
    return values[:-1], float(values[-1])


def read_places(info: EvidenceInfo, channels: int, classes: int) -> NDArray[np.float32]:
    """Return the weights that say where, `(channels, n)` of up to `classes`, 0 of them where the evidence has none.

    ContractError when they are no such thing.
    """
    try:
        values = np.frombuffer(base64.b64decode(info.places, validate=True), np.int8).reshape(channels, -1)
    except (binascii.Error, ValueError) as error:
        raise ContractError(f"the evidence's weights of places are malformed: {error}") from error
    if values.shape[1] > classes:
        raise ContractError(f"the evidence has weights of places for {values.shape[1]} classes, and the model {classes}")
    return values.astype(np.float32)


def write_places(weights: NDArray[np.float64]) -> str:
    """Return weights of places `(channels, classes)` as a contract holds them: int8, each class on a scale of its own."""
    largest = np.abs(weights).max(axis=0, keepdims=True)
    return base64.b64encode(np.rint(weights * (127 / np.where(largest > 0, largest, 1))).astype(np.int8).tobytes()).decode()


def distances(pooled: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance of features `(n, channels)`, taken at unit length, to each of `centres` `(m, channels)`, `(n, m)`."""
    return unit_distances(unit(pooled), centres)


def unit_distances(units: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the same of features `(n, channels)` that have unit length already."""
    squares = (units**2).sum(axis=1, keepdims=True) - 2 * (units @ centres.T) + (centres**2).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def as_compared(pooled: NDArray[np.float64], root: int) -> NDArray[np.float64]:
    """Return features `(n, channels)` in the form of which distances are taken: their roots of degree 2 or 4, with signs, or 1.

    Roots of unit length are compared by Hellinger's distance, which a few large features do not rule (Arandjelovic and
    Zisserman, Three things everyone should know to improve object retrieval, CVPR 2012).
    """
    if root == 1:
        return pooled
    sizes = np.sqrt(np.abs(pooled))  # square roots alone: they are the same to the last bit on every machine
    return np.asarray(np.copysign(np.sqrt(sizes) if root == 4 else sizes, pooled))


def unit(pooled: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return features `(n, channels)` of length 1; those that are all 0 stay."""
    return np.asarray(pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), SHORTEST))


def write_weights(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> HeadInfo:
    """Return the head of weights `(channels, classes)` and bias `(classes,)`."""
    data = np.ascontiguousarray(weights, "<f4").tobytes()
    return HeadInfo(base64.b64encode(data).decode(), tuple(float(value) for value in bias))
