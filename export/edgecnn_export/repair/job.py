"""The repair of one export: which of its files need it, what they are compared with, and what takes their place."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.datasets.dataset import Splits
from edgecnn.datasets.load import data_info
from edgecnn.robustness.corruptions import corruptions_for
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn_export.contract_writer import ContractWriter, export_id
from edgecnn_export.conversion.calibration import Calibration
from edgecnn_export.conversion.convert import Format
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.parity.compare import compare
from edgecnn_export.parity.corrupted import variants
from edgecnn_export.parity.figures import CandidateReport, ParityReport
from edgecnn_export.reference import Reference
from edgecnn_export.repair.context import Workshop
from edgecnn_export.repair.ladder import Climb, Repair, Try, pictures_to_time


@dataclass(frozen=True, eq=False)
class RepairJob:
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
    ) -> tuple[tuple[Try, ...], list[Artifact]]:
        """Repair the int8 artifacts that failed; return the tries and all artifacts, repaired ones in place of plain ones.

        The repaired files lie in `staged` as well, under the names of what they compute in.
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
        return repair.tries, _placed(repaired, staged)

    def climb(
        self,
        writer: ContractWriter,
        failed: dict[Format, tuple[Artifact, CandidateReport]],
        staged: Path,
        *,
        stop: bool = True,
    ) -> Repair:
        """Go up the ladder with the failed artifacts, to its top unless `stop`."""
        shop = Workshop(self.folded, self.calibration, self.splits, self.seed, self.progress)
        climb = Climb(shop, writer, self.comparison(), staged / "rungs", failed)
        return climb.run(pictures_to_time(self.splits.validation), stop=stop)

    def comparison(self) -> Callable[[Collection[Artifact]], ParityReport]:
        """Return the comparison that an export makes, with the reference answering the same pictures only once."""
        reference = _Remembering(self.reference.runtime())
        task, corruptions = self.reference.task, corruptions_for(self.reference.task)

        def against_reference(artifacts: Collection[Artifact]) -> ParityReport:
            return compare(
                reference,
                {artifact.path.name: open_runtime(artifact) for artifact in artifacts},
                self.splits.validation,
                labels=task.labels,
                max_drop=task.max_drop if self.max_drop is None else self.max_drop,
                data=data_info(self.splits, "validation"),
                seed=self.seed,
                corruptions=corruptions,
                variants=lambda: variants(self.splits.train, corruptions, self.seed),
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
