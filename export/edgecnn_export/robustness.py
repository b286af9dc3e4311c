"""From the names of models to a robustness report, its heat map and its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgecnn.artifacts.contract import DataInfo
from edgecnn.errors import OutputError
from edgecnn.robustness.corruptions import SEVERITIES, corruptions_for
from edgecnn.robustness.measure import Progress, choose_pictures, measure
from edgecnn.robustness.report import RobustnessReport
from edgecnn_export.foreign import UNSTATED_OPTIONS, ForeignOptions
from edgecnn_export.models import open_subjects
from edgecnn_export.pages import require_jinja2
from edgecnn_export.plots.figures import check_format, save_figure


def measure_models(
    sources: Sequence[str],
    stated: ForeignOptions = UNSTATED_OPTIONS,
    *,
    data: Path | None = None,
    split: str = "validation",
    severities: Sequence[int] = (),
    pictures: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[RobustnessReport, tuple[str, ...]]:
    """Measure the models that `open_subjects` opens on one split of their task, and return the report with notes.

    What is `stated` is for models that other tools saved (see `models.open_model`). `severities` are all when empty;
    `pictures` limits how many are used, of all classes alike. Raises what opening a model or loading its data raises.
    """
    opened = open_subjects(sources, stated)
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


def check_outputs(plot: Path | None, html: Path | None) -> None:
    """Raise now what would otherwise be raised after minutes: a missing package, an unknown format, a missing folder."""
    if plot is not None:
        check_format(plot)
    if html is not None:
        require_jinja2()
    for path in (plot, html):
        if path is not None and not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist")


def write_outputs(report: RobustnessReport, plot: Path | None, html: Path | None) -> list[Path]:
    """Write what is wanted, each whole or not at all, and return the paths."""
    if plot is not None:
        from edgecnn_export.plots.heatmap import plot_heatmap

        save_figure(plot_heatmap(report), plot)
    if html is not None:
        from edgecnn_export.pages.robustness import write_page

        write_page(report, html)
    return [path for path in (plot, html) if path is not None]
