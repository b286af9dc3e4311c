"""Is the reference fed and labelled correctly? Parity alone would prove that a file repeats its mistakes.

On labelled pictures another tool's model is asked under each usual input convention, and its answers are looked at for a
fixed exchange of classes; a model of our own is held to the accuracy that its training recorded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.metrics import confusion_matrix, wilson_interval
from edgecnn.normalization import NORMALIZATIONS, Normalization
from edgecnn.robustness.measure import choose_pictures
from edgecnn_export.foreign import renormalized
from edgecnn_export.parity.statistics import exceeds_chance
from edgecnn_export.reference import Reference

PICTURES = 200  # asked under each convention
BETTER = 0.1  # share of the pictures by which another convention must read more, and
CERTAIN = 0.999  # at which confidence more than chance; below it two of them read about as much
MOST_OTHERS = 3  # are named beside the one that is meant
FAR_BELOW = 0.1  # the accuracy that training recorded


@dataclass(frozen=True, eq=False)
class Doubt:
    """Why the reference is not to be trusted; a `mistake` is the user's to mend, and nothing should be exported from it."""

    text: str
    mistake: bool = False


def check_reference(reference: Reference, dataset: Dataset, *, labelled: bool = True, seed: int = 0) -> Doubt | None:
    """Return what is wrong with a reference on labelled pictures, None where nothing is or where none are labelled."""
    if not labelled or not len(dataset):
        return None
    if reference.raw is None:
        return _check_record(reference, dataset)
    sample = choose_pictures(dataset, PICTURES, seed)
    return _check_convention(reference, sample)


def _check_record(reference: Reference, dataset: Dataset) -> Doubt | None:
    """Compare with the accuracy on validation pictures that a training of our own recorded."""
    record = reference.training or {}
    try:
        recorded, synthetic = float(record["validation"]["accuracy"]), bool(record["data"]["validation"]["synthetic"])
    except (KeyError, TypeError, ValueError):
        return None
    if synthetic:
        return None
    right = int(_right(reference, dataset).sum())
    if wilson_interval(right, len(dataset))[1] >= recorded - FAR_BELOW:
        return None
    return Doubt(
        f"the reference reads {right} of {len(dataset)} pictures correctly ({100 * right / len(dataset):.1f} %), its training "
        f"recorded {100 * recorded:.1f} %: these are other pictures, or other labels"
    )


def _check_convention(reference: Reference, sample: Dataset) -> Doubt | None:
    """Ask under each usual convention, with the labels in their order and in the one that the answers suggest."""
    count, own = len(sample), _right(reference, sample)
    if own.sum() > (1 - BETTER) * count:
        return None  # nothing else could read that many more
    tried: list[_Attempt] = []
    for normalization in _conventions(reference):
        answers = _answers(renormalized(reference, normalization), sample)
        tried.append(_Attempt(answers == sample.class_ids, normalization))
        called = _exchange(answers, sample.class_ids, len(reference.task.labels))
        if called is not None:
            tried.append(_Attempt(called[sample.class_ids] == answers, normalization, called))
    best = max(tried, key=lambda each: int(each.right.sum()))
    if not best.reads_more(own):
        return None
    # Several may read about as much. Meant is rather a convention than an order of labels, and the stated or commonest one.
    alike = [each for each in tried if not exceeds_chance(*best.against(each.right), CERTAIN)]
    meant, *others = sorted(alike, key=lambda each: each.called is not None)
    ways = [
        f"{each.percent} with {each.options(reference)}" for each in sorted(others, key=lambda each: -int(each.right.sum()))
    ]
    also = f" ({', '.join(ways[:MOST_OTHERS])})" if ways else ""
    stated = f"{100 * own.mean():.1f} % of {count} labelled pictures as stated (pixels {reference.normalization.name})"
    but = f"{meant.percent} with {meant.options(reference)}{also}"
    which = "state what it was trained with" if ways else "state that"
    return Doubt(f"{_called(reference)} reads {stated}, but {but}: {which}", mistake=True)


def _called(reference: Reference) -> str:
    """Return what its user calls a model: another tool's by its file, for Keras' own name is `sequential`."""
    return reference.name if reference.path is None else reference.path.name


@dataclass(frozen=True, eq=False)
class _Attempt:
    """Which pictures `(n,)` are read correctly under a convention, and with each class called by `called` instead."""

    right: NDArray[np.bool_]
    normalization: Normalization
    called: NDArray[np.int64] | None = None

    @property
    def percent(self) -> str:
        return f"{100 * self.right.mean():.1f} %"

    def against(self, other: NDArray[np.bool_]) -> tuple[int, int]:
        """Count the pictures that only this one reads, and those that only the other one does."""
        return int((self.right & ~other).sum()), int((other & ~self.right).sum())

    def reads_more(self, than: NDArray[np.bool_]) -> bool:
        gained, lost = self.against(than)
        return gained - lost >= BETTER * len(than) and exceeds_chance(gained, lost, CERTAIN)

    def options(self, reference: Reference) -> str:
        """Write the command-line options that state what is different from the reference."""
        changes = [] if self.normalization == reference.normalization else [_options(self.normalization)]
        if self.called is not None:
            changes.append(f"--labels {','.join(reference.task.labels[i] for i in np.argsort(self.called))}")
        return " ".join(changes)


def _conventions(reference: Reference) -> list[Normalization]:
    """List the usual conventions that fit the model's channels, the stated one first, then the commonest."""
    usual = list(NORMALIZATIONS.values())
    if reference.task.preprocessing.channels == 1:
        usual = [each for each in usual if len(each.scale) == len(each.offset) == 1 and not each.bgr]
    else:
        usual += [dataclasses.replace(each, bgr=True) for each in usual]
    return list(dict.fromkeys([reference.normalization, *usual]))


def _right(reference: Reference, sample: Dataset) -> NDArray[np.bool_]:
    return np.asarray(_answers(reference, sample) == sample.class_ids)


def _answers(reference: Reference, sample: Dataset) -> NDArray[np.int64]:
    return np.asarray(reference.runtime().run(sample.images).argmax(axis=1), np.int64)


def _exchange(answers: NDArray[np.int64], class_ids: NDArray[np.int64], classes: int) -> NDArray[np.int64] | None:
    """Return by what other class each class is mostly called `(classes,)`; None when that is not an exchange of them all."""
    confusion = confusion_matrix(answers, class_ids, classes)
    called = confusion.argmax(axis=1)
    mostly = 2 * confusion.max(axis=1) > confusion.sum(axis=1)
    exchanged = mostly.all() and len(set(called.tolist())) == classes and (called != np.arange(classes)).any()
    return called if exchanged else None


def _options(normalization: Normalization) -> str:
    """Write the command-line options that state a usual convention."""
    for name, usual in NORMALIZATIONS.items():
        if (usual.scale, usual.offset) == (normalization.scale, normalization.offset):
            return f"--pixel-range {name}" + ("" if usual.bgr == normalization.bgr else f" --color {_order(normalization)}")
    return f"--color {_order(normalization)}"


def _order(normalization: Normalization) -> str:
    return "bgr" if normalization.bgr else "rgb"
