"""The verdict on a candidate, with its reasons in words: never more than the pictures show.

`fail`       the measured drop is above the margin and more than chance explains, on clean pictures or under camera corruptions;
             or the answers are not probabilities; or a float file leaves its tolerance. Of good parts each corruption is judged
             by itself as well.
`pass`       a float file changes no answer within its tolerance; or a bound of the drop is within the margin.
`agrees`     the same on unlabelled pictures: the files answer as the reference does, right or wrong.
`undecided`  none of these, or the reference is not to be trusted on these pictures.
"""

from __future__ import annotations

from edgecnn.text import points
from edgecnn_export.parity.figures import CandidateReport, MarginFigures, ModelFigures, ParityReport, Verdict
from edgecnn_export.parity.statistics import exceeds_chance, pictures_to_decide


def judge(report: ParityReport, candidate: CandidateReport, flaw: str | None) -> tuple[Verdict, tuple[str, ...]]:
    """Decide, with the reasons in words; `flaw` is what is wrong with the candidate's probabilities."""
    if failures := _failures(report, candidate, flaw):
        return "fail", failures
    if not report.data.labelled:
        return _judge_agreement(report, candidate)
    if doubt := report.doubt or _doubt(report):
        return "undecided", (doubt,)
    if candidate.unchanged:
        return "pass", (f"no answer differs, and no probability by more than {candidate.tolerance:g}",)
    if candidate.bound > report.max_drop:
        return "undecided", (_too_few(report, candidate),)
    return "pass", (_bounded(report, candidate),)


def _failures(report: ParityReport, candidate: CandidateReport, flaw: str | None) -> tuple[str, ...]:
    failures = []
    if flaw:
        failures.append(f"its answers are not probabilities: {flaw}")
    if candidate.tolerance is not None and candidate.largest_difference > candidate.tolerance:
        failures.append(
            f"a probability differs by {candidate.largest_difference:.2g}, a float file may differ by {candidate.tolerance:g}"
        )
    if candidate.drop > report.max_drop and exceeds_chance(candidate.lost, candidate.gained, report.confidence):
        allowed = f"at most {report.max_drop:g} are allowed"
        if report.data.labelled:
            counts = f"{candidate.lost} of {report.count} pictures lost, {candidate.gained} gained"
            failures.append(f"it lost {candidate.drop:.2f} points of accuracy ({counts}), {allowed}")
        else:
            failures.append(f"it answers {candidate.drop:.2f} % of {report.count} unlabelled pictures differently, {allowed}")
    corrupted = candidate.corrupted
    if corrupted and corrupted.exceeds(report.max_drop, report.confidence):
        failures.append(
            f"under camera corruptions it lost {corrupted.drop:.2f} points ({corrupted.lost} pictures lost, {corrupted.gained} "
            f"gained), at most {report.max_drop:g} are allowed"
        )
    if corrupted and corrupted.stands_out(report.max_drop, report.confidence):
        failures.append(
            f"under {corrupted.significant} alone it lost {corrupted.significant_drop:.1f} points, more than chance explains "
            f"(p = {corrupted.significant_p:.2g} by all corruptions)"
        )
    return tuple(failures)


def _judge_agreement(report: ParityReport, candidate: CandidateReport) -> tuple[Verdict, tuple[str, ...]]:
    same = report.count - candidate.lost - candidate.gained - candidate.other
    counts = f"{same} of {report.count} unlabelled pictures are answered as by the reference"
    if candidate.drop > report.max_drop:
        return "undecided", (f"{counts}; so few cannot tell whether more than {report.max_drop:g} % differ",)
    return "agrees", (f"{counts}; whether the answers are right was not shown",)


def _too_few(report: ParityReport, candidate: CandidateReport) -> str:
    if candidate.drop > report.max_drop:
        doubt = f"it lost {candidate.drop:.2f} points, on {report.count} pictures no more than chance explains"
    else:
        doubt = f"{report.count} pictures cannot exclude a drop above {points(report.max_drop)}"
    doubt += f"; {_bound(report, candidate)}"
    needed = pictures_to_decide(candidate.lost, candidate.gained, report.count, report.max_drop / 100, report.confidence)
    return f"{doubt}; about {rounded_up(needed)} would decide" if needed is not None else doubt


def _bounded(report: ParityReport, candidate: CandidateReport) -> str:
    return f"{_bound(report, candidate)}, {report.max_drop:g} are allowed"


def _bound(report: ParityReport, candidate: CandidateReport) -> str:
    reason, margins = f"the drop is at most {candidate.bound:.2f} points at {100 * report.confidence:g} %", candidate.margins
    if margins is None:
        return reason
    if margins.bound < candidate.drop_bound:
        return f"{reason} by {_margins(margins)} ({candidate.drop_bound:.2f} by the {report.count} labelled ones alone)"
    return f"{reason} ({margins.bound:.2f} by {_margins(margins)})"


def _margins(margins: MarginFigures) -> str:
    return f"the margins of {margins.count} unlabelled pictures, {margins.flipped} of which flipped"


def rounded_up(count: int) -> int:
    """Round up to two significant digits: an estimate with more would claim too much."""
    unit = int(10 ** max(len(str(count)) - 2, 0))
    return -(-count // unit) * unit


def _doubt(report: ParityReport) -> str | None:
    """Say why the reference has nothing to lose: it is no better than always naming the commonest class."""
    counts = [sum(row) for row in report.reference.confusion]
    commonest = max(range(len(counts)), key=counts.__getitem__)
    if not _may_guess(report.reference, counts[commonest]):
        return None
    label, accuracy = report.labels[commonest], f"{100 * report.reference.accuracy:.1f} %"
    if counts[commonest] == report.count:
        return f"all {report.count} pictures show {label}: give pictures of the other classes too"
    if report.reference.right > counts[commonest]:
        return (
            f"{report.count} pictures, {counts[commonest]} of them {label}, are too few to tell the reference, which reads "
            f"{report.reference.right} correctly, from one that always says {label}"
        )
    return (
        f"the reference itself reads {accuracy} correctly, no better than guessing the commonest class ({label}): "
        "it is not trained enough, or fed or labelled wrongly"
    )


def _may_guess(reference: ModelFigures, commonest: int) -> bool:
    return reference.interval[0] <= commonest / reference.count
