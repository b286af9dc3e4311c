"""First and second technique: ranges of more pictures; ranges without rare values, so that the many are rounded finer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgecnn_export.conversion.calibration import METHOD, STOCK_METHOD, Ranges, look_at_activations, measure, rounded_outwards
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.repair.context import RepairContext, SkippedError

PERCENTILES = (99.99, 99.9, 99.0)
BINS = 2048


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often a layer's values fall into BINS equal bins from `low` to `high`; exact zeros are counted apart."""

    low: float
    high: float
    counts: NDArray[np.int64]
    zeros: int

    @property
    def centers(self) -> NDArray[np.float64]:
        """The middle of each bin."""
        return self.low + (np.arange(BINS) + 0.5) * (self.high - self.low) / BINS


def calibrate_on_more(context: RepairContext) -> Quantization:
    """Calibrate by min-max on up to 4,000 pictures; SkippedError when the plain calibration has seen them all."""
    chosen = context.pictures
    if context.plain.data.digest == chosen.digest():
        raise SkippedError(f"the plain calibration has seen all {len(chosen)} training pictures, equally many of each class")
    if context.folded.annotation is None:
        return Quantization(context.folded, context.calibration({}, STOCK_METHOD), images=chosen.images)
    return context.quantization(context.folded, context.limits, METHOD)


def clip_ranges(context: RepairContext) -> Quantization:
    """Take percentiles or the least squared error, whichever comes closest to the float model on training pictures."""
    context.check_annotated()
    candidates = clipped(context.folded, context.sample, context.limits)
    method = min(candidates, key=lambda name: context.distance(context.folded, candidates[name]))
    return context.quantization(context.folded, candidates[method], method)


def best_ranges(context: RepairContext, folded: Folded) -> tuple[str, Ranges]:
    """Return the method, min-max included, and the ranges by which `folded` comes closest to the float model."""
    limits = measure(folded, context.pictures.images)
    candidates = {METHOD: limits, **clipped(folded, context.sample, limits)}
    method = min(candidates, key=lambda name: context.distance(folded, candidates[name]))
    return method, candidates[method]


def clipped(folded: Folded, images: NDArray[np.uint8], limits: Ranges) -> dict[str, Ranges]:
    """Return narrower ranges than `limits`, by method, from the values on images `(n, h, w, c)`."""
    histograms = measure_histograms(folded, images, limits)
    methods = {f"percentile {share:g}": partial(percentile, share=share) for share in PERCENTILES}
    methods["least squared error"] = partial(least_squares)
    return {name: _all(histograms, method) for name, method in methods.items()}


def percentile(histogram: Histogram, share: float) -> tuple[float, float]:
    """Return the limits within which `share` percent of the values lie, as many left out above as below."""
    counts, centers = histogram.counts, histogram.centers
    total = int(counts.sum()) + histogram.zeros
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])
    left_out = total * (1 - share / 100) / (2 if histogram.low < 0 < histogram.high else 1)
    low = centers[min(int(np.searchsorted(below, left_out, side="right")), BINS - 1)]
    high = centers[::-1][min(int(np.searchsorted(above, left_out, side="right")), BINS - 1)]
    return max(min(float(low), 0.0), histogram.low), min(max(float(high), 0.0), histogram.high)


def least_squares(histogram: Histogram) -> tuple[float, float]:
    """Return the limits, both shrunk by one factor, of the least squared error of 8 bits.

    A value within is off by a uniform error, step^2 / 12 on average, one outside by its distance; zero is exact.
    """
    centers, counts = histogram.centers, histogram.counts

    def error(factor: float) -> float:
        low, high = factor * histogram.low, factor * histogram.high
        outside = np.maximum(low - centers, 0) + np.maximum(centers - high, 0)
        step = (high - low) / 255
        return float((counts * np.where(outside > 0, outside**2, step**2 / 12)).sum())

    best = min(np.linspace(0.05, 1.0, 96).tolist(), key=error)
    return best * histogram.low, best * histogram.high


def measure_histograms(folded: Folded, images: NDArray[np.uint8], limits: Ranges) -> dict[str, Histogram]:
    """Count the values of each layer that needs a range, over images `(n, h, w, c)`, within `limits`."""
    counts = {name: np.zeros(BINS, np.int64) for name in limits}
    zeros = dict.fromkeys(limits, 0)

    def see(name: str, values: NDArray[np.float32]) -> None:
        nonzero = values[values != 0]
        zeros[name] += values.size - nonzero.size
        counts[name] += _count(nonzero, limits[name])

    look_at_activations(folded, images, see)
    return {name: Histogram(*limits[name], counts[name], zeros[name]) for name in limits}


def _count(values: NDArray[np.float32], limits: tuple[float, float]) -> NDArray[np.int64]:
    low, high = limits
    bins = np.clip((values - low) * (BINS / (high - low)), 0, BINS - 1).astype(np.int64)
    return np.asarray(np.bincount(bins, minlength=BINS), np.int64)


def _all(histograms: Mapping[str, Histogram], method: Callable[[Histogram], tuple[float, float]]) -> Ranges:
    return {name: _usable(name, values, method(values)) for name, values in histograms.items()}


def _usable(name: str, histogram: Histogram, limits: tuple[float, float]) -> tuple[float, float]:
    """Return the limits rounded, or those of the histogram where next to nothing is left within."""
    low, high = limits
    if not math.isfinite(high - low) or high - low < (histogram.high - histogram.low) / BINS:
        low, high = histogram.low, histogram.high
    return rounded_outwards(name, low, high)
