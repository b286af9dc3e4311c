"""`export`: from a reference model to artifacts that are proven before anyone sees them."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import InputError
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn_export.contracts import ContractWriter
from edgecnn_export.conversion.calibration import Calibration, calibrate, choose_calibration
from edgecnn_export.conversion.converting import FORMATS, Conversion, Format, Precision, convert
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.quiet import quiet
from edgecnn_export.conversion.serving import parameter_count
from edgecnn_export.installing import REJECTED, install, staging
from edgecnn_export.parity.compare import MIN_PICTURES, ParityReport, compare
from edgecnn_export.parity.diagnosis import advice, probe_input, rank_layers
from edgecnn_export.parity.page import write_page
from edgecnn_export.parity.report import write_json
from edgecnn_export.reference import Reference

PARITY_JSON, PARITY_PAGE = "parity.json", "parity.html"
_DIAGNOSED_PICTURES = 64

Progress = Callable[[str], None]
Verdict = Literal["pass", "fail", "undecided", "not measured"]


@dataclass(frozen=True)
class ExportedFile:
    """One file of an export: `verdict` of its parity, and after a fail `advice`, what lost it and what to try."""

    path: Path
    format: str
    precision: Precision
    size_bytes: int
    verdict: Verdict
    sentence: str
    advice: tuple[str, ...] = ()

    @property
    def rejected(self) -> bool:
        """True when it failed its parity and was named so that nobody takes it for a good one."""
        return self.path.name.endswith(REJECTED)


@dataclass(frozen=True, eq=False)
class ExportResult:
    """What an export made: its files, the parity report (None when there were no pictures to measure on), the calibration.

    `seconds` is what folding, calibrating, converting and contracts took together, without parity.
    """

    folder: Path
    files: tuple[ExportedFile, ...]
    parity: ParityReport | None
    calibration: Calibration | None
    seconds: float

    @property
    def rejected(self) -> tuple[ExportedFile, ...]:
        """The files that failed."""
        return tuple(file for file in self.files if file.rejected)

    def to_json(self) -> dict[str, Any]:
        """Return the result with plain values."""
        files = [dataclasses.asdict(file) | {"path": str(file.path), "rejected": file.rejected} for file in self.files]
        info = None if self.calibration is None else dataclasses.asdict(self.calibration.info())
        return {
            "folder": str(self.folder),
            "files": files,
            "parity": None if self.parity is None else self.parity.verdict,
            "calibration": info,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, eq=False)
class _Evidence:
    """The pictures on which parity is measured, and what reports call them."""

    dataset: Dataset
    data: DataInfo


def export(
    reference: Reference,
    *,
    out: Path,
    formats: Collection[Format] = FORMATS,
    int8: bool = False,
    splits: Splits | None = None,
    max_drop: float | None = None,
    seed: int = 0,
    progress: Progress = lambda line: None,
) -> ExportResult:
    """Convert a reference model, prove each file against it and put all of them into the folder `out` at once.

    `splits` serve for calibration (train) and parity (validation). Without them int8 takes the ranges recorded in the
    reference, and parity is not measured. `max_drop` is the parity margin in percentage points, by default the task's.
    A file that fails its parity is named `*.rejected`. Raises ConversionError, InputError or OutputError; an earlier export
    in `out` is then as it was.
    """
    started = time.monotonic()
    with quiet():
        folded = fold(reference.model)
        calibration, images = find_calibration(reference, folded, splits, seed) if int8 else (None, None)
    progress(f"converting {reference.name} of {reference.task.name}")
    conversions = convert(folded, formats, calibration, images)
    info = None if calibration is None else calibration.info()
    writer = ContractWriter(reference, parameter_count(folded), info, _export_id(conversions))
    with staging(out) as staged:
        artifacts = [writer.write(each, staged / f"{reference.task.name}-{each.suffix}") for each in conversions]
        for artifact in artifacts:
            artifact.save(artifact.path)
        seconds = time.monotonic() - started
        evidence = _evidence(splits)
        if evidence is None:
            files = [
                _file(artifact, out, "not measured", "parity was not measured: give the pictures with --data")
                for artifact in artifacts
            ]
            install(staged, out, [file.path.name for file in files], obsolete=(PARITY_PAGE, PARITY_JSON))
            return ExportResult(out, tuple(files), None, calibration, seconds)
        report, runtimes = _measure(reference, artifacts, evidence, max_drop, seed, progress)
        advices = {
            name: tuple(_diagnose(report, name, folded, calibration, reference, runtimes[name], evidence))
            for name in runtimes
            if report[name].verdict == "fail"
        }
        files = [_judge(artifact, report, advices, out) for artifact in artifacts]
        write_page(report, staged / PARITY_PAGE, dataset=evidence.dataset, advice=advices)
        write_json(report, staged / PARITY_JSON)
        install(staged, out, [*(file.path.name for file in files), PARITY_PAGE, PARITY_JSON])
    return ExportResult(out, tuple(files), report, calibration, seconds)


def find_calibration(
    reference: Reference, folded: keras.Model, splits: Splits | None, seed: int
) -> tuple[Calibration, NDArray[np.uint8] | None]:
    """Measure ranges on real training pictures where there are some, else take those recorded in the reference.

    Also returns the pictures, None where there are none. Synthetic pictures serve only a model that has no record.
    Raises InputError when there is neither, ConversionError when the record is not of this model.
    """
    recorded = None if reference.calibration is None else Calibration.from_json(reference.calibration)
    if splits is None or (splits.info.synthetic and recorded is not None) or len(splits.train) == 0:
        if recorded is None:
            raise InputError(
                f"int8 needs ranges and model {reference.name!r} has none recorded; "
                "give training pictures with --data or --calibration"
            )
        recorded.check(folded)
        return recorded, None
    chosen = choose_calibration(splits.train, seed=seed)
    info = splits.info
    return calibrate(folded, chosen, source=info.source, seed=seed, synthetic=info.synthetic), chosen.images


def record_calibration(reference: Reference, splits: Splits, seed: int) -> Reference:
    """Return the reference with the ranges of its activations on training pictures, so that int8 needs no data later."""
    with quiet():
        folded = fold(reference.model)
    chosen = choose_calibration(splits.train, seed=seed)
    info = splits.info
    record = calibrate(folded, chosen, source=info.source, seed=seed, synthetic=info.synthetic)
    return dataclasses.replace(reference, calibration=record.to_json() if record.ranges else None)


def _evidence(splits: Splits | None) -> _Evidence | None:
    if splits is None or len(splits.validation) < MIN_PICTURES:
        return None
    dataset, info = splits.validation, splits.info
    return _Evidence(dataset, DataInfo(info.source, "validation", len(dataset), dataset.digest(), info.synthetic))


def _measure(
    reference: Reference,
    artifacts: Sequence[Artifact],
    evidence: _Evidence,
    max_drop: float | None,
    seed: int,
    progress: Progress,
) -> tuple[ParityReport, dict[str, Runtime]]:
    """Compare the staged files, read back from the disk and run as a board would run them, with the reference."""
    with quiet():
        runtimes = {artifact.path.name: open_runtime(Artifact.open(artifact.path)) for artifact in artifacts}
    progress(f"comparing {len(runtimes)} files with the reference on {evidence.data.count} pictures")
    report = compare(
        reference.runtime(),
        runtimes,
        evidence.dataset,
        labels=reference.task.labels,
        max_drop=reference.task.max_drop if max_drop is None else max_drop,
        data=evidence.data,
        seed=seed,
        float_candidates=[artifact.path.name for artifact in artifacts if artifact.contract.precision == "float32"],
        sizes={artifact.path.name: artifact.path.stat().st_size for artifact in artifacts},
    )
    return report, runtimes


def _diagnose(
    report: ParityReport,
    name: str,
    folded: keras.Model,
    calibration: Calibration | None,
    reference: Reference,
    runtime: Runtime,
    evidence: _Evidence,
) -> list[str]:
    """Say which classes and layers of a failed file lost it."""
    images = evidence.dataset.images[:: max(1, len(evidence.dataset) // _DIAGNOSED_PICTURES)]
    quantized = "int8" in name and calibration is not None and calibration.ranges
    losses = rank_layers(folded, calibration.ranges, images) if quantized and calibration else None
    return advice(report, name, losses, probe_input(reference.runtime(), runtime, images))


def _judge(artifact: Artifact, report: ParityReport, advices: Mapping[str, tuple[str, ...]], out: Path) -> ExportedFile:
    """Write the verdict into a staged file's contract; a file that failed gets its other name."""
    name = artifact.path.name
    contract = dataclasses.replace(artifact.contract, parity=report.info(name))
    judged = dataclasses.replace(artifact, contract=contract)
    verdict = report[name].verdict
    if verdict == "fail":
        judged = dataclasses.replace(judged, path=artifact.path.with_name(name + REJECTED))
    judged.save(judged.path)
    return _file(judged, out, verdict, report[name].sentence, advices.get(name, ()))


def _file(artifact: Artifact, out: Path, verdict: Verdict, sentence: str, advice: tuple[str, ...] = ()) -> ExportedFile:
    size = artifact.path.stat().st_size
    path = out / artifact.path.name
    return ExportedFile(path, artifact.format, artifact.contract.precision, size, verdict, sentence, advice)


def _export_id(conversions: Sequence[Conversion]) -> str:
    """Return what the files of one export have in common and others have not."""
    return hashlib.sha256("".join(conversion.sha256 for conversion in conversions).encode()).hexdigest()[:16]
