"""The last layer fitted to the features of a network as it is: multinomial logistic regression, in seconds.

A pretrained network's features tell classes apart that it has never seen (Kornblith, Shlens and Le, CVPR 2019,
arXiv:1805.08974), and a layer on top of them has one best solution, which a few hundred steps over all pictures at once find.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn_export.training.balancing import balanced_weights

# Weight of the penalty: chosen on the validation pictures out of these, the first of equals.
PENALTIES = (1e-3, 1e-2, 1e-1, 1e-4, 0.3, 1.0)
STEPS = 300
# On NEU's validation pictures, with weights rounded to int8: 0 makes 59 % of the answers wrong, .1 to 3 not one.
QUIET = 0.3
_INT8_STEPS = 255  # of a feature map
_POWER_STEPS = 30


@dataclass(frozen=True, eq=False)
class Head:
    """A dense layer: `kernel` `(features, classes)` and `bias` `(classes,)` float32, for features as they are."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]

    def log_probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logarithms of the probabilities `(n, classes)` of features `(n, d)`."""
        return _log_softmax(features.astype(np.float64) @ self.kernel + self.bias)


def fit_head(
    features: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    classes: int,
    *,
    penalty: float,
    smoothing: float = 0.0,
    scales: NDArray[np.float64] | None = None,
) -> Head:
    """Fit a dense layer and softmax to features `(n, d)` and their classes `(n,)`, each class of the same weight in all.

    Features are standardised for it, those that hardly change less, or divided by `scales` `(d,)`, and that is folded into the
    layer.
    `penalty` weighs half the squared weights against the mean cross-entropy, whose targets leave the share `smoothing` to all
    classes alike. Solved by Nesterov's accelerated gradient with restarts (O'Donoghue and Candès, arXiv:1204.3982), its step
    from the largest curvature (Böhning, Ann. Inst. Statist. Math. 44, 1992).
    """
    mean, deviation = features.mean(axis=0, dtype=np.float64), feature_scales(features) if scales is None else scales
    bordered = np.concatenate([(features - mean) / deviation, np.ones((len(features), 1))], axis=1)
    shares = balanced_weights(class_ids, classes) / len(class_ids)
    targets = (1 - smoothing) * np.eye(classes)[class_ids] + smoothing / classes
    decay = np.full((bordered.shape[1], 1), penalty)
    decay[-1] = 0  # not of the bias
    step = 1 / (0.5 * _largest_eigenvalue(bordered * np.sqrt(shares)[:, None]) + penalty)
    solution = np.zeros((bordered.shape[1], classes))
    ahead, momentum = solution, 1.0
    for _ in range(STEPS):
        errors = np.exp(_log_softmax(bordered @ ahead)) - targets
        gradient = bordered.T @ (errors * shares[:, None]) + decay * ahead
        before, solution = solution, ahead - step * gradient
        if float((gradient * (solution - before)).sum()) > 0:  # past the valley: start again from here
            ahead, momentum = solution, 1.0
            continue
        after = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead, momentum = solution + (momentum - 1) / after * (solution - before), after
    kernel = solution[:-1] / deviation[:, None]
    return Head(kernel.astype(np.float32), (solution[-1] - mean @ kernel).astype(np.float32))


def balanced_loss(head: Head, features: NDArray[np.float32], class_ids: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy of features `(n, d)`, each class of the same weight in all."""
    losses = -head.log_probabilities(features)[np.arange(len(class_ids)), class_ids]
    return float((losses * balanced_weights(class_ids, head.kernel.shape[1])).mean())


def feature_scales(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what each feature is divided by: its standard deviation, at least QUIET medians of all; infinity for a dead one.

    Without the bound a feature that hardly ever changes gets a huge weight, and all weights of the layer share one int8 scale.
    Nor is it less than the step of int8 that all features have in common: a network that was hardly trained gives nearly the
    same for every picture, and no runtime takes the weights that would make much of the rest.
    """
    deviation, largest = features.std(axis=0, dtype=np.float64), float(np.abs(features).max())
    alive = deviation > 1e-6 * max(1.0, largest)
    floor = max(QUIET * float(np.median(deviation[alive])), largest / _INT8_STEPS) if alive.any() else 1.0
    return np.where(alive, np.maximum(deviation, floor), np.inf)


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _largest_eigenvalue(rows: NDArray[np.float64]) -> float:
    """Return a bound just above the largest eigenvalue of `rows.T @ rows`, by power iteration."""
    vector: NDArray[np.float64] = np.ones(rows.shape[1])
    for _ in range(_POWER_STEPS):
        vector = rows.T @ (rows @ (vector / np.linalg.norm(vector)))
    return 1.05 * float(np.linalg.norm(vector))
