"""Class probabilities computed from the features, by the last dense layer that the contract holds.

A graph of integers rounds the mean of its features, the scores and the probabilities (in steps of 1/256); here the very same
features give scores in double precision. Whether two machines agree is then a question of the integers alone.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import HeadInfo
from edgecnn.errors import ContractError
from edgecnn.runtimes.runtime import Answers, FeatureRuntime, check_answers

# Exponentials differ by an ULP between C libraries; what is left of that after rounding is nothing.
_DECIMALS = 6


class HeadRuntime:
    """A runtime whose probabilities are those of the features and the head instead of the graph's own."""

    def __init__(self, inner: FeatureRuntime, head: HeadInfo) -> None:
        """Take a runtime whose model gives features; ContractError when the head's weights are no such thing."""
        self.name = inner.name
        self._inner = inner
        self.weights, self._bias = read_weights(head), np.array(head.bias, np.float64)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`."""
        return self.answer(images).probabilities

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Map images `(n, height, width, channels)` to probabilities and features."""
        found = self._inner.answer(images)
        pooled = found.pooled
        assert pooled is not None
        if pooled.shape[1] != len(self.weights):
            raise ContractError(f"the head takes {len(self.weights)} channels, the model gives {pooled.shape[1]}")
        scores = pooled @ self.weights + self._bias
        return Answers(check_answers(softmax(scores), self.name), found.values, found.spec)


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return probabilities `(n, classes)`, rounded to six digits."""
    with np.errstate(invalid="ignore"):  # scores that are no numbers are answers that are refused
        powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(np.round(powers / powers.sum(axis=1, keepdims=True), _DECIMALS), np.float32)


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


def write_weights(weights: NDArray[np.float32], bias: NDArray[np.float32]) -> HeadInfo:
    """Return the head of weights `(channels, classes)` and bias `(classes,)`."""
    data = np.ascontiguousarray(weights, "<f4").tobytes()
    return HeadInfo(base64.b64encode(data).decode(), tuple(float(value) for value in bias))
