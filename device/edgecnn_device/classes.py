"""What a camera's answers mean to people: which are defects, and which region of a picture is the worst."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.errors import InputError
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.frames import RegionPrediction

NONE_OF_THESE = "none of these"
NOTHING_FOUND = "nothing"
# What public data sets of parts and surfaces call the class without a defect (MVTec AD, magnetic tiles, castings, ...).
_GOOD = frozenset(
    {"good", "ok", "normal", "free", "pass", "clean", "background", "nodefect", "nodefects", "defectfree", "none"}
)


@dataclass(frozen=True)
class Classes:
    """The labels of a model in class order, those that are defects, and whether it reads: then its answers are a text."""

    labels: tuple[str, ...] = ()
    defects: frozenset[str] = frozenset()
    reads: bool = False

    @classmethod
    def choose(cls, labels: Sequence[str], *, good: Sequence[str] | None = None, reads: bool = False) -> Classes:
        """Hold all `labels` for defects but the `good` ones, which are recognized by their usual names where nobody gives them.

        `*` is all of them. A model that `reads` has no defects unless `good` is given. InputError for a good label that the
        model has not.
        """
        if good is None:
            good = labels if reads else [label for label in labels if _sounds_good(label)]
        elif tuple(good) == ("*",):
            good = labels
        if unknown := set(good).difference(labels):
            raise InputError(f"--good {min(unknown)!r}: the model has no such class; it has {', '.join(labels)}")
        return cls(tuple(labels), frozenset(labels).difference(good), reads)

    def worst(self, predictions: Sequence[RegionPrediction]) -> RegionPrediction | None:
        """Return the region with the surest defect; without one the one that is nothing known, or least sure of being good."""
        return max(predictions, key=self._badness, default=None)

    def _badness(self, prediction: RegionPrediction) -> tuple[int, float]:
        answer = prediction.smoothed
        if answer.label is None:
            return 1, answer.probability
        return (2, answer.probability) if answer.label in self.defects else (0, -answer.probability)


NO_CLASSES = Classes()


def _sounds_good(label: str) -> bool:
    return "".join(letter for letter in label.lower() if letter.isalnum()) in _GOOD


def split_labels(text: str) -> tuple[str, ...]:
    """Return the labels of a list such as `good, free`."""
    return tuple(label.strip() for label in text.split(",") if label.strip())
