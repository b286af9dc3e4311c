"""Bias correction: rounding shifts the mean of a channel, and a bias can take the shift back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgecnn_export.conversion.calibration import BATCH, Calibration, Ranges
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Arguments, Graph, Step
from edgecnn_export.conversion.simulation import RoundedModel, kernel_of, rounded_call

METHOD = "biases corrected"
_DIGITS = 3
_PICTURES = 64  # what one layer takes or gives for all of them is held at a time
_BLOCK_PIXELS = BATCH * 224 * 224  # each call of a layer has its price, so small pictures are taken many at a time


def corrected(folded: Folded, calibration: Calibration, images: NDArray[np.uint8]) -> Calibration:
    """Return a calibration with the corrections of the biases on images `(n, h, w, c)`, to few digits.

    So few that the last bits of another processor's sums do not show in an exported file.
    """
    copy = correct_biases(folded, calibration.ranges, images)
    corrections = dict[str, tuple[float, ...]]()
    for before, after in zip(folded.model.layers, copy.model.layers, strict=True):
        if getattr(before, "bias", None) is not None and (shift := after.bias.numpy() - before.bias.numpy()).any():
            decimals = _DIGITS - 1 - math.floor(math.log10(np.abs(shift).max()))
            corrections[before.name] = tuple(round(float(value), decimals) for value in shift)
    return dataclasses.replace(calibration, method=f"{calibration.method}, {METHOD}", corrections=corrections)


def correct_biases(folded: Folded, ranges: Ranges, images: NDArray[np.uint8]) -> Folded:
    """Return a copy whose layers, rounded to int8, give each channel the mean that the float model gives it.

    Empirical bias correction, layer by layer from the first (Nagel et al., arXiv:1906.04721, section 4.2 and appendix D), on
    images `(n, h, w, c)`.
    """
    copy = folded.copy()
    rounded, pixels = RoundedModel(copy, ranges), in_blocks(_spread(images))
    wanted = _means(folded.annotated()[0], pixels)

    def prepare(step: Step, taken: list[Arguments]) -> None:
        layer = step.operation
        if step.name in wanted and rounded.graph.calls(layer) == 1:
            given = _channel_means(linear_call(step, *arguments, rounded_call) for arguments in taken)
            layer.bias.assign(layer.bias.numpy() - (given - wanted[step.name]))

    rounded.graph.run_in_blocks(pixels, rounded.call, prepare)
    return copy


def in_blocks(images: NDArray[np.uint8]) -> list[Any]:
    """Return images `(n, h, w, c)` as float32 tensors of a few pictures each, of more where they are small."""
    size = max(BATCH, _BLOCK_PIXELS // (images.shape[1] * images.shape[2]))
    return [tf.constant(images[at : at + size].astype(np.float32)) for at in range(0, len(images), size)]


def linear_call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any], run: Any) -> Any:
    """Run a layer as `run(step, arguments, keywords)` does, without the ReLU that may be part of it."""
    layer = step.operation
    activation, layer.activation = layer.activation, keras.activations.linear
    try:
        return run(step, arguments, keywords)
    finally:
        layer.activation = activation


def _means(graph: Graph, pixels: list[Any]) -> dict[str, NDArray[np.float32]]:
    """Return the mean of each channel that each layer with a bias gives, before its ReLU."""
    means = dict[str, NDArray[np.float32]]()

    def plain(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return step.operation(*arguments, **keywords)

    def prepare(step: Step, taken: list[Arguments]) -> None:
        layer = step.operation
        if isinstance(layer, keras.Layer) and kernel_of(layer) is not None and getattr(layer, "bias", None) is not None:
            means[step.name] = _channel_means(linear_call(step, *arguments, plain) for arguments in taken)

    graph.run_in_blocks(pixels, plain, prepare)
    return means


def _channel_means(blocks: Iterable[Any]) -> NDArray[np.float32]:
    """Return the mean of each channel over all values of blocks `(n, ..., c)`."""
    total, count = np.float64(0), 0
    for block in blocks:
        rows = np.asarray(block, np.float32).reshape(-1, block.shape[-1])
        total, count = total + rows.sum(axis=0, dtype=np.float64), count + len(rows)
    return np.asarray(total / count, np.float32)


def _spread(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return images[np.linspace(0, len(images) - 1, min(len(images), _PICTURES)).astype(np.int64)]
