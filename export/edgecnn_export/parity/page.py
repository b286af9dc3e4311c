"""A parity report as one self-contained HTML page: no script, nothing loaded from anywhere, every name escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import OutputError
from edgecnn.files import write_bytes
from edgecnn_export.pages import render
from edgecnn_export.parity.figures import Flip, ParityReport
from edgecnn_export.parity.report import describe_corrupted, describe_data, format_size

FLIPS_SHOWN = 12
_TEMPLATE = "page.html"
_SIGNS = {"pass": "✓", "undecided": "?", "fail": "✗"}


def write_page(
    report: ParityReport,
    path: Path,
    *,
    dataset: Dataset | None = None,
    advice: Mapping[str, Sequence[str]] | None = None,
    repair: Sequence[Sequence[str]] = (),
) -> None:
    """Write the page, whole or not at all."""
    write_bytes(path, render_page(report, dataset=dataset, advice=advice, repair=repair).encode())


def render_page(
    report: ParityReport,
    *,
    dataset: Dataset | None = None,
    advice: Mapping[str, Sequence[str]] | None = None,
    repair: Sequence[Sequence[str]] = (),
) -> str:
    """Return the page as HTML.

    `dataset`, the one that was compared on, adds the flipped pictures themselves; `advice` maps a candidate's name to
    sentences about what to try, `repair` is the table of what a repair tried, its head first. Raises
    MissingDependencyError without Jinja2.
    """
    return render(
        Path(__file__).with_name(_TEMPLATE),
        report=report,
        signs=_SIGNS,
        headline=_headline(report),
        measured_on=describe_data(report),
        corrupted_on=describe_corrupted(report.corrupted) if report.corrupted else "",
        pictures=_pictures(report, dataset),
        shown=FLIPS_SHOWN,
        advice=advice or {},
        repair=repair,
        size=format_size,
        stems=stems,
    )


def stems(probabilities: Sequence[float], width: int = 150) -> list[dict[str, Any]]:
    """Return the places of a stem plot's stems in a drawing `width` wide and 100 high: x, y and the probability of each."""
    step = width / len(probabilities)
    return [{"x": round(step * (i + 0.5), 1), "y": round(100 - 92 * p, 1), "p": p} for i, p in enumerate(probabilities)]


def _headline(report: ParityReport) -> str:
    alike = [candidate for candidate in report.candidates if candidate.verdict == report.verdict]
    counted = f"{len(alike)} of {len(report.candidates)}"
    if report.verdict == "fail":
        return f"{counted} files cannot stand in for the reference"
    if report.verdict == "undecided":
        return f"{report.count} pictures are too few to decide about {counted} files"
    return f"no file loses more than {report.max_drop:g} points of accuracy"


def _pictures(report: ParityReport, dataset: Dataset | None) -> dict[int, str]:
    """Return the pictures of all flips that are shown as data URLs, by their index in the data set."""
    if dataset is None:
        return {}
    shown: list[Flip] = [flip for candidate in report.candidates for flip in candidate.flips[:FLIPS_SHOWN]]
    return {flip.index: _data_url(dataset.images[flip.index]) for flip in shown}


def _data_url(image: NDArray[np.uint8]) -> str:
    """Encode a model input `(h, w, 1)` gray or `(h, w, 3)` RGB uint8 as a PNG data URL."""
    encoded, data = cv2.imencode(".png", image[:, :, ::-1] if image.shape[2] == 3 else image)
    if not encoded:
        raise OutputError(f"a picture {image.shape} cannot be encoded as PNG for the page")
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()
