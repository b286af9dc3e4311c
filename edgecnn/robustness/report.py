"""The figures of a robustness measurement, and their form for machines and terminals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.metrics import Share
from edgecnn.robustness.corruptions import Corruption
from edgecnn.text import aligned, percent, printable

FAMILIES = {True: "in family: in our augmentation", False: "out of family: not in our augmentation"}


@dataclass(frozen=True, eq=False)
class ModelScores:
    """One model's hits: `clean` `(n,)` bool on the pictures as they are, `hits` `(corruptions, severities, n)` bool."""

    name: str
    precision: str
    runtime: str
    clean: NDArray[np.bool_]
    hits: NDArray[np.bool_]


@dataclass(frozen=True)
class PairScores:
    """Which two models of a report are compared: a float `reference` and the int8 `candidate` made from it."""

    reference: str
    candidate: str


@dataclass(frozen=True)
class Worst:
    """The corruption under which a model is worst, and how good it is there."""

    corruption: str
    severity: int
    share: Share


@dataclass(frozen=True, eq=False)
class RobustnessReport:
    """What one measurement found; `severities` rising, drops in percentage points (reference minus candidate)."""

    data: DataInfo
    severities: tuple[int, ...]
    corruptions: tuple[Corruption, ...]
    models: tuple[ModelScores, ...]
    confidence: float
    seed: int
    pairs: tuple[PairScores, ...] = ()

    def __getitem__(self, name: str) -> ModelScores:
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(name)

    @property
    def count(self) -> int:
        """How many pictures each corruption was measured on."""
        return len(self.models[0].clean)

    def families(self) -> tuple[bool, ...]:
        """Return the kinds that were measured: True for in family, False for out of family."""
        return tuple(kind for kind in (True, False) if any(each.in_family is kind for each in self.corruptions))

    def means(self) -> tuple[tuple[str, bool | None], ...]:
        """Return the means that can be formed, by name, with what `mean` takes as `in_family`."""
        names: dict[bool, str] = {True: "in family", False: "out of family"}
        return (*((names[kind], kind) for kind in self.families()), ("all", None))

    def clean(self, model: ModelScores) -> Share:
        """Return a model's accuracy on the pictures as they are."""
        return self._share(model.clean)

    def cell(self, model: ModelScores, corruption: int, severity: int) -> Share:
        """Return a model's accuracy under one corruption at one severity, both given by their place in the report."""
        return self._share(model.hits[corruption, severity])

    def mean(self, model: ModelScores, *, severity: int | None = None, in_family: bool | None = None) -> Share:
        """Return the mean accuracy over corruptions: at the severity of that place or over all, of one kind or of both.

        The interval takes each picture as one trial, since the corrupted forms of one picture are not independent.
        """
        return self._share(self._chosen(model.hits, severity, in_family))

    def worst(self, model: ModelScores, severity: int | None = None) -> Worst:
        """Return the worst corruption at the severity of that place, or over all."""
        accuracy = model.hits.mean(axis=2)
        if severity is not None:
            accuracy = np.where(np.arange(len(self.severities)) == severity, accuracy, np.inf)
        corruption, at = (int(i) for i in np.unravel_index(accuracy.argmin(), accuracy.shape))
        return Worst(self.corruptions[corruption].name, self.severities[at], self.cell(model, corruption, at))

    def drops(self, pair: PairScores) -> NDArray[np.float64]:
        """Return the drop of a pair in points `(corruptions, severities)`."""
        reference, candidate = self[pair.reference].hits, self[pair.candidate].hits
        return np.asarray(100 * (reference.mean(axis=2) - candidate.mean(axis=2)), np.float64)

    def clean_drop(self, pair: PairScores) -> float:
        """Return the drop of a pair on the pictures as they are, in points."""
        return 100 * float(self[pair.reference].clean.mean() - self[pair.candidate].clean.mean())

    def mean_drop(self, pair: PairScores, *, severity: int | None = None, in_family: bool | None = None) -> float:
        """Return the mean drop of a pair over corruptions, in points, chosen as in `mean`."""
        reference, candidate = self[pair.reference].hits, self[pair.candidate].hits
        chosen = [self._chosen(hits, severity, in_family).mean() for hits in (reference, candidate)]
        return 100 * float(chosen[0] - chosen[1])

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain numbers, strings, lists and dictionaries."""
        return {
            "data": asdict(self.data),
            "seed": self.seed,
            "confidence": self.confidence,
            "severities": list(self.severities),
            "corruptions": [_about(corruption, self.severities) for corruption in self.corruptions],
            "models": [self._model_json(model) for model in self.models],
            "pairs": [self._pair_json(pair) for pair in self.pairs],
        }

    def _share(self, hits: NDArray[np.bool_]) -> Share:
        """Return the accuracy of hits `(..., n)`; of several per picture, the interval is that of n trials."""
        accuracy = float(hits.mean())
        return Share(accuracy * self.count, self.count, self.confidence)

    def _chosen(self, hits: NDArray[np.bool_], severity: int | None, in_family: bool | None) -> NDArray[np.bool_]:
        rows = [i for i, each in enumerate(self.corruptions) if in_family is None or each.in_family is in_family]
        return hits[rows] if severity is None else hits[rows, severity]

    def _model_json(self, model: ModelScores) -> dict[str, Any]:
        places = range(len(self.severities))
        cells = {
            corruption.name: {str(self.severities[j]): _share_json(self.cell(model, i, j)) for j in places}
            for i, corruption in enumerate(self.corruptions)
        }
        return {
            "name": model.name,
            "precision": model.precision,
            "runtime": model.runtime,
            "clean": _share_json(self.clean(model)),
            "corrupted": cells,
            "mean": self._means_json(model, None),
            "mean_by_severity": {str(self.severities[j]): self._means_json(model, j) for j in places},
            "worst_by_severity": {str(self.severities[j]): _worst_json(self.worst(model, j)) for j in places},
            "worst": _worst_json(self.worst(model)),
        }

    def _means_json(self, model: ModelScores, severity: int | None) -> dict[str, Any]:
        return {
            name.replace(" ", "_"): _share_json(self.mean(model, severity=severity, in_family=kind))
            for name, kind in self.means()
        }

    def _pair_json(self, pair: PairScores) -> dict[str, Any]:
        drops = self.drops(pair)
        by_name = {
            corruption.name: {str(severity): float(drop) for severity, drop in zip(self.severities, row, strict=True)}
            for corruption, row in zip(self.corruptions, drops, strict=True)
        }
        return {
            "reference": pair.reference,
            "candidate": pair.candidate,
            "clean_drop": self.clean_drop(pair),
            "mean_drop": self.mean_drop(pair),
            "worst_drop": float(drops.max()),
            "drops": by_name,
        }


def format_report(report: RobustnessReport) -> str:
    """Return the report as lines for a terminal: models side by side with their drops, one table a severity, then over all.

    Accuracies are in percent with their intervals, drops in points.
    """
    lines = [describe(report), "accuracy in % (interval), drop in points", ""]
    for place, severity in enumerate(report.severities):
        lines += aligned([_head(report, f"severity {severity}"), *_rows(report, place), *_summary(report, place)]) + [""]
    if len(report.severities) > 1:
        lines += aligned([_head(report, "all severities"), *_summary(report, None)]) + [""]
    return "\n".join(lines)


def describe(report: RobustnessReport) -> str:
    """Say in a sentence what was measured on, and loudly when the pictures are synthetic."""
    synthetic = "SYNTHETIC pictures of " if report.data.synthetic else ""
    return (
        f"measured on {synthetic}{printable(report.data.source)}, {report.data.split} split: {report.count} pictures, "
        f"{len(report.corruptions)} corruptions, seed {report.seed}, intervals at {100 * report.confidence:g} %"
    )


def format_share(share: Share) -> str:
    """Return `98.7 (96.6 to 99.5)` in percent."""
    return percent(share.value, share.interval, unit="")


def _head(report: RobustnessReport, title: str) -> list[str]:
    names = [f"{model.name} ({model.precision})" for model in report.models]
    drops = ["drop" if len(report.pairs) == 1 else f"drop of {pair.candidate}" for pair in report.pairs]
    return [title, *(printable(name) for name in names + drops)]


def _rows(report: RobustnessReport, place: int) -> list[list[str]]:
    """Return the clean row, then the corruptions by family, each family under its name."""
    clean = [format_share(report.clean(model)) for model in report.models]
    rows = [["clean", *clean, *(f"{report.clean_drop(pair):+.2f}" for pair in report.pairs)]]
    for kind in report.families():
        rows.append([FAMILIES[kind]])
        for i, corruption in enumerate(report.corruptions):
            if corruption.in_family is kind:
                shares = [format_share(report.cell(model, i, place)) for model in report.models]
                rows.append([f"  {corruption.name}", *shares, *(f"{report.drops(p)[i, place]:+.2f}" for p in report.pairs)])
    return rows


def _summary(report: RobustnessReport, place: int | None) -> list[list[str]]:
    """Return the means over corruptions and each model's worst, at the severity of a place or over all."""
    rows = []
    for name, kind in report.means():
        shares = [format_share(report.mean(model, severity=place, in_family=kind)) for model in report.models]
        drops = [f"{report.mean_drop(pair, severity=place, in_family=kind):+.2f}" for pair in report.pairs]
        rows.append([f"mean, {name}", *shares, *drops])
    worst = [report.worst(model, place) for model in report.models]
    at = ["" if place is not None else f" at {each.severity}" for each in worst]
    names = [f"{each.corruption}{where}" for each, where in zip(worst, at, strict=True)]
    without_drops = [""] * len(report.pairs)
    shares = [format_share(each.share) for each in worst]
    return [*rows, ["worst", *shares, *without_drops], ["", *names, *without_drops]]


def _about(corruption: Corruption, severities: Sequence[int]) -> dict[str, Any]:
    levels = {str(severity): corruption.level(severity) for severity in severities}
    about = {"name": corruption.name, "meaning": corruption.meaning, "unit": corruption.unit}
    return about | {"levels": levels, "in_family": corruption.in_family}


def _share_json(share: Share) -> dict[str, Any]:
    return {"accuracy": share.value, "interval": list(share.interval)}


def _worst_json(worst: Worst) -> dict[str, Any]:
    return {"corruption": worst.corruption, "severity": worst.severity} | _share_json(worst.share)
