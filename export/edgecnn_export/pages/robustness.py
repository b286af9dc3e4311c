"""A robustness report as one self-contained HTML page."""

from __future__ import annotations

import math
from pathlib import Path

from edgecnn.files import write_bytes
from edgecnn.robustness.report import ModelScores, RobustnessReport, describe, format_share
from edgecnn_export.pages import render

_TEMPLATE = "robustness.html"


def write_page(report: RobustnessReport, path: Path) -> None:
    """Write the page, whole or not at all."""
    write_bytes(path, render_page(report).encode())


def render_page(report: RobustnessReport) -> str:
    """Return the page as HTML; raises MissingDependencyError without Jinja2."""
    return render(
        Path(__file__).with_name(_TEMPLATE),
        report=report,
        measured_on=describe(report),
        headline=_headline(report),
        places=range(len(report.severities)),
        share=format_share,
        lost_shade=lost_shade,
        drop_shade=drop_shade,
    )


def lost_shade(accuracy: float) -> int:
    """Return how strongly a cell is colored, 0 to 100: the square root of the wrong share, so that 99 and 95 % differ."""
    return round(100 * math.sqrt(max(0.0, 1 - accuracy)))


def drop_shade(points: float) -> int:
    """Return how strongly a drop is colored, 0 to 100, on the scale of `lost_shade`."""
    return round(100 * math.sqrt(abs(points) / 100))


def _headline(report: RobustnessReport) -> str:
    """Say what the model that a board would run keeps at the middle of the measured severities."""
    model = _deployed(report)
    place = (len(report.severities) - 1) // 2
    mean, worst = report.mean(model, severity=place), report.worst(model, place)
    return (
        f"{model.name} has {100 * mean.value:.1f} % right at severity {report.severities[place]}, "
        f"{100 * worst.share.value:.1f} % under the worst corruption ({worst.corruption.replace('_', ' ')})"
    )


def _deployed(report: RobustnessReport) -> ModelScores:
    return report[report.pairs[0].candidate] if report.pairs else report.models[0]
