"""Many trainings side by side: an error of one ends the study with one line, and the others with it."""

from __future__ import annotations

import os
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.datasets.dataset import Dataset, SplitInfo
from edgecnn.errors import InferenceError, InputError
from edgecnn.shipped import find_task
from edgecnn_export.studies import trainings
from edgecnn_export.studies.trainings import Training, _answer, _received, run_trainings

INFO = SplitInfo("digits", "by hand", synthetic=True)


def pool(count: int = 40) -> Dataset:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 28, 28, 1), np.uint8)
    return Dataset(images, np.arange(count) % 10, tuple(map(str, range(count))))


def training(name: str, epochs: int) -> Training:
    parts = (np.arange(20), np.arange(20, 40), np.arange(0))
    return Training(name, parts, "compact", seed=0, epochs=epochs)


def measure(*_: Any) -> dict[str, Any]:
    return {}


def test_the_first_error_ends_the_study_and_its_other_trainings(tmp_path: Path) -> None:
    both = [training("endless", 10**6), training("impossible", 0)]

    with pytest.raises(InputError, match="'impossible' failed: --epochs must be at least 1"):
        list(run_trainings(find_task("mnist"), pool(), INFO, both, measure, out=tmp_path, settings={}, jobs=2))

    assert not active_children()


def test_a_child_that_is_killed_is_an_error_and_no_hang() -> None:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=os._exit, args=(9,))
    child.start()
    theirs.close()

    with pytest.raises(InferenceError, match="'only' ended with code 9"):
        _received(ours, child, training("only", 1))


def test_an_error_of_any_kind_comes_as_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def divide(*_: Any) -> None:
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr(trainings, "_run", divide)
    monkeypatch.setattr(trainings, "_prepare_child", lambda threads: None)
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=os._exit, args=(0,))
    child.start()

    _answer(theirs, 1, ())

    with pytest.raises(InferenceError) as failed:
        _received(ours, child, training("only", 1))
    assert str(failed.value) == "the training 'only' failed: ZeroDivisionError: by"
    assert "Traceback" in capfd.readouterr().err
