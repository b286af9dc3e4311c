"""The last step of a training for int8: weights that lie on the levels of int8 already.

What is exported is then rounded no further, whichever pictures stand by, and what the rounding of weights costs stands in the
figures of the training.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.quiet import quiet
from edgecnn_export.conversion.fold import fold
from edgecnn_export.repair.rounding import round_by_effect


def put_on_levels(model: keras.Model, images: NDArray[np.uint8], seed: int = 0) -> None:
    """Change the weights so that, folded, each lies on a level of int8, by what that does on images `(n, h, w, c)`.

    For networks in which each convolution is followed by a batch normalisation `NAME_norm`, which keeps its factors.
    """
    with quiet():
        rounded = round_by_effect(fold(model), images, seed=seed)
    for layer in rounded.model.layers:
        own = model.get_layer(layer.name.removesuffix("_linear"))
        if not isinstance(own, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense) or not layer.weights:
            continue
        kernel, bias = layer.get_weights()
        norm = next((each for each in model.layers if each.name == f"{own.name}_norm"), None)
        if norm is None:
            own.set_weights([kernel, bias] if own.use_bias else [kernel])
            continue
        gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in norm.get_weights())
        factors = gamma / np.sqrt(variance + norm.epsilon)
        alive = np.abs(factors) > 1e-12
        shape = kernel.shape[-2:] if isinstance(own, keras.layers.DepthwiseConv2D) else (1, kernel.shape[-1])
        divisors = np.where(alive, factors, 1.0).reshape(shape)
        own.set_weights([np.where(alive.reshape(shape), kernel / divisors, own.get_weights()[0]).astype(np.float32)])
        beta = np.where(alive, bias + mean * factors, beta)
        norm.set_weights([array.astype(np.float32) for array in (gamma, beta, mean, variance)])
