"""Puts a finished training run into the package: the model with its calibration record, its int8 artifact, and the proof.

    python -m export.tools.ship_models runs/neu-compact

Needs the real data, since ranges and parity that are shipped must be measured on it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import RejectionInfo
from edgecnn.classifier import read_evidence
from edgecnn.datasets.dataset import Splits
from edgecnn.datasets.load import data_info, load_splits
from edgecnn.errors import DatasetError, EdgecnnError
from edgecnn.files import make_folder, read_bytes, replacing, write_json
from edgecnn.rejection.measure import measure_rejection
from edgecnn.rejection.threshold import choose_rejection
from edgecnn.runtimes import open_runtime
from edgecnn.tasks import Task
from edgecnn_export.calibration_data import record_calibration
from edgecnn_export.exporter import PARITY_JSON, export
from edgecnn_export.models import open_reference
from edgecnn_export.reference import Reference, save_reference

REJECTION_JSON = "rejection.json"
TRAINING_JSON, CURVES_PNG = "training.json", "curves.png"


def ship(run: Path, *, package: Path, proofs: Path, seed: int = 0) -> None:
    """Calibrate the run's model, export it, and put model, int8 artifact and proof in their places.

    `package` receives `<task>-compact.keras` and `<task>-int8.tflite`, `proofs/<task>` the parity, rejection and training
    records. `run` may be a `.keras` file, such as the shipped one, whose training record then stays.
    Raises DatasetError without real data or when the int8 file fails its parity.
    """
    reference = open_reference(run)
    task = reference.task
    splits = load_splits(task, None, seed)
    if splits.info.synthetic:
        raise DatasetError(f"no real data for {task.name!r}: shipped ranges and parity are measured on real pictures only")
    reference = record_calibration(reference, splits, seed)
    reference = reference.rejecting(_rejection(reference, splits, seed))
    _say(f"answers below {reference.reject_threshold} are rejected")
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        result = export(reference, out=staged, int8=True, splits=splits, seed=seed, progress=_say)
        if result.rejected:
            raise DatasetError(f"{result.rejected[0].path.name}: {result.rejected[0].reason}; nothing was shipped")
        proof = make_folder(proofs / task.name)
        made = Artifact.open(staged / f"{task.name}-int8.tflite").contract
        save_reference(
            dataclasses.replace(reference, evidence=made.evidence, drift=made.drift), package / f"{task.name}-compact.keras"
        )
        _copy(staged / f"{task.name}-int8.tflite", package)
        _copy(staged / PARITY_JSON, proof)
        measured = _measure(staged / f"{task.name}-int8.tflite", task, splits, seed)
        write_json(proof / REJECTION_JSON, measured)
        if run.is_dir():
            write_json(proof / TRAINING_JSON, _public_record(run / TRAINING_JSON))
            _copy(run / CURVES_PNG, proof)
    for exported in result.files:
        _say(f"{exported.path.name}: {exported.size_bytes} bytes, {exported.verdict}: {exported.reason}")


def _rejection(reference: Reference, splits: Splits, seed: int) -> RejectionInfo | None:
    """Choose it on the answers of the int8 file that is shipped."""
    with tempfile.TemporaryDirectory() as name:
        path = export(reference, out=Path(name), formats=["tflite"], int8=True, seed=seed).files[-1].path
        return choose_rejection(open_runtime(Artifact.open(path)), reference.task, splits.validation, seed)


def _measure(path: Path, task: Task, splits: Splits, seed: int) -> dict[str, Any]:
    """Measure how the int8 file rejects, as `edgecnn rejection` does."""
    artifact = Artifact.open(path)
    contract, data = artifact.contract, data_info(splits, "validation")
    return measure_rejection(
        open_runtime(artifact),
        task,
        splits.validation,
        data,
        threshold=contract.reject_threshold,
        evidence=read_evidence(contract),
        severity=3,
        seed=seed,
    ).to_json()


def _public_record(training_json: Path) -> dict[str, Any]:
    """Return the record without where this machine keeps the pictures."""
    record: dict[str, Any] = json.loads(read_bytes(training_json))
    return {name: value for name, value in record.items() if name not in ("data_folder", "splits_table", "folder_summary")}


def _copy(file: Path, folder: Path) -> None:
    with replacing(folder / file.name) as beside:
        shutil.copyfile(file, beside)


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:]:
            ship(Path(argument), package=Path(shipped.__file__).parent, proofs=Path("docs") / "reference" / "models")
    except EdgecnnError as problem:
        sys.exit(f"shipping: {problem}")
