"""Telling training pictures from outliers by their features: one direction, fitted by logistic regression.

Outliers are what training showed as belonging to no class (Hendrycks, Mazeika and Dietterich, arXiv:1812.04606), drawn by other
painters than the pictures that thresholds are chosen on and measured by.
"""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_PENALTY = 1e-3  # on the squared weights of features that vary by 1; 1e-4 and 1e-2 tell strangers apart as well
_STEPS, _SMALL_STEP = 25, 1e-6
MOST_CHANNELS = 2048  # a step of Newton's method takes the cube of them


def fit_contrast(known: Floats, outliers: Floats, *, penalty: float = _PENALTY) -> Floats:
    """Return weights `(channels + 1,)`, the last a constant, whose sum is positive for what is more like `outliers`.

    `known` `(n, channels)` and `outliers` `(m, channels)` are features of unit length; both count the same, however many there
    are. Newton's method, as in Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 4.4.1.
    """
    points = np.concatenate([known, outliers])
    middle, spread = points.mean(axis=0), float(points.std(axis=0).mean()) or 1.0
    inputs = np.column_stack([(points - middle) / spread, np.ones(len(points))])
    wanted = np.repeat([0.0, 1.0], [len(known), len(outliers)])
    share = np.repeat([0.5 / len(known), 0.5 / len(outliers)], [len(known), len(outliers)])
    penalties = np.append(np.full(known.shape[1], penalty), 1e-6)
    weights: Floats = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        likely = 1 / (1 + np.exp(-np.clip(inputs @ weights, -50, 50)))
        slope = inputs.T @ (share * (likely - wanted)) + penalties * weights
        curvature = (inputs * (share * likely * (1 - likely))[:, None]).T @ inputs + np.diag(penalties)
        step = np.linalg.solve(curvature, slope)
        weights = weights - step
        if float(np.abs(step).max()) < _SMALL_STEP:
            break
    direction = weights[:-1] / spread
    return np.append(direction, weights[-1] - float(direction @ middle))


def write_contrast(contrast: Floats) -> str:
    """Return weights `(channels + 1,)` as a contract holds them; `edgecnn.runtimes.head.read_contrast` reads them."""
    return base64.b64encode(np.ascontiguousarray(contrast, "<f4").tobytes()).decode()
