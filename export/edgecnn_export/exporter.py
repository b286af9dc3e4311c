"""`export`: from a reference model to artifacts that are proven before anyone sees them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgecnn.artifacts import Artifact, golden
from edgecnn.datasets.dataset import Splits
from edgecnn.errors import ConversionError, InputError
from edgecnn.folders import list_all
from edgecnn.quiet import quiet
from edgecnn_export.calibration_audit import Audit
from edgecnn_export.calibration_data import audit, find_calibration
from edgecnn_export.contract_writer import ContractWriter, export_id
from edgecnn_export.conversion.calibration import Calibration
from edgecnn_export.conversion.convert import FORMATS, Conversion, Failure, Format, Precision, convert
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.serving import parameter_count
from edgecnn_export.evidence import EvidenceOptions, give_baseline, give_evidence
from edgecnn_export.models import Model
from edgecnn_export.pages.parity import write_page
from edgecnn_export.parity.compare import MIN_PICTURES, too_few
from edgecnn_export.parity.figures import ParityReport, Verdict
from edgecnn_export.parity.files import Measured, measure
from edgecnn_export.parity.reference_check import check_reference
from edgecnn_export.parity.text import write_json
from edgecnn_export.reference import Reference
from edgecnn_export.repair.ladder import Attempt, Repair
from edgecnn_export.repair.table import table
from edgecnn_export.staging import REJECTED, check_out, install, staging

PARITY_JSON, PARITY_PAGE = "parity.json", "parity.html"
QUANTIZED: tuple[Precision, ...] = ("int8", "int16x8", "mixed")

Progress = Callable[[str], None]
Outcome = Verdict | Literal["not measured"]


@dataclass(frozen=True)
class ExportedFile:
    """One file of an export: its parity's `verdict` and `reason`, and after a fail `advice`, what lost it and what to try.

    `guard` says which pictures get a label, empty where all do.
    """

    path: Path
    format: str
    precision: Precision
    size_bytes: int
    verdict: Outcome
    reason: str
    advice: tuple[str, ...] = ()
    float_layers: tuple[str, ...] = ()
    guard: str = ""

    @property
    def arithmetic(self) -> str:
        """What the file computes with; of an int8 TFLite file it was checked, operator by operator."""
        if self.precision == "float32":
            return "float32"
        if self.precision == "int16x8":
            return "integers, 16-bit values"
        if self.float_layers:
            return f"int8, floats in {_some(self.float_layers)}"
        if self.precision == "mixed":
            return "int8 and float32"
        return "integers only" if self.format == "tflite" else "int8, floats at both ends"

    @property
    def rejected(self) -> bool:
        """True when it failed its parity and was named so that nobody takes it for a good one."""
        return self.path.name.endswith(REJECTED)


@dataclass(frozen=True, eq=False)
class ExportResult:
    """What an export made: its files, the parity report (None when there were no pictures to measure on), the calibration.

    `seconds` is what folding, calibrating, converting and contracts took together, without parity. `attempts` is what a repair
    tried, beginning with the plain int8 files; empty when none was asked for or needed. `audit` are the checks of the
    pictures that int8 was calibrated on, None where recorded ranges were taken. `failures` are the files that were asked for
    and could not be made; `unguarded` says why they have no thresholds of unsure and novel, None where they have.
    """

    folder: Path
    files: tuple[ExportedFile, ...]
    parity: ParityReport | None
    calibration: Calibration | None
    seconds: float
    attempts: tuple[Attempt, ...] = ()
    audit: Audit | None = None
    failures: tuple[Failure, ...] = ()
    unguarded: str | None = None

    @property
    def rejected(self) -> tuple[ExportedFile, ...]:
        """The files that failed."""
        return tuple(file for file in self.files if file.rejected)

    @property
    def for_board(self) -> ExportedFile:
        """What a board would run: one that was not rejected before one that was, int8 before float32, TFLite before ONNX."""
        return min(self.files, key=lambda file: (file.rejected, file.precision == "float32", file.format != "tflite"))

    def to_json(self) -> dict[str, Any]:
        """Return the result with plain values."""
        files = [
            dataclasses.asdict(file) | {"path": str(file.path), "arithmetic": file.arithmetic, "rejected": file.rejected}
            for file in self.files
        ]
        info = None if self.calibration is None else dataclasses.asdict(self.calibration.info())
        return {
            "folder": str(self.folder),
            "files": files,
            "parity": None if self.parity is None else self.parity.verdict,
            "failures": [dataclasses.asdict(failure) for failure in self.failures],
            "calibration": info,
            "calibration_audit": None if self.audit is None else self.audit.to_json(),
            "unguarded": self.unguarded,
            "seconds": self.seconds,
            **({"repair": [dataclasses.asdict(each) for each in self.attempts]} if self.attempts else {}),
        }


def export(
    reference: Reference,
    *,
    out: Path,
    formats: Collection[Format] = FORMATS,
    int8: bool = False,
    repair: bool | None = None,
    splits: Splits | None = None,
    max_drop: float | None = None,
    evidence: EvidenceOptions = EvidenceOptions(),  # noqa: B008  # frozen
    seed: int = 0,
    progress: Progress = lambda line: None,
) -> ExportResult:
    """Convert a reference model, prove each file against it and put all of them into the folder `out` at once.

    `splits` serve for calibration (train) and parity (validation). Without them int8 takes the ranges recorded in the
    reference, and parity is not measured. `max_drop` is the parity margin in percentage points, by default the task's.
    With `repair`, int8 files that fail go up the ladder (see `repair`) and are replaced by those of the first technique that
    passes; None repairs those of models that were trained here, where there are pictures to judge by. `evidence` says when
    answers are to be unsure and pictures novel. A file that fails its parity is named `*.rejected`, one that cannot be made is
    among the result's `failures`.

    Raises InputError before anything is converted for calibration pictures that fail their audit (see `calibration_audit`)
    and for another tool's model that reads labelled pictures far better in another way (see `parity.reference_check`);
    ConversionError when no file can be made; InputError or OutputError. An earlier export in `out` is then unchanged.
    """
    if repair and not int8:
        raise InputError("--repair is for int8 files: add --int8")
    if repair and (splits is None or len(splits.validation) < MIN_PICTURES):
        missing = _unmeasured(splits)
        raise InputError(f"a repair needs int8 files and pictures to judge them by: {missing}; give --data or --calibration")
    if repair is None:
        repair = int8 and reference.training is not None and splits is not None and len(splits.validation) >= MIN_PICTURES
    files = [f"{reference.task.name}-{precision}.{each}" for precision in ("float32", *QUANTIZED) for each in FORMATS]
    check_out(out, (*files, PARITY_PAGE, PARITY_JSON))
    if evidence.others is not None:
        list_all([evidence.others])  # a mistake there is reported now, not after minutes of work
    started = time.monotonic()
    doubt = _checked(reference, splits, seed)
    with quiet():
        folded = fold(reference.model)
        calibration, images = find_calibration(reference, folded, splits, seed) if int8 else (None, None)
        audited = audit(folded, splits, reference.task.labels, seed) if splits is not None and images is not None else None
    progress(f"converting {reference.name} of {reference.task.name}")
    conversions = convert(folded, formats, calibration, images)
    if not conversions.made:
        raise ConversionError("; ".join(f"{each.suffix}: {each.reason}" for each in conversions.failures))
    info = None if calibration is None else calibration.info()
    common = export_id([each.sha256 for each in conversions.made])
    held_out = None if splits is None else splits.validation
    writer = ContractWriter(reference, parameter_count(folded), info, common, held_out)
    with staging(out) as staged:
        artifacts, flawed = _written(writer, conversions.made, staged)
        failures = (*conversions.failures, *flawed)
        seconds = time.monotonic() - started
        measured = _measure(reference, calibration, artifacts, splits, max_drop, seed, progress, doubt)
        attempts: tuple[Attempt, ...] = ()
        if repair and measured is not None and splits is not None and calibration is not None:
            job = Repair(reference, folded, calibration, splits, max_drop, seed, progress)
            attempts, artifacts = job.run(writer, artifacts, measured.report, staged)
            if any(each.chosen for each in attempts):
                measured = _measure(reference, calibration, artifacts, splits, max_drop, seed, progress, doubt)
        artifacts, unguarded = give_evidence(artifacts, reference.task, splits, evidence, seed=seed, progress=progress)
        artifacts = give_baseline(artifacts, splits, seed=seed, progress=progress)
        judged = [_judge(artifact, measured, out, _unmeasured(splits)) for artifact in artifacts]
        names = [file.path.name for file in judged]
        other = _superseded(reference.task.name, judged, failures)
        if measured is None:
            install(staged, out, names, obsolete=(PARITY_PAGE, PARITY_JSON), superseded=other)
        else:
            write_page(
                measured.report, staged / PARITY_PAGE, dataset=measured.dataset, advice=measured.advice, repair=table(attempts)
            )
            checks = [] if audited is None else audited.to_json()
            write_json(measured.report, staged / PARITY_JSON, [dataclasses.asdict(each) for each in attempts], checks)
            install(staged, out, names, reports=(PARITY_PAGE, PARITY_JSON), superseded=other)
    report = None if measured is None else measured.report
    return ExportResult(out, tuple(judged), report, calibration, seconds, attempts, audited, failures, unguarded)


def formats_named(name: str) -> tuple[Format, ...]:
    """Return the formats that `tflite`, `onnx` or `all` names."""
    return tuple(each for each in FORMATS if name in (each, "all"))


def _written(writer: ContractWriter, made: Sequence[Conversion], folder: Path) -> tuple[list[Artifact], tuple[Failure, ...]]:
    """Write converted models with their contracts; those that give no numbers are failures, an error when all are."""
    artifacts, failures = [], []
    for each in made:
        try:
            artifact = writer.write(each, folder / f"{writer.task_name}-{each.suffix}")
        except ConversionError as error:
            failures.append(Failure(each.format, each.precision, str(error)))
            continue
        artifact.save(artifact.path)
        artifacts.append(artifact)
    if not artifacts:
        raise ConversionError("; ".join(f"{each.suffix}: {each.reason}" for each in failures))
    return artifacts, tuple(failures)


def _checked(reference: Reference, splits: Splits | None, seed: int) -> str | None:
    """Return a doubt about the reference; InputError for a mistake of the user's that labelled pictures show."""
    if splits is None:
        return None
    doubt = check_reference(reference, splits.validation, labelled=splits.info.labelled, seed=seed)
    if doubt is not None and doubt.mistake:
        raise InputError(doubt.text)
    return None if doubt is None else doubt.text


