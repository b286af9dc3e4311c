"""Climbing the ladder: each technique's files are made and compared with the reference until one passes."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import RepairInfo
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.datasets.load import data_info
from edgecnn.errors import ConversionError
from edgecnn.robustness.corruptions import corruptions_for
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn_export.contract_writer import ContractWriter, export_id
from edgecnn_export.conversion.calibration import Calibration
from edgecnn_export.conversion.convert import Conversion, Format, Precision, Quantization, convert_quantized
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.parity.compare import compare
from edgecnn_export.parity.figures import CandidateReport, ParityReport, Verdict
from edgecnn_export.parity.good_parts import answering, calibration_pictures, shown, unlabelled
from edgecnn_export.reference import Reference
from edgecnn_export.repair.context import MANY, RepairContext, SkippedError
from edgecnn_export.repair.equalization import equalize_layers
from edgecnn_export.repair.fine_tuning import fine_tune
from edgecnn_export.repair.precision import leave_both_float, leave_last_float, widen_activations
from edgecnn_export.repair.ranges import calibrate_on_more, clip_ranges
from edgecnn_export.repair.rounding import round_weights

PLAIN = "plain calibration"
ROUNDS = 15
SECONDS = 300  # after which no further technique is begun, unless all are wanted
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Technique:
    """One measure against a loss: its name, and the function that applies it or raises SkippedError."""

    name: str
    build: Callable[[RepairContext], Quantization]


TECHNIQUES = (
    Technique("more calibration pictures", calibrate_on_more),
    Technique("clipped ranges", clip_ranges),
    Technique("weights rounded by effect", round_weights),
    Technique("equalized layers", equalize_layers),
    Technique("16-bit activations", widen_activations),
    Technique("last layer in floats", leave_last_float),
    Technique("first and last layer in floats", leave_both_float),
    Technique("fine-tuning", fine_tune),
)


@dataclass(frozen=True)
class Attempt:
    """What one technique brought for one format; a technique that could not be tried has a `skipped` reason and no figures.

    `number` counts techniques from 1, 0 is the plain file. `interval` is the accuracy's; `drop`, `drop_bound` and, under camera
    corruptions, `corrupted_drop` are in percentage points. `latency_ratio` is to the plain file, timed side by side at the
    end; `seconds` is what making the technique's files took.
    """

    number: int
    technique: str
    format: Format
    precision: Precision | None = None
    method: str | None = None
    skipped: str | None = None
    verdict: Verdict | None = None
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    drop: float | None = None
    drop_bound: float | None = None
    corrupted_drop: float | None = None
    size_bytes: int | None = None
    latency_ms: float | None = None
    latency_ratio: float | None = None
    seconds: float | None = None
    chosen: bool = False


@dataclass(frozen=True, eq=False)
class RepairResult:
    """All attempts, and by format the artifact of the technique that was chosen; formats for which nothing helped have none."""

    attempts: tuple[Attempt, ...]
    artifacts: dict[Format, Artifact]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the attempts as plain values."""
        return [dataclasses.asdict(each) for each in self.attempts]


