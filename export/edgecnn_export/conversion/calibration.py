"""Calibration: the range of each activation on pictures of the training split, measured once and kept with the model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import CalibrationInfo, DataInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import ConversionError, InputError
from edgecnn.records import read_record
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Step

# Chosen on the validation pictures: with this many, kernels that round differently (LiteRT's and tflite-runtime's) agree on all
# answers of both shipped models; clipping rare values, tried at 99.9 to 99.99 %, brought nothing that lasted.
COUNT = 1000
METHOD = "min-max"
STOCK_METHOD = "TensorFlow Lite and ONNX Runtime calibrators"
_DIGITS = 4
BATCH = 8  # pictures that go through a network at once where it is measured

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Calibration:
    """Activation ranges by layer name of the folded model, and how they were found; kept in our `.keras` files.

    `corrections`, by layer name, are added to the biases `(channels,)` of the int8 files: they take back what rounding shifts
    on average.
    """

    ranges: dict[str, tuple[float, float]]
    data: DataInfo
    seed: int
    method: str = METHOD
    corrections: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def digest(self) -> str:
        """Return the SHA-256 of the ranges, and of the corrections where there are any."""
        measured: Any = [self.ranges, self.corrections] if self.corrections else self.ranges
        return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()

    def info(self) -> CalibrationInfo:
        """Return what a contract says about it."""
        return CalibrationInfo(self.data, self.seed, self.method, self.digest())

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        record = dataclasses.asdict(self) | {"ranges": {name: list(limits) for name, limits in self.ranges.items()}}
        corrections = {name: list(values) for name, values in record.pop("corrections").items()}
        return record | ({"corrections": corrections} if corrections else {})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """Restore a record; InputError when it is malformed."""
        try:
            return read_record(cls, data, "calibration")
        except InputError as error:
            raise InputError(f"malformed calibration record: {error}; export with --data to measure it again") from error

    def corrected(self, folded: Folded) -> Folded:
        """Return a copy of the folded model with the corrections added to its biases; itself where there are none."""
        if not self.corrections:
            return folded
        copy = folded.copy()
        for name, values in self.corrections.items():
            bias = copy.model.get_layer(name).bias
            bias.assign(bias + np.asarray(values, np.float32))
        return copy

    def check(self, folded: Folded) -> None:
        """Raise ConversionError unless the ranges and corrections are those of this folded model."""
        if odd := sorted(self.ranges.keys() ^ folded.measured):
            raise ConversionError(
                f"the calibration record does not fit the model: layers {', '.join(odd)} differ; "
                "give the training pictures with --data or --calibration"
            )
        biases = {layer.name: layer.bias.shape[0] for layer in folded.model.layers if getattr(layer, "bias", None) is not None}
        if odd := sorted(name for name, values in self.corrections.items() if biases.get(name) != len(values)):
            raise ConversionError(f"the calibration record does not fit the model: no biases for {', '.join(odd)}")


def choose_calibration(train: Dataset, count: int = COUNT, seed: int = 0) -> Dataset:
    """Draw about `count` pictures of the training split, equally many of each class that has them.

    Raises InputError when there are no pictures.
    """
    if len(train) == 0:
        raise InputError("there are no training pictures to calibrate on; give a folder with --data or --calibration")
    generator = np.random.default_rng(seed)
    class_ids = np.unique(train.class_ids)
    share = max(1, math.ceil(count / len(class_ids)))
    drawn = [generator.permutation(np.flatnonzero(train.class_ids == class_id))[:share] for class_id in class_ids]
    return train.take(np.sort(np.concatenate(drawn)).astype(np.int64))


def calibrate(folded: Folded, images: NDArray[np.uint8], data: DataInfo, seed: int) -> Calibration:
    """Measure a folded model on calibration images `(n, h, w, c)`; no ranges when it cannot be quantized by ranges."""
    if folded.annotation is None:
        return Calibration({}, data, seed, STOCK_METHOD)
    return Calibration(measure(folded, images), data, seed)


def measure(folded: Folded, images: NDArray[np.uint8], *, batch: int = BATCH) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest output of each layer that needs a range, over images `(n, h, w, c)`.

    Zero always lies within, since padding needs it exactly. Limits are rounded outwards to four significant digits: another
    processor, batch or thread count changes the last bits of a sum, and must not change the exported file.
    Raises ConversionError for a layer whose output is not finite or always zero.
    """
    lows, highs = dict[str, float](), dict[str, float]()

    def see(name: str, values: NDArray[np.float32]) -> None:
        lows[name] = float(min(lows.get(name, 0.0), values.min()))
        highs[name] = float(max(highs.get(name, 0.0), values.max()))

    look_at_activations(folded, images, see, batch=batch)
    return {name: rounded_outwards(name, lows[name], highs[name]) for name in lows}


def look_at_activations(
    folded: Folded, images: NDArray[np.uint8], see: Callable[[str, NDArray[np.float32]], None], *, batch: int = BATCH
) -> None:
    """Call `see(name, values)` with what each layer that needs a range gives for images `(n, h, w, c)`, some at a time.

    A layer is seen as often as it is called, and what it gave is let go when no later one takes it: all activations of a deep
    network at once are a gigabyte. Raises ConversionError for a model of which it isn't known how it quantizes.
    """
    graph, annotation = folded.annotated()

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        result = step.operation(*arguments, **keywords)
        if step.name in annotation.measured:
            see(step.name, keras.ops.convert_to_numpy(result))
        return result

    for at in range(0, len(images), batch):
        graph.run(keras.ops.convert_to_tensor(images[at : at + batch].astype(np.float32)), call)


def rounded_outwards(name: str, low: float, high: float) -> tuple[float, float]:
    """Round a layer's limits outwards to four significant digits; ConversionError when they are not finite or both zero."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConversionError(f"layer {name!r} gives {low} to {high} on the calibration pictures; its weights are damaged")
    if low == high == 0.0:
        raise ConversionError(f"layer {name!r} gives zero for each calibration picture; train the model, or check the pictures")
    return 0.0 - _rounded_up(-low), _rounded_up(high)


def _rounded_up(value: float) -> float:
    """Round a number from 0 up to the next with four significant digits."""
    if value <= 0:
        return 0.0
    digits = _DIGITS - 1 - math.floor(math.log10(value))
    return round(math.ceil(value * 10.0**digits) / 10.0**digits, max(digits, 0))
