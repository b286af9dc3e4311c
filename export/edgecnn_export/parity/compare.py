"""Reference against candidates on the same pictures: every figure, and a verdict on each candidate."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.artifacts.golden import FLOAT_TOLERANCE
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import DatasetError, InputError, ShapeError
from edgecnn.metrics import confusion_matrix, expected_calibration_error, wilson_interval
from edgecnn.robustness.corruptions import Corruption
from edgecnn.runtimes.runtime import Runtime, answer
from edgecnn_export.parity.corrupted import (
    CorruptedFigures,
    CorruptedReference,
    Dealt,
    candidate_figures,
    deal,
    reference_figures,
)
from edgecnn_export.parity.figures import (
    CandidateReport,
    ClassFigures,
    Flip,
    FlipKind,
    MarginFigures,
    ModelFigures,
    ParityReport,
)
from edgecnn_export.parity.margins import Flips, margin_bound
from edgecnn_export.parity.statistics import mcnemar_p, paired_bound
from edgecnn_export.parity.verdict import judge

Progress = Callable[[str, int, int], None]

MIN_PICTURES = 10
MAX_FLIPS = 200  # disagreements kept picture by picture; all are counted
_BATCH = 500


def too_few(splits: Splits, split: str = "validation") -> str:
    """Say that the pictures of one split are too few to compare on."""
    given = sum(len(splits[name]) for name in ("train", "validation", "test"))
    return f"of {given} pictures {len(splits[split])} are for comparing, at least {MIN_PICTURES} are needed there"


def compare(
    reference: Runtime,
    candidates: Mapping[str, Runtime],
    dataset: Dataset,
    *,
    labels: Sequence[str] | None = None,
    max_drop: float = 1.0,
    confidence: float = 0.95,
    data: DataInfo | None = None,
    seed: int = 0,
    float_candidates: Collection[str] = (),
    sizes: Mapping[str, int] | None = None,
    corruptions: Sequence[Corruption] = (),
    corrupted_of: Dataset | None = None,
    variants: Callable[[], NDArray[np.uint8]] | None = None,
    doubt: str | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ParityReport:
    """Run reference and candidates on the same pictures and judge each candidate (see `parity.verdict`).

    `max_drop` is the margin in percentage points; `data.labelled` tells whether the classes of `dataset` are known.
    With `corruptions` pictures are compared once more, each under one of them (see `parity.corrupted`): those of
    `corrupted_of`, where it is given, and then each corruption is also judged on its own. `variants` makes
    unlabelled pictures `(n, h, w, c)` for the sharper bound of `parity.margins`; it is called once, and only when a candidate
    would be undecided without. `doubt` says why the reference is not to be trusted here: then nothing passes.
    `sizes` maps names (`reference` for the reference) to bytes; `progress(name, done, total)` is called after each batch.
    Raises InputError when arguments or the reference's answers are unusable, DatasetError when the pictures are.
    """
    _check_arguments(candidates, dataset, max_drop, float_candidates)
    sizes = sizes or {}
    dealt = deal(corrupted_of or dataset, corruptions, seed) if corruptions else None
    answers = _measure("reference", reference, dataset, progress, clock)
    labels = tuple(labels or (str(i) for i in range(answers.probabilities.shape[1])))
    _check_reference(answers, dataset, labels)
    report = ParityReport(
        labels=labels,
        data=data or DataInfo("unnamed pictures", "whole", len(dataset), dataset.digest()),
        groups=None if dataset.groups is None else len(np.unique(dataset.groups)),
        max_drop=max_drop,
        confidence=confidence,
        seed=seed,
        reference=_figures(answers, dataset, confidence, sizes.get("reference")),
        doubt=doubt,
    )
    corrupted = _Corrupted.measure(reference, dealt, progress, clock) if dealt else None
    unlabelled = None if variants is None or not report.data.labelled else _Unlabelled(reference, variants, progress, clock)
    judged = []
    for name, runtime in candidates.items():
        measured = _measure(name, runtime, dataset, progress, clock)
        tolerance = FLOAT_TOLERANCE if name in float_candidates else None
        under = corrupted.compare(name, runtime, report, each=corrupted_of is not None) if corrupted else None
        candidate = _judge(report, name, answers, measured, dataset, tolerance, sizes.get(name), under)
        if unlabelled and candidate.verdict == "undecided" and candidate.drop <= max_drop and not doubt:
            margins = unlabelled.bound(name, runtime, answers, dataset, report)
            candidate = _decided(report, replace(candidate, margins=margins), None)
        judged.append(candidate)
    return replace(report, candidates=tuple(judged), corrupted=corrupted.figures if corrupted else None)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What a runtime answered: `probabilities` `(n, classes)` float32, made finite; `flaw` says what was wrong with them.

    `graph_ids` `(n,)` are the classes that the model's own softmax names, where the answers are computed from the features.
    """

    runtime: str
    probabilities: NDArray[np.float32]
    latency_ms: float
    flaw: str | None
    graph_ids: NDArray[np.int64] | None = None

    @property
    def graph_agreement(self) -> float | None:
        """The share of pictures of which the model's own softmax says the same."""
        return None if self.graph_ids is None else float((self.graph_ids == self.class_ids).mean())

    @property
    def class_ids(self) -> NDArray[np.int64]:
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)


