"""Temperature scaling: probabilities that mean what they say (Guo, Pleiss, Sun and Weinberger, arXiv:1706.04599).

The logits are divided by one number, which no answer can change by; folded into the last layer's weights it reaches every
exported file, and no runtime need know of it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import ConversionError
from edgecnn.metrics import expected_calibration_error
from edgecnn_export.reference import Reference
from edgecnn_export.training.augmentation import augment, default_augmentation

if TYPE_CHECKING:
    import keras

FOLDS = 5
MIN_MISTAKES = 10  # with fewer nothing is known about how sure a wrong answer is, and the best temperature is 0
RANGE = (0.25, 4.0)
_RESAMPLES = 500
_CAMERA_SEED = 2026


@dataclass(frozen=True)
class TemperatureScaling:
    """What a temperature achieves on `count` pictures with `mistakes` wrong answers: each unchanged and through a camera.

    `before` and `after` are expected calibration errors; `after` by temperatures that were fitted on other pictures (five
    folds, overlapping pictures together). `gain` is the 95 % interval of their difference. `used` when all of it is above 0.
    """

    temperature: float
    count: int
    mistakes: int
    before: float
    after: float
    clean_before: float
    clean_after: float
    gain: tuple[float, float]

    @property
    def used(self) -> bool:
        """True when the temperature lowers the calibration error beyond chance."""
        return self.mistakes >= MIN_MISTAKES and self.gain[0] > 0

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain values."""
        return dataclasses.asdict(self) | {"used": self.used}

    def describe(self) -> str:
        """Return one sentence for a log."""
        found = f"temperature {self.temperature:.2f} brings the calibration error from {self.before:.4f} to {self.after:.4f}"
        if self.mistakes < MIN_MISTAKES:
            return f"{found}, not used: {self.mistakes} mistakes in {self.count} pictures are too few to tell"
        gain = f"(gain {self.gain[0]:.4f} to {self.gain[1]:.4f} at 95 %)"
        return f"{found} {gain}, {'used' if self.used else 'not used'}"


def scale_temperature(reference: Reference, validation: Dataset, seed: int = 0) -> tuple[Reference, TemperatureScaling]:
    """Fit a temperature on validation pictures and fold it into the model where it makes probabilities more honest.

    Raises ConversionError when the model does not end in a dense layer with a softmax.
    """
    seen = augment(validation.images, default_augmentation(reference.task), np.random.default_rng(_CAMERA_SEED))
    runtime = reference.runtime()
    probabilities = np.concatenate([runtime.run(validation.images), runtime.run(seen)])
    class_ids = np.tile(validation.class_ids, 2)
    groups = np.arange(len(validation)) if validation.groups is None else validation.groups
    found = measure_scaling(probabilities, class_ids, np.tile(groups, 2), seed)
    if not found.used:
        return reference, found
    return dataclasses.replace(reference, model=divide_logits(reference.model, found.temperature)), found


def measure_scaling(
    probabilities: NDArray[np.float32], class_ids: NDArray[np.int64], groups: NDArray[np.int64], seed: int = 0
) -> TemperatureScaling:
    """Fit and cross-fit a temperature for `(n, classes)`, whose first half are the unchanged pictures."""
    fitted = cross_fitted(probabilities, class_ids, groups, seed)
    clean = slice(len(class_ids) // 2)
    return TemperatureScaling(
        temperature=fit_temperature(probabilities, class_ids),
        count=len(class_ids),
        mistakes=int((probabilities.argmax(axis=1) != class_ids).sum()),
        before=expected_calibration_error(probabilities, class_ids),
        after=expected_calibration_error(fitted, class_ids),
        clean_before=expected_calibration_error(probabilities[clean], class_ids[clean]),
        clean_after=expected_calibration_error(fitted[clean], class_ids[clean]),
        gain=_gain(probabilities, fitted, class_ids, groups, seed),
    )


def fit_temperature(probabilities: NDArray[np.float32], class_ids: NDArray[np.int64]) -> float:
    """Return the temperature within RANGE that makes the true classes `(n,)` most likely, by golden section on its logarithm.

    The negative log-likelihood is convex in 1 / temperature, so there is one minimum.
    """
    low, high = math.log(RANGE[0]), math.log(RANGE[1])
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if _loss(probabilities, class_ids, math.exp(left)) < _loss(probabilities, class_ids, math.exp(right)):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def scaled(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return what the softmax would have given with its logits divided by `temperature`."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)


def cross_fitted(
    probabilities: NDArray[np.float32], class_ids: NDArray[np.int64], groups: NDArray[np.int64], seed: int
) -> NDArray[np.float32]:
    """Return probabilities `(n, classes)` each scaled by what was fitted on the other folds; groups `(n,)` stay together."""
    _, numbers = np.unique(groups, return_inverse=True)
    fold_of_group = np.random.default_rng(seed).permutation(int(numbers.max()) + 1) % FOLDS
    folds = fold_of_group[numbers.reshape(-1)]
    result = probabilities.copy()
    for fold in np.unique(folds):
        held_out = folds == fold
        if not held_out.all():
            temperature = fit_temperature(probabilities[~held_out], class_ids[~held_out])
            result[held_out] = scaled(probabilities[held_out], temperature)
    return result


def divide_logits(model: keras.Model, temperature: float) -> keras.Model:
    """Return a copy of the model whose logits are divided by `temperature`; ConversionError without a last dense softmax."""
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    last = copy.layers[-1]
    if not isinstance(last, keras.layers.Dense) or last.activation is not keras.activations.softmax:
        raise ConversionError(
            f"model {model.name!r} does not end in a dense layer with a softmax; its logits cannot be divided"
        )
    last.set_weights([weights / temperature for weights in last.get_weights()])
    return copy


def _loss(probabilities: NDArray[np.float32], class_ids: NDArray[np.int64], temperature: float) -> float:
    likely = scaled(probabilities, temperature)[np.arange(len(class_ids)), class_ids]
    return float(-np.log(np.maximum(likely, 1e-12)).mean())


def _gain(
    before: NDArray[np.float32], after: NDArray[np.float32], class_ids: NDArray[np.int64], groups: NDArray[np.int64], seed: int
) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of how far the calibration error falls, drawing whole groups."""
    random = np.random.default_rng(seed)
    _, numbers = np.unique(groups, return_inverse=True)
    numbers, count = numbers.reshape(-1), int(numbers.max()) + 1
    gains = np.empty(_RESAMPLES)
    for i in range(_RESAMPLES):
        weights = np.bincount(random.integers(count, size=count), minlength=count)[numbers]
        drawn = np.repeat(np.arange(len(numbers)), weights)
        errors = [expected_calibration_error(each[drawn], class_ids[drawn]) for each in (before, after)]
        gains[i] = errors[0] - errors[1]
    low, high = np.quantile(gains, (0.025, 0.975))
    return float(low), float(high)
