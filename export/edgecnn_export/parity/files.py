"""Parity of files: opens reference and candidates, makes sure they speak of the same task, compares, and explains failures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import is_foreign, read_file
from edgecnn.classifier import artifact_path
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.datasets.load import data_info
from edgecnn.errors import ContractError, DatasetError, InputError
from edgecnn.foreign import ForeignModel, open_foreign
from edgecnn.robustness.corruptions import corruptions_for
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.tasks import Task
from edgecnn_export.models import Model, states_itself
from edgecnn_export.parity.compare import MIN_PICTURES, Progress, compare, too_few
from edgecnn_export.parity.diagnosis import explain
from edgecnn_export.parity.figures import ParityReport
from edgecnn_export.parity.good_parts import answering, shown, unlabelled
from edgecnn_export.reference import Reference

UNKNOWN = ForeignModel()


@dataclass(frozen=True, eq=False)
class Measured:
    """A comparison of files: the figures, the pictures, advice by failed candidate, and notes for the reader."""

    report: ParityReport
    dataset: Dataset
    advice: dict[str, list[str]]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """An opened candidate; its runtime answers in the order of the reference's labels."""

    artifact: Artifact
    runtime: Runtime
    notes: tuple[str, ...] = ()


class MatchedByLabel:
    """A runtime whose classes are put into the reference's order by their labels, the names that a user would read."""

    def __init__(self, runtime: Runtime, own_labels: Sequence[str], labels: Sequence[str]) -> None:
        """Take a runtime that answers in the order of `own_labels`; InputError when `labels` are not the same set."""
        if set(own_labels) != set(labels):
            raise InputError(f"labels differ: {', '.join(own_labels)} against {', '.join(labels)}")
        self.name = runtime.name
        self._runtime = runtime
        self._order = [list(own_labels).index(label) for label in labels]

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)` in the reference's order."""
        return np.asarray(self._runtime.run(images)[:, self._order], np.float32)


def measure(
    reference: Model,
    candidates: Sequence[Path | str],
    splits: Splits,
    split: str,
    *,
    max_drop: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    doubt: str | None = None,
    stated: ForeignModel = UNKNOWN,
    progress: Progress | None = None,
) -> Measured:
    """Compare artifacts with the reference on one split; `max_drop` in points, the task's own margin by default.

    Models that know good parts only are compared on these, on damaged copies and on good parts under each corruption (see
    `parity.good_parts`).
    Where the split's pictures are too few, those of the training split serve as unlabelled ones (see `parity.margins`).
    A candidate may be another tool's `.tflite`: `stated` is what the user says of it. What nobody says is as in the reference.

    Raises ContractError when a candidate is of another task, other labels or another input, DatasetError for an empty split.
    A candidate that lists the same labels in another order is compared label by label: if only its list is wrong it fails.
    """
    task, dataset = reference.task, splits[split]
    if not len(dataset):
        raise DatasetError(f"the {split} split of {splits.info.source} is empty; choose another with --split or --data")
    if len(dataset) < MIN_PICTURES:
        raise DatasetError(f"{too_few(splits, split)}; give more")
    opened = _open_candidates(candidates, reference, stated)
    artifacts = {name: candidate.artifact for name, candidate in opened.items()}
    runtimes = {name: candidate.runtime for name, candidate in opened.items()}
    sizes = {name: artifact.path.stat().st_size for name, artifact in artifacts.items()}
    corruptions, pictures = corruptions_for(task), shown(task, dataset, seed)
    dataset, ours = pictures.dataset, answering(task, reference.runtime)
    runtimes = {name: answering(task, runtime) for name, runtime in runtimes.items()}
    report = compare(
        ours,
        runtimes,
        dataset,
        labels=pictures.labels,
        max_drop=task.max_drop if max_drop is None else max_drop,
        confidence=confidence,
        data=data_info(splits, split),
        seed=seed,
        float_candidates=_float_names(artifacts) if reference.reference else (),
        corruptions=corruptions,
        corrupted_of=pictures.corrupted_of,
        variants=partial(unlabelled, task, splits, corruptions, seed),
        doubt=doubt,
        sizes=sizes if reference.size_bytes is None else sizes | {"reference": reference.size_bytes},
        progress=progress,
    )
    failed = [candidate.name for candidate in report.candidates if candidate.verdict == "fail"]
    advice = {
        name: explain(
            report,
            name,
            ours,
            runtimes[name],
            dataset,
            _source(reference, artifacts[name]),
            artifacts[name].format,
        )
        for name in failed
    }
    notes = tuple(note for candidate in opened.values() for note in candidate.notes)
    return Measured(report, dataset, advice, (*notes, *_notes(artifacts, task)))


def check_candidates(candidates: Sequence[Path | str], reference: Model) -> None:
    """Raise what `measure` raises for candidates of ours that are of another task, before any picture is read."""
    for path in map(artifact_path, candidates):
        if states_itself(path):
            _check_task(Artifact.open(path), reference.task)


def _open_candidates(candidates: Sequence[Path | str], reference: Model, stated: ForeignModel) -> dict[str, _Candidate]:
    """Open all candidates by name: the file's own where that is enough to tell them apart, else the path."""
    opened = [_open_candidate(artifact_path(candidate), reference, stated) for candidate in candidates]
    names = [candidate.artifact.path.name for candidate in opened]
    return {
        name if names.count(name) == 1 else str(candidate.artifact.path): candidate
        for name, candidate in zip(names, opened, strict=True)
    }


def _open_candidate(path: Path, reference: Model, stated: ForeignModel) -> _Candidate:
    task = reference.task
    stated = _as_reference(stated, reference)
    content = read_file(path)
    if is_foreign(path, content, stated.labels):
        found = open_foreign(path, stated)
        _check_task(found.artifact, task)
        notes = tuple(f"{path.name}: {note}" for note in found.notes)
        return _Candidate(found.artifact, _matched(found.artifact, found.runtime, task), notes)
    artifact = Artifact.read(content, path)
    _check_task(artifact, task)
    return _Candidate(artifact, _matched(artifact, open_runtime(artifact), task))


def _as_reference(stated: ForeignModel, reference: Model) -> ForeignModel:
    """Fill in from the reference what is not stated.

    Beside another tool's reference, what its candidate says of itself counts more than what was stated, of both at once: many a
    `.tflite` was made to scale its pixels by itself.
    """
    preprocessing, convention, pixels = reference.task.preprocessing, stated.convention, reference.normalization
    if pixels is not None:
        convention = dataclasses.replace(convention, pixels=None)
    if convention.size_hw is None:
        convention = dataclasses.replace(convention, size_hw=(preprocessing.height, preprocessing.width))
    labels = reference.task.labels if stated.labels is None else stated.labels
    return dataclasses.replace(stated, labels=labels, convention=convention, fit=preprocessing.fit, otherwise=pixels)


def _check_task(artifact: Artifact, task: Task) -> None:
    contract = artifact.contract
    if set(contract.labels) != set(task.labels):
        raise ContractError(
            f"{artifact.path} knows the labels {', '.join(contract.labels)}; the reference {', '.join(task.labels)}"
        )
    if contract.preprocessing != task.preprocessing:
        raise ContractError(
            f"{artifact.path} prepares pictures as {contract.preprocessing}, the reference as {task.preprocessing}"
        )


def _matched(artifact: Artifact, runtime: Runtime, task: Task) -> Runtime:
    if artifact.contract.labels == task.labels:
        return runtime
    return MatchedByLabel(runtime, artifact.contract.labels, task.labels)


def _float_names(artifacts: dict[str, Artifact]) -> list[str]:
    return [name for name, artifact in artifacts.items() if artifact.contract.precision == "float32"]


def _source(reference: Model, artifact: Artifact) -> Reference | None:
    """The Keras model in which layers can be rounded one by one; float files have none to look for."""
    return reference.reference if artifact.contract.precision == "int8" else None


def _notes(artifacts: dict[str, Artifact], task: Task) -> tuple[str, ...]:
    return tuple(
        f"{name} lists the labels in another order than the reference ({', '.join(artifact.contract.labels)}); "
        "answers were matched by label"
        for name, artifact in artifacts.items()
        if artifact.contract.labels != task.labels
    )
