"""Temperature scaling: probabilities that mean what they say, and the same answers as before."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Splits
from edgecnn.errors import ConversionError
from edgecnn_export import temperature_scaling
from edgecnn_export.reference import Reference
from edgecnn_export.temperature_scaling import (
    cross_fitted,
    divide_logits,
    fit_temperature,
    measure_scaling,
    scale_temperature,
    scaled,
)


def answers(count: int, sharpness: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw probabilities `(count, 4)` of logits multiplied by `sharpness`, with classes drawn from the honest ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, 4))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    class_ids = (random.random((count, 1)) > honest.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    return scaled(honest.astype(np.float32), 1 / sharpness), class_ids.astype(np.int64)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_made_probabilities_too_sharp_or_too_soft(sharpness: float) -> None:
    probabilities, class_ids = answers(4000, sharpness)

    assert fit_temperature(probabilities, class_ids) == pytest.approx(sharpness, rel=0.1)


def test_temperature_scaling_keeps_each_answer() -> None:
    probabilities, _ = answers(500, 1.0)

    for temperature in (0.3, 3.0):
        changed = scaled(probabilities, temperature)
        assert np.array_equal(changed.argmax(axis=1), probabilities.argmax(axis=1))
        assert np.allclose(changed.sum(axis=1), 1, atol=1e-5)


def test_overconfident_probabilities_are_scaled_and_the_error_falls() -> None:
    probabilities, class_ids = answers(2000, 2.5)

    found = measure_scaling(probabilities, class_ids, np.arange(2000))

    assert found.used
    assert found.after < 0.3 * found.before
    assert found.gain[0] > 0


def test_honest_probabilities_are_left_alone() -> None:
    probabilities, class_ids = answers(2000, 1.0)

    assert not measure_scaling(probabilities, class_ids, np.arange(2000)).used


def test_without_mistakes_nothing_is_known_of_them() -> None:
    probabilities, _ = answers(300, 0.5)

    found = measure_scaling(probabilities, probabilities.argmax(axis=1), np.arange(300))

    assert not found.used
    assert "0 mistakes in 300 pictures are too few" in found.describe()


def test_no_picture_is_scaled_by_what_was_fitted_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, class_ids = answers(100, 1.0)
    seen: list[set[float]] = []

    def fit(rows: NDArray[np.float32], ids: NDArray[np.int64]) -> float:
        seen.append({float(row[0]) for row in rows})
        return 1.5

    monkeypatch.setattr(temperature_scaling, "fit_temperature", fit)
    groups = np.repeat(np.arange(50), 2)

    fitted = cross_fitted(probabilities, class_ids, groups, 0)

    assert len(seen) == 5
    assert np.allclose(fitted, scaled(probabilities, 1.5))
    for rows in seen:  # pictures of one group are all fitted on or all held out
        inside = np.array([float(row[0]) in rows for row in probabilities]).reshape(50, 2)
        assert (inside[:, 0] == inside[:, 1]).all()
        assert 70 <= inside.sum() <= 90


def test_dividing_the_logits_of_a_model_softens_its_probabilities(bar_reference: Reference, bar_splits: Splits) -> None:
    images = bar_splits.validation.images
    before = bar_reference.runtime().run(images)

    cooled = dataclasses.replace(bar_reference, model=divide_logits(bar_reference.model, 2.0))

    assert np.allclose(cooled.runtime().run(images), scaled(before, 2.0), atol=1e-4)
    assert np.allclose(bar_reference.runtime().run(images), before)  # the model that was given is as it was


def test_a_model_without_a_last_softmax_layer_is_refused() -> None:
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, keras.layers.Softmax()(keras.layers.Dense(2)(keras.layers.Flatten()(image))), name="odd")

    with pytest.raises(ConversionError, match="'odd' does not end in a dense layer with a softmax"):
        divide_logits(model, 2.0)


def test_a_model_that_makes_hardly_a_mistake_is_left_as_it_is(bar_reference: Reference, bar_splits: Splits) -> None:
    mild = dataclasses.replace(
        bar_splits.validation, class_ids=bar_reference.runtime().run(bar_splits.validation.images).argmax(1)
    )

    same, found = scale_temperature(bar_reference, mild.take(np.arange(6)))

    assert (same.model is bar_reference.model) == (not found.used)
    assert found.count == 12