@dataclass(frozen=True, eq=False)
class _Corrupted:
    """The corrupted pictures and what the reference answered to them."""

    dealt: Dealt
    class_ids: NDArray[np.int64]
    progress: Progress | None
    clock: Callable[[], float]

    @classmethod
    def measure(cls, reference: Runtime, dealt: Dealt, progress: Progress | None, clock: Callable[[], float]) -> _Corrupted:
        answers = _measure("reference, corrupted", reference, dealt.dataset, progress, clock)
        return cls(dealt, answers.class_ids, progress, clock)

    @property
    def figures(self) -> CorruptedReference:
        return reference_figures(self.dealt, self.class_ids)

    def compare(self, name: str, runtime: Runtime, report: ParityReport, *, each: bool) -> CorruptedFigures:
        answers = _measure(f"{name}, corrupted", runtime, self.dealt.dataset, self.progress, self.clock)
        return candidate_figures(self.dealt, self.class_ids, answers.class_ids, report.confidence, report.seed, each=each)


@dataclass(eq=False)
class _Unlabelled:
    """The unlabelled pictures, made when they are first asked for, and what the reference answered to them."""

    reference: Runtime
    make: Callable[[], NDArray[np.uint8]]
    progress: Progress | None
    clock: Callable[[], float]

    @cached_property
    def dataset(self) -> Dataset:
        images = self.make()
        return Dataset(images, np.zeros(len(images), np.int64), tuple(f"variant[{i}]" for i in range(len(images))))

    @cached_property
    def answers(self) -> _Answers:
        return _measure("reference, unlabelled", self.reference, self.dataset, self.progress, self.clock)

    def bound(
        self, name: str, runtime: Runtime, reference: _Answers, dataset: Dataset, report: ParityReport
    ) -> MarginFigures | None:
        """Bound the drop of a candidate; None where there are no such pictures."""
        if not len(self.dataset):
            return None
        candidate = _measure(f"{name}, unlabelled", runtime, self.dataset, self.progress, self.clock)
        flips = Flips.between(self.answers.probabilities, candidate.probabilities)
        right = reference.class_ids == dataset.class_ids
        bound = margin_bound(
            flips, reference.probabilities, right, dataset.groups, confidence=report.confidence, seed=report.seed
        )
        return MarginFigures(100 * bound, len(flips.flipped), int(flips.flipped.sum()))


