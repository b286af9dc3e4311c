"""After a failed parity: which classes and layers lost it, what the pattern of errors looks like, and what to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.runtimes.runtime import Runtime
from edgecnn_export.parity.figures import CandidateReport, ParityReport

if TYPE_CHECKING:
    from edgecnn_export.conversion.calibration import Ranges
    from edgecnn_export.conversion.folded import Folded
    from edgecnn_export.conversion.graph import Step
    from edgecnn_export.conversion.simulation import LayerwiseRounding
    from edgecnn_export.reference import Reference

_GAINS, _OFFSETS = (0.5, 2.0), (-128, -64, -32, 32, 64, 128)
_PROBE_PICTURES, _RANKED_PICTURES = 64, 32
_CLIPPED_SHARE, _USED_SHARE = 0.01, 0.3


@dataclass(frozen=True)
class LayerLoss:
    """What int8 rounding of one layer alone does to the model's answers.

    `difference` is the mean absolute change of a probability, `flips` how many answers change. For activations `clipped` is
    the share of values outside the calibrated range, and `used` the share of that range which the pictures reach.
    """

    layer: str
    part: Literal["activations", "weights"]
    difference: float
    flips: int
    clipped: float = 0.0
    used: float = 1.0


@dataclass(frozen=True)
class InputShift:
    """The change of pixels, gain * pixel + offset, under which a candidate answers like the reference."""

    gain: float
    offset: int
    agreement_before: float
    agreement_after: float


def rank_layers(folded: Folded, ranges: Ranges, images: NDArray[np.uint8], *, file_format: str = "tflite") -> list[LayerLoss]:
    """Round one layer at a time to int8 and rank by how much the answers to `images` `(n, h, w, c)` change, worst first.

    Activations and weights are rounded as in the int8 file of `file_format`; `ranges` are those it was made by. All
    activations of all pictures are held at a time, so 32 pictures, spread evenly over `images`, are looked at. Raises
    ConversionError when it isn't known how the model quantizes.
    """
    from edgecnn_export.conversion.simulation import LayerwiseRounding, kernel_of

    sample = _spread(images, _RANKED_PICTURES)
    simulation = LayerwiseRounding(folded, ranges, sample, dense_per_channel=file_format == "onnx")
    limits = folded.annotated()[1].limits(ranges)
    losses = []
    for step in simulation.graph.steps:
        if step.name in ranges:
            losses.append(_activation_loss(simulation, step, limits[step.name]))
        if kernel_of(step.operation) is not None:
            losses.append(LayerLoss(step.name, "weights", *_loss(simulation, simulation.with_rounded_weights(step))))
    return sorted(losses, key=lambda loss: loss.difference, reverse=True)


def probe_input(reference: Runtime, candidate: Runtime, images: NDArray[np.uint8]) -> InputShift | None:
    """Look for a change of brightness or scale under which the candidate agrees with the reference again.

    Finds a wrong input scale or a shifted zero point on 64 pictures, spread evenly over `images` `(n, h, w, c)`. None when
    nothing helps.
    """
    images = _spread(images, _PROBE_PICTURES)
    expected = reference.run(images).argmax(axis=1)

    def agreement(gain: float, offset: int) -> float:
        changed = np.clip(np.rint(gain * images.astype(np.float32) + offset), 0, 255).astype(np.uint8)
        return float((candidate.run(changed).argmax(axis=1) == expected).mean())

    before = agreement(1.0, 0)
    tries = [(gain, 0) for gain in _GAINS] + [(1.0, offset) for offset in _OFFSETS]
    after, gain, offset = max((agreement(*change), *change) for change in tries)
    helps = after >= 0.7 and after - before >= 0.2
    return InputShift(gain, offset, before, after) if helps else None


def explain(
    report: ParityReport,
    name: str,
    reference: Runtime,
    candidate: Runtime,
    dataset: Dataset,
    source: Reference | None = None,
    file_format: str = "tflite",
) -> list[str]:
    """Look into why candidate `name` failed on `dataset` and return `advice` about it.

    With `source`, the Keras model that carries its calibration, layers are ranked too, rounded as in `file_format`.
    """
    losses = _rank_layers_of(source, dataset.images, file_format) if source else []
    return advice(report, name, losses, probe_input(reference, candidate, dataset.images))


def advice(
    report: ParityReport, name: str, losses: list[LayerLoss] | None = None, shift: InputShift | None = None
) -> list[str]:
    """Say in sentences what candidate `name` lost, where, and what to try; the most telling first."""
    candidate, lines = report[name], []
    if collapsed := collapsed_class(candidate):
        lines.append(
            f"nearly all pictures are called {collapsed}: the weights or the input range are broken, "
            "check the scaling of the input before anything else"
        )
    if swaps := permuted_labels(candidate):
        pairs = ", ".join(f"{true} is called {called}" for true, called in swaps.items())
        lines.append(f"the labels are in another order ({pairs}): export with --labels in the order of training")
    if shift:
        change = f"{shift.gain:g} times brighter" if shift.offset == 0 else f"brighter by {shift.offset:+d}"
        lines.append(
            f"fed with pictures {change} it agrees on {shift.agreement_after:.0%} instead of {shift.agreement_before:.0%}: "
            "its input scale or zero point is wrong"
        )
    if candidate.tolerance is not None:  # nothing was calibrated
        return lines
    lines += _class_lines(candidate) + _layer_lines(losses or [])
    if not lines and candidate.verdict != "pass":
        lines.append("the loss is spread over all classes: calibrate on more training pictures, equally many of each class")
    return lines


def collapsed_class(candidate: CandidateReport) -> str | None:
    """Return the label that gets at least 90 % of all answers although it has at most 60 % of the pictures."""
    confusion = np.array(candidate.figures.confusion)
    answers, truths = confusion.sum(axis=0), confusion.sum(axis=1)
    winner = int(answers.argmax())
    if answers[winner] >= 0.9 * confusion.sum() and truths[winner] <= 0.6 * confusion.sum():
        return candidate.classes[winner].label
    return None


def permuted_labels(candidate: CandidateReport) -> dict[str, str]:
    """Return which label is called which when the confusion matrix is a permutation of the classes, else nothing.

    Each class must have an answer of its own that gets most of its pictures, and they must not be the classes themselves.
    """
    confusion = np.array(candidate.figures.confusion)
    present = np.flatnonzero(confusion.sum(axis=1))
    called = confusion[present].argmax(axis=1)
    explained = confusion[present, called].sum() / max(confusion.sum(), 1)
    if len(set(called.tolist())) < len(present) or explained < 0.7 or (called == present).all():
        return {}
    labels = [row.label for row in candidate.classes]
    return {labels[true]: labels[name] for true, name in zip(present, called, strict=True) if true != name}


def _rank_layers_of(source: Reference, images: NDArray[np.uint8], file_format: str) -> list[LayerLoss]:
    """Rank the layers of a reference by its recorded calibration; nothing without one or without ranges."""
    if source.calibration is None:
        return []
    from edgecnn_export.conversion.calibration import Calibration
    from edgecnn_export.conversion.fold import fold

    calibration = Calibration.from_json(source.calibration)
    folded, ranges = calibration.corrected(fold(source.model)), calibration.ranges
    return rank_layers(folded, ranges, images, file_format=file_format) if ranges and folded.annotation is not None else []


def _activation_loss(simulation: LayerwiseRounding, step: Step, limits: tuple[float, float]) -> LayerLoss:
    values, (low, high) = simulation.values(step), limits
    difference, flips = _loss(simulation, simulation.with_rounded_output(step))
    clipped = float(((values < low) | (values > high)).mean())
    used = min(float(np.ptp(values)) / max(high - low, 1e-12), 1.0)
    return LayerLoss(step.name, "activations", difference, flips, clipped, used)


def _loss(simulation: LayerwiseRounding, answers: NDArray[np.float32]) -> tuple[float, int]:
    """Return the mean change of a probability, and the flips."""
    flips = int((answers.argmax(axis=1) != simulation.answers.argmax(axis=1)).sum())
    return float(np.abs(answers - simulation.answers).mean()), flips


def _spread(images: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Take `count` images evenly, so that data sorted by class gives some of each."""
    return images[np.linspace(0, len(images) - 1, min(len(images), count)).astype(np.int64)]