@dataclass(eq=False)
class Ladder:
    """One way up: what is compared with what, and what has been found.

    `compare` maps artifacts to their parity with the reference; files are written into `folder`; `failed` are the plain int8
    artifacts with their reports.
    """

    context: RepairContext
    writer: ContractWriter
    compare: Callable[[Collection[Artifact]], ParityReport]
    folder: Path
    failed: Mapping[Format, tuple[Artifact, CandidateReport]]
    clock: Callable[[], float] = time.monotonic
    attempts: list[Attempt] = field(default_factory=list)
    found: dict[tuple[int, Format], tuple[Artifact, CandidateReport]] = field(default_factory=dict)

    def run(self, images: NDArray[np.uint8], *, stop: bool = True) -> RepairResult:
        """Try technique after technique for each format until it passes, all of them unless `stop`; time them on `images`.

        With `stop` none is begun after SECONDS either.
        """
        began = self.clock()
        for file_format, (artifact, report) in self.failed.items():
            self._remember(0, PLAIN, file_format, artifact, report, None)
        for number, technique in enumerate(TECHNIQUES, start=1):
            formats = [file_format for file_format in self.failed if not (stop and self._passed(file_format))]
            if stop and self.clock() - began > SECONDS:
                reason = f"{SECONDS / 60:.0f} minutes are over"
                self.attempts += [Attempt(number, technique.name, each, skipped=reason) for each in formats]
            elif formats:
                self.context.progress(f"repairing, technique {number} of {len(TECHNIQUES)}: {technique.name}")
                self._climb(number, technique, formats)
        chosen = {file_format: choose(self.attempts, file_format) for file_format in self.failed}
        return self._finish(images, {each: number for each, number in chosen.items() if number is not None})

    def _climb(self, number: int, technique: Technique, formats: Collection[Format]) -> None:
        started = time.monotonic()
        try:
            quantization = technique.build(self.context)
        except SkippedError as reason:
            self.attempts += [Attempt(number, technique.name, each, skipped=str(reason)) for each in formats]
            return
        made = dict[Format, Artifact]()
        for file_format in formats:
            try:
                conversion = self._convert(quantization, file_format)
                made[file_format] = self._write(number, technique, quantization, conversion)
            except (ConversionError, SkippedError) as reason:
                self.attempts.append(Attempt(number, technique.name, file_format, skipped=str(reason)))
        seconds = time.monotonic() - started
        if made:
            report = self.compare(list(made.values()))
            for file_format, artifact in made.items():
                self._remember(number, technique.name, file_format, artifact, report[artifact.path.name], seconds)

    def _convert(self, quantization: Quantization, file_format: Format) -> Conversion:
        """Convert; SkippedError when an earlier technique gave the very same file."""
        conversion = convert_quantized(quantization, file_format)
        for (number, _), (artifact, _) in self.found.items():
            if artifact.contract.model_sha256 == conversion.sha256:
                raise SkippedError(
                    f"it gives the same file as technique {number}" if number else "it gives the plain file again"
                )
        return conversion

    def _write(self, number: int, technique: Technique, quantization: Quantization, conversion: Conversion) -> Artifact:
        folder = self.folder / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        repair = RepairInfo(technique.name, tuple(each.name for each in TECHNIQUES[:number]), quantization.float_layers())
        path = folder / f"{self.writer.task_name}-{conversion.suffix}"
        artifact = self.writer.write_repaired(conversion, path, quantization.calibration.info(), repair)
        artifact.save(path)
        return artifact

    def _remember(
        self,
        number: int,
        technique: str,
        file_format: Format,
        artifact: Artifact,
        report: CandidateReport,
        seconds: float | None,
    ) -> None:
        self.found[number, file_format] = artifact, report
        calibration = artifact.contract.calibration
        self.attempts.append(
            Attempt(
                number=number,
                technique=technique,
                format=file_format,
                precision=artifact.contract.precision,
                method=None if calibration is None else calibration.method,
                verdict=report.verdict,
                accuracy=report.figures.accuracy,
                interval=report.figures.interval,
                drop=report.drop,
                drop_bound=report.drop_bound,
                corrupted_drop=None if report.corrupted is None else report.corrupted.drop,
                size_bytes=artifact.path.stat().st_size,
                seconds=seconds,
            )
        )

    def _passed(self, file_format: Format) -> bool:
        return any(each.format == file_format and each.verdict == "pass" for each in self.attempts)

    def _finish(self, images: NDArray[np.uint8], chosen: dict[Format, int]) -> RepairResult:
        """Time all files side by side and mark those that were chosen."""
        runtimes: dict[tuple[int, Format], Runtime] = {key: open_runtime(artifact) for key, (artifact, _) in self.found.items()}
        latencies = time_side_by_side(runtimes, images)
        attempts = []
        for each in self.attempts:
            latency_ms = latencies.get((each.number, each.format))
            ratio = None if latency_ms is None else latency_ms / latencies[0, each.format]
            taken = chosen.get(each.format) == each.number
            attempts.append(dataclasses.replace(each, latency_ms=latency_ms, latency_ratio=ratio, chosen=taken))
        return RepairResult(tuple(attempts), {each: self.found[number, each][0] for each, number in chosen.items()})


def choose(attempts: Sequence[Attempt], file_format: Format) -> int | None:
    """Return the lowest technique that passed, else the undecided one of the smallest bound, None when all failed."""
    mine = [each for each in attempts if each.format == file_format]
    if passed := [each.number for each in mine if each.verdict == "pass"]:
        return passed[0]
    undecided = [each for each in mine if each.verdict == "undecided"]
    return min(undecided, key=lambda each: each.drop_bound or 0.0).number if undecided else None


def pictures_to_time(dataset: Dataset) -> NDArray[np.uint8]:
    """Return a few pictures `(n, h, w, c)` of a data set, spread over it."""
    return dataset.images[np.linspace(0, len(dataset) - 1, 5).astype(np.int64)]


