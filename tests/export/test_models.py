"""Any model opens by what a user calls it, and only with options that it has a use for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.classifier import artifact_path
from edgecnn.cli.main import main
from edgecnn.errors import InputError
from edgecnn.normalization import NORMALIZATIONS, UNSTATED, InputConvention
from edgecnn_export.foreign import ForeignOptions
from edgecnn_export.frameworks import require_keras

require_keras()

import keras  # noqa: E402

from edgecnn_export.models import Model, open_model  # noqa: E402


@pytest.fixture
def unit_range_model(tmp_path: Path) -> keras.Model:
    """A model that another tool saved, whose answers depend on the scale of its pixels."""
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential(layers)
    model.save(tmp_path / "theirs.keras")
    return model


def test_another_tools_model_may_take_pixels_as_0_to_1(unit_range_model: keras.Model, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)

    opened = open_model(
        tmp_path / "theirs.keras", ForeignOptions(labels=("a", "b"), convention=InputConvention(NORMALIZATIONS["0..1"]))
    )

    expected = unit_range_model.predict(images / np.float32(255), verbose=0)
    assert np.allclose(opened.runtime.run(images), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "convention"), [(("a", "b"), UNSTATED), (None, InputConvention(NORMALIZATIONS["0..1"]))], ids=["labels", "range"]
)
def test_what_an_artifact_says_itself_cannot_be_said_again(labels: tuple[str, ...] | None, convention: InputConvention) -> None:
    with pytest.raises(InputError, match="carries its own labels and preprocessing"):
        open_model(artifact_path("neu"), ForeignOptions(labels=labels, convention=convention))


def test_parity_with_a_file_of_other_labels_is_refused_before_pictures_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Model, "splits", None)

    with pytest.raises(SystemExit, match="2"):
        main(["parity", str(artifact_path("neu")), str(artifact_path("mnist"))])
    assert "knows the labels 0, 1" in capsys.readouterr().err


def test_parity_reports_how_far_it_is_wherever_stderr_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int | None]] = []

    def measure(*_: object, progress: Any, **__: object) -> None:
        progress("neu-int8.tflite", 32, 64)
        raise InputError("enough")

    monkeypatch.setattr(Model, "splits", lambda *_: {"validation": None})
    monkeypatch.setattr("edgecnn_export.parity.files.measure", measure)
    monkeypatch.setattr("edgecnn.cli.parity.report", lambda *step: told.append(step))

    with pytest.raises(SystemExit, match="2"):
        main(["parity", str(artifact_path("neu")), str(artifact_path("neu"))])
    assert told == [("comparing neu-int8.tflite", 32, 64)]