def _check_arguments(
    candidates: Mapping[str, Runtime], dataset: Dataset, max_drop: float, float_candidates: Collection[str]
) -> None:
    if not candidates:
        raise InputError("parity needs at least one candidate")
    if not 0 <= max_drop <= 100:
        raise InputError(f"max_drop must be in 0..100 percentage points, got {max_drop}")
    if unknown := sorted(set(float_candidates) - set(candidates)):
        raise InputError(f"float_candidates names {', '.join(unknown)}, candidates are {', '.join(candidates)}")
    if len(dataset) < MIN_PICTURES:
        raise DatasetError(f"parity needs at least {MIN_PICTURES} pictures, got {len(dataset)}")


def _check_reference(answers: _Answers, dataset: Dataset, labels: tuple[str, ...]) -> None:
    classes = answers.probabilities.shape[1]
    if classes != len(labels):
        raise InputError(f"the reference has {classes} classes, but {len(labels)} labels were given: {', '.join(labels)}")
    if answers.flaw:
        raise InputError(f"the reference gives no probabilities ({answers.flaw}); does it end in softmax?")
    if dataset.class_ids.min() < 0 or dataset.class_ids.max() >= classes:
        raise DatasetError(
            f"class ids of the pictures run from {dataset.class_ids.min()} to {dataset.class_ids.max()}, "
            f"the model has {classes} classes"
        )


def _measure(name: str, runtime: Runtime, dataset: Dataset, progress: Progress | None, clock: Callable[[], float]) -> _Answers:
    """Run all pictures in batches, after one picture of warmup that is not timed."""
    total, parts, seconds = len(dataset), [], 0.0
    graph_ids: list[NDArray[np.int64]] = []
    runtime.run(dataset.images[:1])
    for start in range(0, total, _BATCH):
        images = dataset.images[start : start + _BATCH]
        began = clock()
        found = answer(runtime, images)
        seconds += clock() - began
        part = np.asarray(found.probabilities, np.float32)
        if part.ndim != 2 or len(part) != len(images):
            raise ShapeError(f"{name}: expected probabilities ({len(images)}, classes), got {part.shape}")
        parts.append(part)
        if found.graph is not None:
            graph_ids.append(np.asarray(found.graph.argmax(axis=1), np.int64))
        if progress:
            progress(name, start + len(images), total)
    probabilities = np.concatenate(parts)
    finite = np.nan_to_num(probabilities, nan=0.0, posinf=0.0, neginf=0.0)
    ids = np.concatenate(graph_ids) if graph_ids else None
    return _Answers(runtime.name, finite, 1e3 * seconds / total, _flaw(probabilities), ids)


def _flaw(probabilities: NDArray[np.float32]) -> str | None:
    """Say in words why these are no probabilities `(n, classes)`, None when they are.

    An int8 softmax answers in steps of 1/256, so a sum may be off by half a step a class and one step for the 1 that int8
    cannot hold.
    """
    count, classes = probabilities.shape
    if broken := int((~np.isfinite(probabilities)).any(axis=1).sum()):
        return f"{broken} of {count} answers hold NaN or infinity"
    if negative := int((probabilities < -1e-6).any(axis=1).sum()):
        return f"{negative} of {count} answers hold negative values, down to {probabilities.min():.3g}"
    sums = probabilities.sum(axis=1, dtype=np.float64)
    errors = np.abs(sums - 1)
    if wrong := int((errors > (1 + classes / 2) / 256 + 1e-3).sum()):
        return f"{wrong} of {count} answers do not sum to 1, one sums to {sums[errors.argmax()]:.3g}"
    return None


def _figures(answers: _Answers, dataset: Dataset, confidence: float, size_bytes: int | None) -> ModelFigures:
    right = int((answers.class_ids == dataset.class_ids).sum())
    confusion = confusion_matrix(answers.class_ids, dataset.class_ids, answers.probabilities.shape[1])
    return ModelFigures(
        runtime=answers.runtime,
        right=right,
        accuracy=right / len(dataset),
        interval=wilson_interval(right, len(dataset), confidence),
        ece=expected_calibration_error(np.clip(answers.probabilities, 0, 1), dataset.class_ids),
        latency_ms=answers.latency_ms,
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        size_bytes=size_bytes,
    )