def _measure(
    reference: Reference,
    calibration: Calibration | None,
    artifacts: Sequence[Artifact],
    splits: Splits | None,
    max_drop: float | None,
    seed: int,
    progress: Progress,
    doubt: str | None,
) -> Measured | None:
    """Compare the staged files, read back from the disk and run as a board would run them, with the reference.

    None when there are too few pictures to say anything.
    """
    if splits is None or len(splits.validation) < MIN_PICTURES:
        return None
    progress(f"comparing {len(artifacts)} files with the reference on {len(splits.validation)} pictures")
    if calibration is not None:
        reference = dataclasses.replace(reference, calibration=calibration.to_json())
    return measure(
        Model.of(reference), [artifact.path for artifact in artifacts], splits, "validation", max_drop=max_drop, seed=seed
    )


def _judge(artifact: Artifact, measured: Measured | None, out: Path, unmeasured: str) -> ExportedFile:
    """Write the verdict into a staged file's contract; a file that failed gets its other name."""
    name, contract = artifact.path.name, artifact.contract
    verdict: Outcome = "not measured"
    parity, reason, advice = contract.parity, unmeasured, tuple[str, ...]()
    if measured is not None:
        candidate = measured.report[name]
        verdict, reason, parity = candidate.verdict, "; ".join(candidate.reasons), measured.report.info(name)
        advice = tuple(measured.advice.get(name, ()))
    contract = dataclasses.replace(contract, parity=parity)
    if verdict != "fail" and (contradiction := golden.contradiction(contract)):
        verdict, reason = "fail", contradiction
        contract = dataclasses.replace(contract, parity=dataclasses.replace(parity, verdict=verdict))
    path = artifact.path.with_name(name + REJECTED) if verdict == "fail" else artifact.path
    artifact = dataclasses.replace(artifact, path=path, contract=contract)
    artifact.save(path)
    return ExportedFile(
        path=out / artifact.path.name,
        format=artifact.format,
        precision=artifact.contract.precision,
        size_bytes=artifact.path.stat().st_size,
        verdict=verdict,
        reason=reason,
        advice=advice,
        float_layers=artifact.contract.float_layers,
        guard="" if contract.guard is None else contract.guard.describe(),
    )


def _unmeasured(splits: Splits | None) -> str:
    return "there were no pictures to compare on" if splits is None else too_few(splits)


def _superseded(task: str, files: Sequence[ExportedFile], failures: Sequence[Failure]) -> list[str]:
    """Name the files that an earlier export may have left and this one does not replace, of what was asked for."""
    made = {(file.format, file.precision) for file in files}
    asked = made | {(failure.format, failure.precision) for failure in failures}
    formats = {file_format for file_format, precision in asked if precision != "float32"}
    wanted = {*asked, *((file_format, each) for file_format in formats for each in QUANTIZED)}
    return [f"{task}-{precision}.{file_format}" for file_format, precision in sorted(wanted - made)]


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
