"""Whether calibration pictures can be trusted: an int8 file made on wrong ones looks like a good one.

Each check compares the calibration pictures with those that the files are judged by, or one half of them with the other.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.mapped import blocks
from edgecnn_export.conversion.calibration import Ranges, measure
from edgecnn_export.conversion.folded import Folded

Outcome = Literal["ok", "warning", "fail"]

# Of a class's even share of the calibration pictures: below it the ranges may not know the class.
SCARCE = 0.25
# Mean and spread of the gray levels, in standard deviations between the evaluation pictures' means: the splits of MNIST and NEU
# differ by less than 0.2; pictures twice as bright, or half of them inverted, by more than 1.
DIFFERENT_LIGHT = 1.0
# Of the calibration pictures that are also judged by, or show the same physical thing as one of these.
OVERLAP = 0.01
# Relative difference of a layer's ranges between two halves: half as wide a range in one of them is one bit of eight.
STABLE, UNSTABLE = 0.3, 0.5
HALF = 200  # pictures per half are enough to see that
FEW = 50  # in a half: the difference may be chance, and is no more than a warning


@dataclass(frozen=True)
class Check:
    """One check: its name, how it went, and a sentence with the figures that decided."""

    name: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class Audit:
    """All checks of one calibration."""

    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """The sentences of the checks that failed: such int8 files are rejected."""
        return tuple(check.sentence for check in self.checks if check.outcome == "fail")

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of the checks that found something odd."""
        return tuple(check.sentence for check in self.checks if check.outcome == "warning")

    def to_json(self) -> list[dict[str, Any]]:
        """Return the checks with plain values."""
        return [dataclasses.asdict(check) for check in self.checks]


def audit_calibration(
    folded: Folded,
    calibration: Dataset,
    evaluation: Dataset,
    labels: tuple[str, ...],
    *,
    same: bool = False,
    labelled: bool = True,
    seed: int = 0,
) -> Audit:
    """Check the calibration pictures of a folded model against the pictures that its files are judged by.

    `evaluation` may be empty: then only what can be seen without it is checked. `same` says that there is one set of pictures
    for both, and that it is known; `labelled` that the classes are known and not only what the reference answers.
    """
    checks = [check_balance(calibration, evaluation, labels, labelled=labelled), check_pixels(calibration, evaluation)]
    if len(evaluation):
        checks += [check_light(calibration, evaluation), check_overlap(calibration, evaluation, intended=same)]
    if folded.annotation is not None and len(calibration) >= 2:
        first, second = halves(calibration, seed)
        ranges = measure(folded, first.images), measure(folded, second.images)
        checks.append(check_stability(*ranges, count=min(len(first), len(second))))
    return Audit(tuple(checks))


def check_balance(calibration: Dataset, evaluation: Dataset, labels: tuple[str, ...], *, labelled: bool = True) -> Check:
    """Fail when a class that is judged by has no calibration picture, warn when one has far less than its share."""
    counts = np.bincount(calibration.class_ids, minlength=len(labels))
    judged = np.bincount(evaluation.class_ids, minlength=len(labels)) > 0
    if absent := [labels[i] for i in np.flatnonzero((counts == 0) & judged)]:
        return Check("class balance", "fail", f"no calibration picture shows {', '.join(absent)}; calibrate on all classes")
    even = len(calibration) / max(int((counts > 0).sum()), 1)
    least = int(np.where(counts > 0, counts, len(calibration)).argmin())
    shown = f"{labels[least]} has" if labelled else f"the reference says {labels[least]} to"
    sentence = f"{shown} {counts[least]} of {len(calibration)} calibration pictures, {even:.0f} would be even"
    return Check("class balance", "warning" if counts[least] < SCARCE * even else "ok", sentence)