def time_side_by_side(
    runtimes: Mapping[Key, Runtime], images: NDArray[np.uint8], clock: Callable[[], float] = time.perf_counter
) -> dict[Key, float]:
    """Return the median time in ms that each runtime takes for one of the images `(n, h, w, c)`, after one round of warmup."""
    taken: dict[Key, list[float]] = {key: [] for key in runtimes}
    for _ in range(ROUNDS + 1):
        for key, runtime in runtimes.items():
            began = clock()
            runtime.run(images)
            taken[key].append(1e3 * (clock() - began) / len(images))
    return {key: float(np.median(times[1:])) for key, times in taken.items()}


@dataclass(frozen=True, eq=False)
class Repair:
    """What an export knows about the model whose int8 files failed; `max_drop` is None for the task's own."""

    reference: Reference
    folded: Folded
    calibration: Calibration
    splits: Splits
    max_drop: float | None
    seed: int
    progress: Callable[[str], None]

    def run(
        self, writer: ContractWriter, artifacts: Sequence[Artifact], report: ParityReport, staged: Path
    ) -> tuple[tuple[Attempt, ...], list[Artifact]]:
        """Repair the int8 artifacts that failed; return the attempts and all artifacts, repaired ones in place of plain ones.

        The repaired files are in `staged` as well, under the names of what they compute in.
        """
        failed = {
            _format(artifact): (artifact, report[artifact.path.name])
            for artifact in artifacts
            if artifact.contract.precision == "int8" and report[artifact.path.name].verdict == "fail"
        }
        if not failed:
            return (), list(artifacts)
        repair = self.climb(writer, failed, staged)
        repaired = [repair.artifacts.get(_format(each), each) if each.contract.calibration else each for each in artifacts]
        return repair.attempts, _placed(repaired, staged)

    def climb(
        self,
        writer: ContractWriter,
        failed: dict[Format, tuple[Artifact, CandidateReport]],
        staged: Path,
        *,
        stop: bool = True,
    ) -> RepairResult:
        """Go up the ladder with the failed artifacts, to its top unless `stop`."""
        splits = self.splits
        if self.reference.task.only_good:  # ranges of one light are what has to be repaired
            train = calibration_pictures(self.reference.task, splits.train, self.seed, MANY)
            splits = dataclasses.replace(splits, train=train)
        context = RepairContext(self.folded, self.calibration, splits, self.seed, self.progress)
        climb = Ladder(context, writer, self.comparison(), staged / "techniques", failed)
        return climb.run(pictures_to_time(self.splits.validation), stop=stop)

    def comparison(self) -> Callable[[Collection[Artifact]], ParityReport]:
        """Return the comparison that an export makes, with the reference answering the same pictures only once."""
        task, corruptions = self.reference.task, corruptions_for(self.reference.task)
        reference = _Remembering(answering(task, self.reference.runtime()))
        pictures = shown(task, self.splits.validation, self.seed)

        def against_reference(artifacts: Collection[Artifact]) -> ParityReport:
            return compare(
                reference,
                {artifact.path.name: answering(task, open_runtime(artifact)) for artifact in artifacts},
                pictures.dataset,
                labels=pictures.labels,
                max_drop=task.max_drop if self.max_drop is None else self.max_drop,
                data=data_info(self.splits, "validation"),
                seed=self.seed,
                corruptions=corruptions,
                corrupted_of=pictures.corrupted_of,
                variants=lambda: unlabelled(task, self.splits, corruptions, self.seed),
            )

        return against_reference


class _Remembering:
    """A runtime that answers the same pictures from memory."""

    def __init__(self, runtime: Runtime) -> None:
        self.name, self._runtime = runtime.name, runtime
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        key = hashlib.sha256(np.ascontiguousarray(images).data).digest()
        if key not in self._known:
            self._known[key] = self._runtime.run(images)
        return self._known[key]


def _format(artifact: Artifact) -> Format:
    return "tflite" if artifact.format == "tflite" else "onnx"


def _placed(artifacts: Sequence[Artifact], staged: Path) -> list[Artifact]:
    """Give the files of the repaired export one id, and write them to their places."""
    common = export_id([artifact.contract.model_sha256 for artifact in artifacts])
    placed = []
    for artifact in artifacts:
        contract = dataclasses.replace(artifact.contract, export_id=common)
        placed.append(dataclasses.replace(artifact, path=staged / artifact.path.name, contract=contract))
        placed[-1].save(placed[-1].path)
    return placed
