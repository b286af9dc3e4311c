"""The verdict on a candidate, with its reasons in words."""

from __future__ import annotations

from edgecnn_export.parity.figures import CandidateReport, ModelFigures, ParityReport, Verdict


def judge(report: ParityReport, candidate: CandidateReport, flaw: str | None) -> tuple[Verdict, tuple[str, ...]]:
    """Decide, with the reasons in words."""
    failures = []
    if flaw:
        failures.append(f"its answers are no probabilities: {flaw}")
    if candidate.tolerance is not None and candidate.largest_difference > candidate.tolerance:
        failures.append(
            f"a probability differs by {candidate.largest_difference:.2g}, a float file may differ by {candidate.tolerance:g}"
        )
    if candidate.drop > report.max_drop:
        failures.append(f"it lost {candidate.drop:.2f} points of accuracy, at most {report.max_drop:g} are allowed")
    corrupted = candidate.corrupted
    if corrupted and corrupted.exceeds(report.max_drop, report.confidence):
        failures.append(
            f"under camera corruptions it lost {corrupted.drop:.2f} points ({corrupted.lost} pictures lost, {corrupted.gained} "
            f"gained), at most {report.max_drop:g} are allowed"
        )
    if failures:
        return "fail", tuple(failures)
    at = f"at {100 * report.confidence:g} %"
    if _guesses(report.reference):
        return "undecided", (
            f"the reference itself has {100 * report.reference.accuracy:.1f} % right, no better than guessing "
            "the commonest class: check the order of the labels and the data",
        )
    if candidate.drop_bound > report.max_drop:
        return "undecided", (
            f"{report.count} pictures cannot exclude a drop above {report.max_drop:g} points; "
            f"the bound is {candidate.drop_bound:.2f} {at}",
        )
    return "pass", (f"the drop is at most {candidate.drop_bound:.2f} points {at}, {report.max_drop:g} are allowed",)


def _guesses(reference: ModelFigures) -> bool:
    """Tell whether the reference is no better than always naming the most frequent class: then it has nothing to lose."""
    counts = [sum(row) for row in reference.confusion]
    return reference.interval[0] <= max(counts) / sum(counts)