def _judge(
    report: ParityReport,
    name: str,
    reference: _Answers,
    candidate: _Answers,
    dataset: Dataset,
    tolerance: float | None,
    size_bytes: int | None,
    corrupted: CorruptedFigures | None,
) -> CandidateReport:
    """Compare one candidate's answers with the reference's and decide."""
    if candidate.probabilities.shape != reference.probabilities.shape:
        raise InputError(
            f"{name} answers with {candidate.probabilities.shape[1]} classes, "
            f"the reference with {reference.probabilities.shape[1]}: not the same task"
        )
    reference_right = reference.class_ids == dataset.class_ids
    candidate_right = candidate.class_ids == dataset.class_ids
    lost = int((reference_right & ~candidate_right).sum())
    gained = int((~reference_right & candidate_right).sum())
    disagree = reference.class_ids != candidate.class_ids
    bound, method = paired_bound(reference_right, candidate_right, dataset.groups, report.confidence, report.seed)
    difference = np.abs(candidate.probabilities - reference.probabilities)
    figures = _figures(candidate, dataset, report.confidence, size_bytes)
    measured = CandidateReport(
        name=name,
        verdict="undecided",
        reasons=(),
        figures=figures,
        drop=100 * (lost - gained) / len(dataset),
        drop_bound=100 * bound,
        bound_method=method,
        mcnemar_p=mcnemar_p(lost, gained),
        lost=lost,
        gained=gained,
        other=int(disagree.sum()) - lost - gained,
        agreement=1 - float(disagree.mean()),
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        tolerance=tolerance,
        latency_ratio=candidate.latency_ms / max(reference.latency_ms, 1e-9),
        classes=_class_table(report.labels, report.reference.confusion, figures.confusion),
        flips=_flips(reference, candidate, dataset, np.flatnonzero(disagree)),
        corrupted=corrupted,
        graph_agreement=candidate.graph_agreement,
    )
    return _decided(report, measured, candidate.flaw)


def _decided(report: ParityReport, candidate: CandidateReport, flaw: str | None) -> CandidateReport:
    verdict, reasons = judge(report, candidate, flaw)
    return replace(candidate, verdict=verdict, reasons=reasons)


def _class_table(
    labels: tuple[str, ...], reference: tuple[tuple[int, ...], ...], candidate: tuple[tuple[int, ...], ...]
) -> tuple[ClassFigures, ...]:
    table = []
    for i, label in enumerate(labels):
        count, before, after = sum(reference[i]), reference[i][i], candidate[i][i]
        table.append(ClassFigures(label, count, before, after, 100 * (before - after) / max(count, 1)))
    return tuple(table)


def _flips(reference: _Answers, candidate: _Answers, dataset: Dataset, indices: NDArray[np.int64]) -> tuple[Flip, ...]:
    """Return the first MAX_FLIPS disagreements: lost pictures first, then gained, then others."""
    reference_ids, candidate_ids = reference.class_ids, candidate.class_ids
    kinds: dict[FlipKind, list[int]] = {"lost": [], "gained": [], "other": []}
    for i in indices.tolist():
        true = dataset.class_ids[i]
        kinds["lost" if reference_ids[i] == true else "gained" if candidate_ids[i] == true else "other"].append(i)
    chosen = [(kind, i) for kind, members in kinds.items() for i in members][:MAX_FLIPS]
    return tuple(
        Flip(
            kind=kind,
            index=i,
            name=dataset.names[i],
            class_id=int(dataset.class_ids[i]),
            reference_id=int(reference_ids[i]),
            candidate_id=int(candidate_ids[i]),
            reference_probabilities=tuple(reference.probabilities[i].tolist()),
            candidate_probabilities=tuple(candidate.probabilities[i].tolist()),
        )
        for kind, i in chosen
    )
