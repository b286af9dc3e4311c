"""The threshold below which an answer is `unknown`, as training and shipping choose it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact, Contract
from edgecnn.artifacts.contract import RejectionInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.preprocessing import Preprocessing
from edgecnn.rejection.evidence import FALSE_ACCEPTS
from edgecnn.rejection.threshold import LOST, OOD_PER_KIND, choose_rejection
from edgecnn.tasks import Task
from edgecnn_export.exporter import export
from edgecnn_export.models import open_reference
from edgecnn_export.reference import Reference, save_reference


class SureAs:
    """Gives as its highest probability what the first pixel says, in percent."""

    name = "sure as the first pixel"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        sure = images[:, 0, 0, 0] / 100
        return np.stack([sure, 1 - sure], axis=1).astype(np.float32)


def _pictures(percents: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.broadcast_to(percents.astype(np.uint8)[:, None, None, None], (len(percents), 2, 2, 1)).copy()


def _task(**kinds: NDArray[np.int64]) -> Task:
    return Task(
        "two",
        "two classes",
        ("a", "b"),
        Preprocessing(2, 2),
        ood=lambda count, seed: {kind: _pictures(percents[:count]) for kind, percents in kinds.items()},
    )


def _validation(percents: NDArray[np.int64]) -> Dataset:
    return Dataset(_pictures(percents), np.zeros(len(percents), np.int64), tuple(str(i) for i in range(len(percents))))


def test_what_the_threshold_stands_for_is_recorded() -> None:
    others = np.linspace(50, 80, OOD_PER_KIND).round().astype(np.int64)
    sure = (others / 100).astype(np.float32).astype(np.float64)

    chosen = choose_rejection(SureAs(), _task(shades=others), _validation(np.full(1000, 95)), seed=3)

    assert chosen is not None
    assert chosen.threshold == pytest.approx(0.79, abs=0.015)
    assert chosen.false_accepts == pytest.approx((sure >= chosen.threshold).mean())
    assert chosen.false_accepts <= chosen.wanted_false_accepts == FALSE_ACCEPTS
    assert (chosen.kept, chosen.kinds, chosen.seed) == (1.0, ("shades",), 3)


def test_true_pictures_are_not_sacrificed_to_ood_pictures_that_look_the_same() -> None:
    true = np.linspace(60, 99, 1000).round().astype(np.int64)

    chosen = choose_rejection(SureAs(), _task(doubles=np.full(OOD_PER_KIND, 99)), _validation(true), seed=0)

    assert chosen is not None
    assert chosen.kept >= 1 - LOST
    assert chosen.false_accepts == 1.0


def test_a_task_that_has_no_ood_generator_has_no_threshold() -> None:
    task = dataclasses.replace(_task(), ood=None)

    assert choose_rejection(SureAs(), task, _validation(np.full(10, 95)), seed=0) is None


INFO = RejectionInfo(0.7, 0.05, 0.04, 0.98, ("wood", "letters"), 3)


def test_a_saved_model_remembers_what_its_threshold_stands_for(bar_reference: Reference, tmp_path: Path) -> None:
    save_reference(bar_reference.rejecting(INFO), tmp_path / "model.keras")

    opened = open_reference(tmp_path)

    assert (opened.reject_threshold, opened.rejection) == (0.7, INFO)


def test_an_exported_file_says_what_its_threshold_stands_for(bar_reference: Reference, tmp_path: Path) -> None:
    (file,) = export(bar_reference.rejecting(INFO), out=tmp_path, formats=["tflite"]).files

    contract = Artifact.open(file.path).contract

    assert (contract.reject_threshold, contract.rejection) == (0.7, INFO)
    assert contract == Contract.from_json(contract.to_json())


def test_a_contract_without_it_reads_as_it_did_before(bar_reference: Reference, tmp_path: Path) -> None:
    (file,) = export(bar_reference, out=tmp_path, formats=["tflite"]).files

    assert b'"rejection"' not in Artifact.open(file.path).contract.to_json()
