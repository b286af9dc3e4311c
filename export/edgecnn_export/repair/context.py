"""What the techniques of the ladder work with: the model, training pictures, and the best of what earlier techniques found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn_export.conversion.calibration import Calibration, Ranges, choose_calibration, measure
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.simulation import RoundedModel, run_in_batches
from edgecnn_export.repair.bias_correction import METHOD, correct_biases

MANY = 4000  # pictures, four times as many as a plain calibration takes
SAMPLE = 128


class SkippedError(Exception):
    """A technique that cannot help here; the text says why."""


class RepairContext:
    """A folded model on its way up the ladder; all that is chosen is chosen on training pictures."""

    def __init__(
        self,
        folded: Folded,
        plain: Calibration,
        splits: Splits,
        seed: int,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Take the folded model, the calibration of its plain int8 files, and the pictures: of these only `train` is used."""
        self.folded, self.plain, self.seed, self.progress = folded, plain, seed, progress
        self._splits = splits
        self._closest: tuple[float, Folded, Calibration] | None = None

    @cached_property
    def pictures(self) -> Dataset:
        """Up to MANY training pictures, equally many of each class; SkippedError when there are none."""
        if not len(self._splits.train):
            raise SkippedError("it needs training pictures and there are none: give --data or --calibration")
        return choose_calibration(self._splits.train, MANY, self.seed)

    @cached_property
    def sample(self) -> NDArray[np.uint8]:
        """Up to SAMPLE of the pictures `(n, h, w, c)`, equally many of each class: to choose between settings on."""
        return choose_calibration(self.pictures, SAMPLE, self.seed).images

    @cached_property
    def wanted(self) -> NDArray[np.float32]:
        """What the float model answers to the sample, `(n, classes)`."""
        return self.answers(self.sample)

    @cached_property
    def limits(self) -> Ranges:
        """The smallest and largest values on the pictures of each layer of the folded model that needs a range."""
        return measure(self.folded, self.pictures.images)

    @property
    def data(self) -> DataInfo:
        """What a contract says about the pictures."""
        info, chosen = self._splits.info, self.pictures
        return DataInfo(info.source, "train", len(chosen), chosen.digest(), info.synthetic)

    def answers(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what the float model answers to images `(n, h, w, c)`."""
        return run_in_batches(lambda pixels: self.folded.model(pixels, training=False), images)

    def calibration(self, ranges: Ranges, method: str) -> Calibration:
        """Return ranges that were found on the pictures as a record."""
        return Calibration(dict(ranges), self.data, self.seed, method)

    def check_annotated(self) -> None:
        """Raise SkippedError for a model that is quantized by the converters' own calibrators."""
        if self.folded.annotation is None:
            raise SkippedError("it is not known how some layers of the model quantize")

    def distance(self, folded: Folded, ranges: Ranges) -> float:
        """Return the mean absolute difference of a probability on the sample: int8, simulated, against the float model."""
        return float(np.abs(RoundedModel(folded, ranges).run(self.sample) - self.wanted).mean())

    def quantization(self, folded: Folded, ranges: Ranges, method: str) -> Quantization:
        """Return a model and its ranges as a quantization, the biases of a deep one corrected; offer it to later techniques."""
        if folded.is_deep:
            folded, method = correct_biases(folded, ranges, self.sample), f"{method}, {METHOD}"
        calibration = self.calibration(ranges, method)
        self.offer(folded, calibration)
        return Quantization(folded, calibration)

    def offer(self, folded: Folded, calibration: Calibration) -> float:
        """Remember a quantization for later techniques when none was closer to the float model; return its distance."""
        distance = self.distance(folded, calibration.ranges)
        if self._closest is None or distance < self._closest[0]:
            self._closest = distance, folded, calibration
        return distance

    def closest(self) -> tuple[Folded, Calibration]:
        """Return the model and ranges that came closest to the float model so far, the plain ones before any were offered."""
        self.check_annotated()
        if self._closest is None:
            return self.plain.corrected(self.folded), dataclasses.replace(self.plain, corrections={})
        return self._closest[1:]
