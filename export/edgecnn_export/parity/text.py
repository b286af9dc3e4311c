"""A parity report as a file for machines and as plain text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.datasets.layout import GOOD
from edgecnn.files import write_json as write_json_file
from edgecnn.metrics import weak_classes
from edgecnn.text import aligned, printable
from edgecnn_export.parity.corrupted import CorruptedReference
from edgecnn_export.parity.figures import CandidateReport, ModelFigures, ParityReport
from edgecnn_export.parity.good_parts import NOVEL

_FLIPS_SHOWN = 10
_CORRUPTED_HEAD = ("model", "right", "drop", "bound", "lost", "gained", "other", "p", "largest drop")
_HEAD = ("model", "right", "interval", "drop", "bound", "lost", "gained", "other", "p", "max diff", "ECE", "ms", "size")


def write_json(
    report: ParityReport,
    path: Path,
    repair: Sequence[Mapping[str, Any]] = (),
    audit: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the report as JSON, whole or not at all; `ParityReport.from_json` reads it back.

    `repair` is what a repair tried, a row for each file; `audit` are the checks of the calibration pictures.
    """
    more = {name: list(rows) for name, rows in (("repair", repair), ("calibration_audit", audit)) if rows}
    write_json_file(path, report.to_json() | more)


def format_report(report: ParityReport, advice: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return the report as lines for a terminal: what the reference is worth, verdicts with advice, figures and flips."""
    rows = [_HEAD, _reference_row(report.reference), *(_row(candidate) for candidate in report.candidates)]
    lines = [printable(line) for line in describe_reference(report)]
    for candidate in report.candidates:
        lines.append(printable(candidate.sentence))
        lines += [printable(f"  - {line}") for line in (advice or {}).get(candidate.name, ())]
    lines += ["", printable(describe_data(report)), f"drop and bound in points at {100 * report.confidence:g} %", ""]
    lines += aligned(rows)
    lines += _corrupted_lines(report)
    for candidate in report.candidates:
        lines += _flip_lines(report, candidate) + _graph_lines(report, candidate)
    return "\n".join(lines) + "\n"


def describe_reference(report: ParityReport) -> list[str]:
    """Say in sentences what the reference itself is worth on these pictures: its accuracy, weak classes, any doubt."""
    figures = report.reference
    if not report.data.labelled:
        return [f"reference: its accuracy is unknown, the {report.count} pictures have no labels"]
    low, high = figures.interval
    copies = "; half of these are good parts, half copies with damage drawn in" if report.labels == (GOOD, NOVEL) else ""
    lines = [
        f"reference: {figures.right} of {report.count} pictures right, {100 * figures.accuracy:.1f} % "
        f"({100 * report.confidence:g} % interval {100 * low:.1f} to {100 * high:.1f}){copies}"
    ]
    for i in weak_classes(np.array(figures.confusion)):
        lines.append(f"weak: {report.labels[i]}, {figures.confusion[i][i]} of {sum(figures.confusion[i])} pictures right")
    return lines + ([report.doubt] if report.doubt else [])


def describe_data(report: ParityReport) -> str:
    """Say in a sentence which pictures were compared, and loudly when they are synthetic."""
    grouped = f" in {report.groups} groups of related pictures" if report.groups is not None else ""
    unlabelled = "" if report.data.labelled else "unlabelled "
    where = f"{report.data.source}, {report.data.split} split: {report.count} {unlabelled}pictures{grouped}"
    return f"measured on SYNTHETIC pictures of {where}" if report.data.synthetic else f"measured on {where}"


def describe_corrupted(corrupted: CorruptedReference) -> str:
    """Say in a sentence what was compared under corruptions."""
    few, many = min(corrupted.counts), max(corrupted.counts)
    each = f"{few}" if few == many else f"{few} or {many}" if many == few + 1 else f"{few} to {many}"
    return (
        f"under camera corruptions: {corrupted.count} pictures, {each} under each of {len(corrupted.corruptions)} corruptions "
        f"at severity {corrupted.severity}"
    )


def format_size(size_bytes: int | None) -> str:
    """Return a file size as `87.3 kB` (1 kB is 1,000 bytes), a dash when it is unknown."""
    if size_bytes is None:
        return "-"
    return f"{size_bytes / 1e3:.1f} kB" if size_bytes < 1e6 else f"{size_bytes / 1e6:.1f} MB"


def _corrupted_lines(report: ParityReport) -> list[str]:
    if report.corrupted is None:
        return []
    rows = [_CORRUPTED_HEAD, ("reference", f"{100 * report.corrupted.accuracy:.2f} %", *[""] * (len(_CORRUPTED_HEAD) - 2))]
    for candidate in report.candidates:
        if (under := candidate.corrupted) is not None:
            counts = str(under.lost), str(under.gained), str(under.other), f"{under.mcnemar_p:.3g}"
            worst = f"{under.worst} {under.worst_drop:+.1f}"
            drops = f"{100 * under.accuracy:.2f} %", f"{under.drop:+.2f}", f"{under.drop_bound:.2f}"
            rows.append((printable(candidate.name), *drops, *counts, worst))
    return ["", describe_corrupted(report.corrupted), "", *aligned(rows)]


def _reference_row(figures: ModelFigures) -> tuple[str, ...]:
    return ("reference", *_own_cells(figures), "", "", "", "", "", "", "", *_last_cells(figures))


def _row(candidate: CandidateReport) -> tuple[str, ...]:
    return (
        printable(candidate.name),
        *_own_cells(candidate.figures),
        f"{candidate.drop:+.2f}",
        f"{candidate.drop_bound:.2f}",
        str(candidate.lost),
        str(candidate.gained),
        str(candidate.other),
        f"{candidate.mcnemar_p:.3g}",
        f"{candidate.largest_difference:.2g}",
        *_last_cells(candidate.figures),
    )


def _own_cells(figures: ModelFigures) -> tuple[str, str]:
    low, high = figures.interval
    return f"{100 * figures.accuracy:.2f} %", f"{100 * low:.2f}..{100 * high:.2f}"


def _last_cells(figures: ModelFigures) -> tuple[str, str, str]:
    return f"{figures.ece:.4f}", f"{figures.latency_ms:.3f}", format_size(figures.size_bytes)


def _graph_lines(report: ParityReport, candidate: CandidateReport) -> list[str]:
    """Say how often a candidate's own softmax would tell other tools' runtimes another class."""
    if candidate.graph_agreement is None or candidate.graph_agreement == 1:
        return []
    count = round((1 - candidate.graph_agreement) * report.count)
    text = (
        f"{candidate.name}: its output 0, for other tools' runtimes, names another class on {count} of {report.count} pictures"
    )
    return ["", printable(text)]


def _flip_lines(report: ParityReport, candidate: CandidateReport) -> list[str]:
    """List the first disagreements of a candidate: name, truth, and both answers with their probabilities."""
    total = candidate.lost + candidate.gained + candidate.other
    if not total:
        return []
    lines = ["", f"{printable(candidate.name)} answers differently on {total} of {report.count} pictures:"]
    for flip in candidate.flips[:_FLIPS_SHOWN]:
        before = f"{report.labels[flip.reference_id]} {flip.reference_probabilities[flip.reference_id]:.2f}"
        after = f"{report.labels[flip.candidate_id]} {flip.candidate_probabilities[flip.candidate_id]:.2f}"
        text = f"  {flip.kind:<6} {flip.name}: true {report.labels[flip.class_id]}, reference {before}, candidate {after}"
        lines.append(printable(text))
    if total > _FLIPS_SHOWN:
        lines.append(f"  and {total - min(_FLIPS_SHOWN, len(candidate.flips))} more")
    return lines
