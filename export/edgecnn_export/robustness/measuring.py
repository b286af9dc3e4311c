"""Robustness of models by their names: opens them, loads their pictures, measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgecnn.artifacts.contract import DataInfo
from edgecnn.normalization import UNSTATED, InputConvention
from edgecnn.robustness.corruptions import SEVERITIES, corruptions_for
from edgecnn.robustness.measure import Progress, choose_pictures, measure
from edgecnn.robustness.report import RobustnessReport
from edgecnn_export.robustness.opening import open_subjects


def measure_models(
    sources: Sequence[str],
    *,
    labels: tuple[str, ...] | None = None,
    convention: InputConvention = UNSTATED,
    output: str | None = None,
    trust: bool = False,
    data: Path | None = None,
    split: str = "validation",
    severities: Sequence[int] = (),
    pictures: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[RobustnessReport, tuple[str, ...]]:
    """Measure the models that `open_subjects` opens on one split of their task, and return the report with notes.

    `labels`, `convention`, `output` and `trust` are for models that other tools saved (see `models.open_model`).
    `severities` are all when empty; `pictures` limits how many are used, of all classes alike. Raises what opening a model
    or loading its data raises.
    """
    opened = open_subjects(sources, labels=labels, convention=convention, output=output, trust=trust)
    splits = opened.model.splits(data, seed)
    dataset = splits[split]
    if pictures is not None:
        dataset = choose_pictures(dataset, pictures, seed)
    report = measure(
        opened.subjects,
        dataset,
        corruptions_for(opened.model.task),
        severities or SEVERITIES,
        data=DataInfo(splits.info.source, split, len(dataset), dataset.digest(), splits.info.synthetic),
        seed=seed,
        progress=progress,
    )
    return report, opened.notes
