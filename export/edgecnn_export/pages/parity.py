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
from edgecnn.text import points
from edgecnn_export.pages import render
from edgecnn_export.parity.figures import Flip, ParityReport
from edgecnn_export.parity.text import describe_corrupted, describe_data, describe_reference, format_size

FLIPS_SHOWN = 12
_TEMPLATE = "parity.html"
_SIGNS = {"pass": "✓", "agrees": "=", "undecided": "?", "fail": "✗"}


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
        worth=describe_reference(report),
        by_margins=any(candidate.margins for candidate in report.candidates),
        terms=explain_terms(report),
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


def explain_terms(report: ParityReport) -> dict[str, str]:
    """Return a sentence for each term of the page, in the order in which they stand on it."""
    level, margin = f"{100 * report.confidence:g} %", points(report.max_drop)
    grouped = ", or by resampling whole groups of related pictures where that is larger (bootstrap)" if report.groups else ""
    terms = {
        "reference": "The model that was exported: the files are to answer as it does.",
        "interval": f"With {level} confidence it contains the share of right answers on new pictures of this kind (Wilson).",
        "drop": "Accuracy of the reference minus accuracy of the file, in percentage points; below 0 the file was better.",
        "bound": f"With {level} confidence the true drop is not above this (Tango's score bound for paired answers{grouped}); "
        "it is not 0 without a flip, since few pictures cannot exclude a small drop.",
        "lost, gained, other": "Pictures answered differently: only the reference was right, only the file, or neither.",
        "agreement": "Share of the pictures to which file and reference give the same answer.",
        "McNemar p": "How often chance alone would make lost and gained differ as much as here (exact, two-sided).",
        "difference": "Of the file's probability of a class from the reference's, for the same picture.",
        "ECE": "Expected calibration error: how far stated probabilities lie from the share of right answers; 0 is best.",
        "pass": f"The bound is within {margin}, or a float file changes no answer and no probability by more than 1e-4.",
        "agrees": "The pictures have no labels: the file answers as the reference does, right or wrong.",
        "undecided": "More was not shown: too few pictures, or a reference that is not to be trusted on them.",
        "fail": f"It lost more than {margin} and more than chance explains, on clean or corrupted pictures; or its answers are "
        "no probabilities; or a float file left its tolerance of 1e-4.",
    }
    if any(candidate.margins for candidate in report.candidates):
        terms["bound by margins"] = (
            "An answer flips only where the two best classes are nearer to each other than quantization moves them. How often "
            "that happens was counted on unlabelled pictures under camera corruptions, and scaled by how much rarer near ties "
            "are among the labelled ones. Assumed: flips depend on how near the tie is and not on what made it near; and new "
            "pictures are not relatively more often nearer to a tie than the nearest that were compared."
        )
    return terms


def _headline(report: ParityReport) -> str:
    alike = [candidate for candidate in report.candidates if candidate.verdict == report.verdict]
    counted = f"{len(alike)} of {len(report.candidates)}"
    if report.verdict == "fail":
        return f"{counted} files cannot stand in for the reference"
    if report.verdict == "undecided":
        return f"{report.count} pictures do not decide about {counted} files"
    if report.verdict == "agrees":
        return f"{counted} files answer {report.count} unlabelled pictures as the reference does"
    return f"no file loses more than {report.max_drop:g} {'point' if report.max_drop == 1 else 'points'} of accuracy"


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
