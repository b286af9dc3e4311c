"""What a comparison of models found, as frozen dataclasses that survive JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgecnn.artifacts.contract import DataInfo, ParityInfo
from edgecnn.errors import InputError
from edgecnn.markup import table
from edgecnn.records import read_record
from edgecnn_export.parity.corrupted import CorruptedFigures, CorruptedReference

Verdict = Literal["pass", "agrees", "undecided", "fail"]
FlipKind = Literal["lost", "gained", "other"]

_SEVERITY: tuple[Verdict, ...] = ("pass", "agrees", "undecided", "fail")


@dataclass(frozen=True)
class ModelFigures:
    """What one model reached on the pictures.

    `interval` is the two-sided Wilson interval of `accuracy` (a share) at the report's confidence.
    `confusion[true][predicted]` counts pictures, `ece` is the expected calibration error, `latency_ms` the mean time a
    picture took in this run on this machine, `size_bytes` the file's size where one was given.
    """

    runtime: str
    right: int
    accuracy: float
    interval: tuple[float, float]
    ece: float
    latency_ms: float
    confusion: tuple[tuple[int, ...], ...]
    size_bytes: int | None = None

    @property
    def count(self) -> int:
        """How many pictures it answered."""
        return sum(sum(row) for row in self.confusion)


@dataclass(frozen=True)
class ClassFigures:
    """One class: its pictures, how many of them each model had right, and the drop in percentage points."""

    label: str
    count: int
    reference_right: int
    candidate_right: int
    drop: float


@dataclass(frozen=True)
class Flip:
    """A picture on which the two models disagree: `lost` by the candidate, `gained`, or wrong in two ways (`other`).

    `index` is the picture's place in the data set, `name` where it comes from; ids are class ids.
    """

    kind: FlipKind
    index: int
    name: str
    class_id: int
    reference_id: int
    candidate_id: int
    reference_probabilities: tuple[float, ...]
    candidate_probabilities: tuple[float, ...]


@dataclass(frozen=True)
class MarginFigures:
    """A drop's bound from margins (see `parity.margins`), in points: `flipped` of `count` unlabelled pictures flipped."""

    bound: float
    count: int
    flipped: int


@dataclass(frozen=True)
class CandidateReport:
    """One candidate against the reference.

    `drop` and `drop_bound` are in percentage points; the bound is one-sided at the report's confidence, and `bound_method`
    says which of the two methods gave it. `margins` is the sharper bound, measured only where that one does not decide.
    `flips` holds at most MAX_FLIPS pictures, the lost ones first; `lost`, `gained` and
    `other` count all. `tolerance` is what a float file's probabilities were held to, None for others.
    `corrupted` is what became of it under camera corruptions, None where that was not measured. `graph_agreement` is the share
    of pictures of which its own softmax, output 0, names the same class as the answer that is computed from its features; None
    of a model without.
    """

    name: str
    verdict: Verdict
    reasons: tuple[str, ...]
    figures: ModelFigures
    drop: float
    drop_bound: float
    bound_method: str
    mcnemar_p: float
    lost: int
    gained: int
    other: int
    agreement: float
    largest_difference: float
    mean_difference: float
    tolerance: float | None
    latency_ratio: float
    classes: tuple[ClassFigures, ...]
    flips: tuple[Flip, ...]
    corrupted: CorruptedFigures | None = None
    margins: MarginFigures | None = None
    graph_agreement: float | None = None

    @property
    def bound(self) -> float:
        """The sharper of the drop's bounds, in points."""
        return self.drop_bound if self.margins is None else min(self.drop_bound, self.margins.bound)

    @property
    def unchanged(self) -> bool:
        """True for a float file whose probabilities lie within its tolerance, and none of whose answers differs."""
        return self.tolerance is not None and self.largest_difference <= self.tolerance and self.agreement == 1

    @property
    def sentence(self) -> str:
        """The verdict and why, in one line."""
        return f"{self.verdict.upper()} {self.name}: {'; '.join(self.reasons)}"


@dataclass(frozen=True, repr=False)
class ParityReport:
    """All figures of one comparison; `max_drop` in percentage points, `groups` how many where the pictures have them.

    `corrupted` says what was also compared under camera corruptions, None where nothing was. `doubt` says in a sentence why
    the reference itself is not to be trusted on these pictures, None where it is.
    """

    labels: tuple[str, ...]
    data: DataInfo
    groups: int | None
    max_drop: float
    confidence: float
    seed: int
    reference: ModelFigures
    candidates: tuple[CandidateReport, ...] = field(default=())
    corrupted: CorruptedReference | None = None
    doubt: str | None = None

    def __getitem__(self, name: str) -> CandidateReport:
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(name)

    @property
    def count(self) -> int:
        """How many pictures were compared."""
        return self.reference.count

    @property
    def verdict(self) -> Verdict:
        """The worst verdict among the candidates."""
        return max((candidate.verdict for candidate in self.candidates), key=_SEVERITY.index)

    def info(self, name: str) -> ParityInfo:
        """Return what the contract of candidate `name` says about its parity."""
        candidate, labelled = self[name], self.data.labelled
        return ParityInfo(
            verdict=candidate.verdict,
            data=self.data,
            agreement=candidate.agreement,
            reference_accuracy=self.reference.accuracy if labelled else None,
            accuracy=candidate.figures.accuracy if labelled else None,
            drop=candidate.drop if labelled else None,
            drop_bound=candidate.drop_bound if labelled else None,
            margin_bound=candidate.margins.bound if candidate.margins else None,
            confidence=self.confidence,
            max_drop=self.max_drop,
        )

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{each.name} {each.verdict}" for each in self.candidates)
        return f"ParityReport({self.verdict} on {self.count} pictures: {verdicts})"

    def _repr_html_(self) -> str:
        rows = [[each.name, each.verdict, "; ".join(each.reasons)] for each in self.candidates]
        return table(["file", "verdict", "why"], rows)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain numbers, strings, lists and dictionaries, with each candidate's sentence."""
        data = asdict(self)
        for candidate, row in zip(self.candidates, data["candidates"], strict=True):
            row["sentence"] = candidate.sentence
        return data | {"verdict": self.verdict}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ParityReport:
        """Restore a report from `to_json`, also after JSON; InputError when it is malformed."""
        try:
            rows = [{key: value for key, value in row.items() if key != "sentence"} for row in data["candidates"]]
            fields = {key: value for key, value in data.items() if key not in ("verdict", "repair", "calibration_audit")}
            return read_record(cls, fields | {"candidates": rows}, "report")
        except (KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"malformed parity report: {error}") from error
