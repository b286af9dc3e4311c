"""Counting what two models answer, and saying when the new one differs by more than its limits allow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from edgecnn.metrics import wilson_interval
from edgecnn.text import counted
from edgecnn_device.deploy.listener import Seen
from edgecnn_device.deploy.plan import Limits, Plan
from edgecnn_device.deploy.trial import Shadowed, Took

# Two-sided, of Newcombe's interval: while a watch goes on, which looks often, and at its end.
_CONFIDENCE, _CONFIDENCE_AT_END = 0.998, 0.95
# Of a class: where both truly agree in 80 % of all answers, fewer than half of that in 10 is one chance in a thousand.
FEW_ANSWERS, _FEW_OF_A_CLASS, _FEW_FRAMES = 30, 10, 10
_MORE_ERRORS, _MORE_TROUBLE, _SLOWER_MS = 0.01, 0.25, 5.0


@dataclass(eq=False)
class Counts:
    """What was seen of one model: frames by their state, for each that was answered the work on a picture, and answers.

    Only `answers` to different pictures count, and `doubtful` are those of them that are no label.
    """

    answers: int = 0
    doubtful: int = 0
    states: Counter[str] = field(default_factory=Counter)
    work_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    error: str = ""

    def add(self, seen: Seen) -> None:
        """Count a frame."""
        self.states[seen.state] += 1
        self.add_answers(seen.answers, seen.counts)
        if seen.state == "error":
            self.error = seen.reason
        if seen.answers:
            self.work_ms.append(seen.work_ms / len(seen.answers))
            self.cpu_ms.append(seen.cpu_ms / len(seen.answers))

    def add_answers(self, answers: Sequence[tuple[str, str]], counts: Sequence[bool]) -> None:
        """Count those answers that count."""
        for (verdict, _), is_counted in zip(answers, counts, strict=True):
            self.answers += is_counted
            self.doubtful += is_counted and verdict != "label"

    @property
    def doubt(self) -> float | None:
        """The share of answers that are unsure or novel; None of no answer."""
        return self.doubtful / self.answers if self.answers else None

    def share(self, *states: str) -> float:
        """Return the share of frames in these states."""
        return sum(self.states[state] for state in states) / max(1, self.states.total())

    def took(self) -> Took:
        """Return what the work on a picture took, of at least one frame."""
        return Took(median(self.work_ms), median(self.cpu_ms))


@dataclass(eq=False)
class Agreement:
    """In how many answers to different pictures with a label the shadow's most probable class is the live model's."""

    frames: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)

    def add(self, live: Seen, shadow: Shadowed) -> None:
        """Count a frame."""
        self.frames += 1
        for (verdict, label), is_counted, (_, other) in zip(live.answers, live.counts, shadow.answers, strict=True):
            if is_counted and verdict == "label":
                self.answers[label] += 1
                self.same[label] += label == other

    @property
    def share(self) -> float | None:
        """The share over all classes; None of no answer."""
        return self.same.total() / self.answers.total() if self.answers else None

    def by_class(self) -> dict[str, tuple[int, float]]:
        """Return of each class how many answers there were, and in which share of them both say the same."""
        return {label: (count, round(self.same[label] / count, 4)) for label, count in sorted(self.answers.items())}


def judge_latency(new: Took, before: Took, limits: Limits) -> str:
    """Say why a model is too slow, beside the one before; empty when it is not. A few milliseconds more never are.

    It must take too long by the clock and of the processor: a board that is busy with something else prolongs the first alone.
    """
    for ms, before_ms in ((new.ms, before.ms), (new.cpu_ms, before.cpu_ms)):
        if ms <= limits.latency * before_ms or ms <= before_ms + _SLOWER_MS:
            return ""
    return f"a picture takes {new.ms:.1f} ms instead of {before.ms:.1f} ms, more than {limits.latency:g} times as long"


def judge_agreement(agreement: Agreement, limits: Limits) -> str:
    """Say why a shadow may not go live by what it says; empty when it may."""
    share = agreement.share
    if share is None or agreement.answers.total() < FEW_ANSWERS:
        return ""
    if share < limits.agreement:
        worst = min(agreement.answers, key=lambda label: agreement.same[label] / agreement.answers[label])
        return (
            f"as a shadow it says the same in {share:.1%} of {agreement.answers.total():,} answers to different pictures, "
            f"least of all of {worst!r}; the limit is {limits.agreement:.0%}"
        )
    for label, (count, of_class) in agreement.by_class().items():
        if count >= _FEW_OF_A_CLASS and of_class < limits.agreement / 2:
            return (
                f"as a shadow it says {label!r} in only {of_class:.1%} of the {count:,} answers of that class; the limit for a "
                f"class is {limits.agreement / 2:.0%}"
            )
    return ""


def judge_doubt(new: Counts, before: Counts, limits: Limits, *, at_end: bool) -> str:
    """Say that more answers are unsure or novel than before; empty when not, or of too few answers.

    The rise must be beyond its limit: surely so in mid-watch; at the end it is enough that there surely is one.
    """
    if new.answers < FEW_ANSWERS or before.answers < FEW_ANSWERS or new.doubt is None or before.doubt is None:
        return ""
    rise = new.doubt - before.doubt
    surely = rise - _doubt_margin(new, before, _CONFIDENCE_AT_END if at_end else _CONFIDENCE)
    if rise > limits.doubt and surely > (0.0 if at_end else limits.doubt):
        return (
            f"{new.doubt:.1%} of {new.answers:,} answers to different pictures are unsure or novel, before {before.doubt:.1%} "
            f"of {before.answers:,}; {100 * limits.doubt:g} points more are allowed"
        )
    return ""


def _doubt_margin(new: Counts, before: Counts, confidence: float) -> float:
    """Return how far below the difference its lower bound lies (Newcombe, Statistics in Medicine 17, 1998, method 10)."""
    assert new.doubt is not None and before.doubt is not None
    low, _ = wilson_interval(new.doubtful, new.answers, confidence)
    _, high = wilson_interval(before.doubtful, before.answers, confidence)
    return math.hypot(new.doubt - low, high - before.doubt)


def describe_unjudged(before: Counts, after: Counts, agreement: Agreement, plan: Plan) -> str:
    """Say what was to be judged of a model that is live and could not be, for want of answers; empty for nothing."""
    unjudged = []
    if plan.shadow and agreement.answers.total() < FEW_ANSWERS:
        unjudged.append(f"agreement ({counted(agreement.answers.total(), 'label')} to compare as a shadow)")
    if plan.watch_s and min(before.answers, after.answers) < FEW_ANSWERS:
        unjudged.append(
            f"unsure and novel answers ({counted(after.answers, 'answer')} in the watch, {before.answers:,} before)"
        )
    if not unjudged:
        return ""
    needed = f"{FEW_ANSWERS} of each, to different pictures, are needed"
    return f"no judgement on {' or on '.join(unjudged)}: {needed}; give it longer while parts pass"


def judge_states(new: Counts, before: Counts) -> str:
    """Say that the new model gives errors, or that frames come late since; empty when not."""
    if new.states["error"] >= 3 and new.share("error") > before.share("error") + _MORE_ERRORS:
        return f"{new.states['error']:,} of {new.states.total():,} frames end in an error: {new.error}"
    if new.states.total() >= _FEW_FRAMES and new.share("stale") > before.share("stale") + _MORE_TROUBLE:
        return f"{new.share('stale'):.0%} of the frames are stale, before {before.share('stale'):.0%}"
    return ""


def judge_work(new: Counts, before: Counts, limits: Limits) -> str:
    """Say that the camera's own work on a picture takes too long since; empty when not."""
    if min(len(new.work_ms), len(before.work_ms)) < _FEW_FRAMES:
        return ""
    return judge_latency(new.took(), before.took(), limits)