def check_pixels(calibration: Dataset, evaluation: Dataset) -> Check:
    """Fail when pixels are 0 and 1 only: pictures that were already divided by 255, which the model will do again."""
    for name, dataset in (("calibration", calibration), ("evaluation", evaluation)):
        if len(dataset) and all(block.max() <= 1 for block in blocks(dataset.images)):
            sentence = f"the {name} pictures hold no pixel above 1: they were divided by 255 before; the model takes 0 to 255"
            return Check("pixel range", "fail", sentence)
    low, high = int(calibration.images.min()), int(calibration.images.max())
    return Check("pixel range", "ok", f"calibration pixels range from {low} to {high}")


def check_light(calibration: Dataset, evaluation: Dataset) -> Check:
    """Fail when the calibration pictures are brighter, darker, flatter or harsher than those that are judged by.

    Compared are the mean gray level and the mean contrast (a picture's standard deviation), in units of how much evaluation
    pictures differ among each other.
    """
    shifts = {}
    for name, figure in (("mean gray level", _means), ("contrast", _deviations)):
        ours, theirs = figure(calibration.images), figure(evaluation.images)
        shifts[name] = (
            float(ours.mean()),
            float(theirs.mean()),
            abs(ours.mean() - theirs.mean()) / max(float(theirs.std()), 1.0),
        )
    name, (ours_mean, theirs_mean, shift) = max(shifts.items(), key=lambda item: item[1][2])
    sentence = (
        f"{name}: {ours_mean:.0f} in calibration, {theirs_mean:.0f} in evaluation pictures, "
        f"{shift:.1f} standard deviations apart ({DIFFERENT_LIGHT:g} are allowed)"
    )
    return Check("light", "fail" if shift > DIFFERENT_LIGHT else "ok", sentence)


def check_overlap(calibration: Dataset, evaluation: Dataset, *, intended: bool = False) -> Check:
    """Fail when calibration pictures are also judged by, or show the same thing as one that is (where groups are known).

    Where that is `intended`, it is a warning.
    """
    known = {_digest(image) for block in blocks(evaluation.images) for image in block}
    shared = np.array([_digest(image) in known for image in calibration.images], bool)
    if calibration.groups is not None and evaluation.groups is not None:
        shared |= np.isin(calibration.groups, evaluation.groups)
    count = int(shared.sum())
    sentence = f"{count} of {len(calibration)} calibration pictures are, or overlap, pictures that the files are judged by"
    outcome: Outcome = "warning" if count else "ok"
    if count > OVERLAP * len(calibration) and not intended:
        outcome = "fail"
    return Check("overlap", outcome, sentence)


def check_stability(first: Ranges, second: Ranges, *, count: int) -> Check:
    """Warn or fail when two halves of `count` calibration pictures each ask for different scales of some layer.

    The figure is the difference of the widths of the layer's two ranges, in parts of the wider one.
    """
    differences = {name: _difference(first[name], second[name]) for name in first}
    name = max(differences, key=differences.__getitem__)
    worst = differences[name]
    sentence = (
        f"the range of layer {name} differs by {worst:.0%} between two halves of the calibration pictures "
        f"({STABLE:.0%} are usual)"
    )
    if worst <= STABLE:
        return Check("stability", "ok", sentence)
    return Check("stability", "fail" if worst > UNSTABLE and count >= FEW else "warning", f"{sentence}; give more pictures")


def halves(calibration: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Return two disjoint parts of at most HALF pictures with the classes divided evenly between them."""
    order = np.random.default_rng(seed).permutation(len(calibration))
    order = order[np.argsort(calibration.class_ids[order], kind="stable")]
    first, second = order[::2], order[1::2]
    step = max(1, -(-len(first) // HALF))
    return calibration.take(np.sort(first[::step])), calibration.take(np.sort(second[::step]))


def _difference(first: tuple[float, float], second: tuple[float, float]) -> float:
    widths = first[1] - first[0], second[1] - second[0]
    return abs(widths[0] - widths[1]) / max(widths)


def _means(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.concatenate([block.mean(axis=(1, 2, 3), dtype=np.float64) for block in blocks(images)])


def _deviations(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.array([image.std(dtype=np.float64) for block in blocks(images) for image in block])


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()
