"""Climbing the ladder: each rung's files are made and compared with the reference until one passes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import RepairInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import ConversionError
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn_export.contract_writer import ContractWriter
from edgecnn_export.conversion.convert import Conversion, Format, Precision, Quantization, convert_quantized
from edgecnn_export.parity.figures import CandidateReport, ParityReport, Verdict
from edgecnn_export.repair.context import SkippedError, Workshop
from edgecnn_export.repair.equalization import equalize_layers
from edgecnn_export.repair.fine_tuning import fine_tune
from edgecnn_export.repair.float_ends import leave_both_float, leave_last_float
from edgecnn_export.repair.more_pictures import calibrate_on_more
from edgecnn_export.repair.precision import widen_activations
from edgecnn_export.repair.ranges import clip_ranges
from edgecnn_export.repair.timing import time_side_by_side

PLAIN = "plain calibration"


@dataclass(frozen=True)
class Rung:
    """One measure against a loss: its name, and the function that applies it or raises SkippedError."""

    name: str
    build: Callable[[Workshop], Quantization]


RUNGS = (
    Rung("more calibration pictures", calibrate_on_more),
    Rung("clipped ranges", clip_ranges),
    Rung("equalized layers", equalize_layers),
    Rung("16-bit activations", widen_activations),
    Rung("last layer in floats", leave_last_float),
    Rung("first and last layer in floats", leave_both_float),
    Rung("fine-tuning", fine_tune),
)


@dataclass(frozen=True)
class Try:
    """What one rung brought for one format; a rung that could not be tried has a `skipped` reason and no figures.

    `number` counts rungs from 1, 0 is the plain file. `interval` is the accuracy's; `drop`, `drop_bound` and, under camera
    corruptions, `corrupted_drop` are in percentage points. `latency_ratio` is to the plain file, timed side by side at the
    end; `seconds` is what making the rung's files took.
    """

    number: int
    rung: str
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
class Repair:
    """All tries, and by format the artifact of the rung that was chosen; formats for which nothing helped have none."""

    tries: tuple[Try, ...]
    artifacts: dict[Format, Artifact]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the tries as plain values."""
        return [dataclasses.asdict(each) for each in self.tries]


@dataclass(eq=False)
class Climb:
    """One way up: what is compared with what, and what has been found.

    `compare` maps artifacts to their parity with the reference; files are written into `folder`; `failed` are the plain int8
    artifacts with their reports.
    """

    shop: Workshop
    writer: ContractWriter
    compare: Callable[[Collection[Artifact]], ParityReport]
    folder: Path
    failed: Mapping[Format, tuple[Artifact, CandidateReport]]
    tries: list[Try] = field(default_factory=list)
    found: dict[tuple[int, Format], tuple[Artifact, CandidateReport]] = field(default_factory=dict)

    def run(self, images: NDArray[np.uint8], *, stop: bool = True) -> Repair:
        """Try rung after rung for each format until it passes, all of them unless `stop`; time them on `images`."""
        for file_format, (artifact, report) in self.failed.items():
            self._remember(0, PLAIN, file_format, artifact, report, None)
        for number, rung in enumerate(RUNGS, start=1):
            formats = [file_format for file_format in self.failed if not (stop and self._passed(file_format))]
            if formats:
                self.shop.progress(f"repairing, rung {number} of {len(RUNGS)}: {rung.name}")
                self._climb(number, rung, formats)
        chosen = {file_format: choose(self.tries, file_format) for file_format in self.failed}
        return self._finish(images, {each: number for each, number in chosen.items() if number is not None})

    def _climb(self, number: int, rung: Rung, formats: Collection[Format]) -> None:
        started = time.monotonic()
        try:
            quantization = rung.build(self.shop)
        except SkippedError as reason:
            self.tries += [Try(number, rung.name, each, skipped=str(reason)) for each in formats]
            return
        made = dict[Format, Artifact]()
        for file_format in formats:
            try:
                conversion = self._convert(quantization, file_format)
            except (ConversionError, SkippedError) as reason:
                self.tries.append(Try(number, rung.name, file_format, skipped=str(reason)))
            else:
                made[file_format] = self._write(number, rung, quantization, conversion)
        seconds = time.monotonic() - started
        if made:
            report = self.compare(list(made.values()))
            for file_format, artifact in made.items():
                self._remember(number, rung.name, file_format, artifact, report[artifact.path.name], seconds)

    def _convert(self, quantization: Quantization, file_format: Format) -> Conversion:
        """Convert; SkippedError when an earlier rung gave the very same file."""
        conversion = convert_quantized(quantization, file_format)
        for (number, _), (artifact, _) in self.found.items():
            if artifact.contract.model_sha256 == conversion.sha256:
                raise SkippedError(f"it gives the same file as rung {number}" if number else "it gives the plain file again")
        return conversion

    def _write(self, number: int, rung: Rung, quantization: Quantization, conversion: Conversion) -> Artifact:
        folder = self.folder / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        repair = RepairInfo(rung.name, tuple(each.name for each in RUNGS[:number]), quantization.float_layers())
        path = folder / f"{self.writer.task_name}-{conversion.suffix}"
        artifact = self.writer.write_repaired(conversion, path, quantization.calibration.info(), repair)
        artifact.save(path)
        return artifact

    def _remember(
        self,
        number: int,
        rung: str,
        file_format: Format,
        artifact: Artifact,
        report: CandidateReport,
        seconds: float | None,
    ) -> None:
        self.found[number, file_format] = artifact, report
        calibration = artifact.contract.calibration
        self.tries.append(
            Try(
                number=number,
                rung=rung,
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
        return any(each.format == file_format and each.verdict == "pass" for each in self.tries)

    def _finish(self, images: NDArray[np.uint8], chosen: dict[Format, int]) -> Repair:
        """Time all files side by side and mark those that were chosen."""
        runtimes: dict[tuple[int, Format], Runtime] = {key: open_runtime(artifact) for key, (artifact, _) in self.found.items()}
        latencies = time_side_by_side(runtimes, images)
        tries = []
        for each in self.tries:
            latency_ms = latencies.get((each.number, each.format))
            ratio = None if latency_ms is None else latency_ms / latencies[0, each.format]
            taken = chosen.get(each.format) == each.number
            tries.append(dataclasses.replace(each, latency_ms=latency_ms, latency_ratio=ratio, chosen=taken))
        return Repair(tuple(tries), {each: self.found[number, each][0] for each, number in chosen.items()})


def choose(tries: Sequence[Try], file_format: Format) -> int | None:
    """Return the lowest rung that passed, else the undecided one of the smallest bound, None when all failed."""
    mine = [each for each in tries if each.format == file_format]
    if passed := [each.number for each in mine if each.verdict == "pass"]:
        return passed[0]
    undecided = [each for each in mine if each.verdict == "undecided"]
    return min(undecided, key=lambda each: each.drop_bound or 0.0).number if undecided else None


def pictures_to_time(dataset: Dataset) -> NDArray[np.uint8]:
    """Return a few pictures `(n, h, w, c)` of a data set, spread over it."""
    return dataset.images[np.linspace(0, len(dataset) - 1, 5).astype(np.int64)]