def _class_lines(candidate: CandidateReport) -> list[str]:
    """Name the classes that hold at least half of what was lost, when not all do."""
    losers = sorted((row for row in candidate.classes if row.drop > 0), key=lambda row: row.drop, reverse=True)
    if not losers or len(losers) > max(1, len(candidate.classes) // 2):
        return []
    named = ", ".join(f"{row.label} ({row.reference_right} of {row.count} before, {row.candidate_right} now)" for row in losers)
    return [f"lost by {named}: check that the calibration pictures hold equally many of each class"]


def _layer_lines(losses: list[LayerLoss]) -> list[str]:
    """Name the worst layers, and what their ranges say."""
    worst = [loss for loss in losses if loss.difference > 0][:3]
    if not worst:
        return []
    named = ", ".join(f"{loss.part} of {loss.layer} ({loss.difference:.2g}, {loss.flips} flips)" for loss in worst)
    lines = [f"rounding one layer alone changes the probabilities most at: {named}"]
    for loss in worst:
        if loss.part == "activations" and loss.clipped > _CLIPPED_SHARE:
            lines.append(f"{loss.layer}: {loss.clipped:.0%} of its values lie outside the calibrated range; use more pictures")
        elif loss.part == "activations" and loss.used < _USED_SHARE:
            lines.append(f"{loss.layer}: only {loss.used:.0%} of its calibrated range is used; look for odd pictures in it")
    return lines
