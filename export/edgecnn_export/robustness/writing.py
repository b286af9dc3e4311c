"""Where a report's heat map and page go: looked at before anything is measured, written after it."""

from __future__ import annotations

from pathlib import Path

from edgecnn.errors import OutputError
from edgecnn.robustness.report import RobustnessReport
from edgecnn_export.pages import require_jinja2
from edgecnn_export.plots.figures import check_format, save_figure


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
