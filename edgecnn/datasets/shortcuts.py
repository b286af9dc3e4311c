"""What tells the classes apart besides what the pictures show: a net learns it, and is lost where it is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from edgecnn.datasets.reading import Picture

LEAST_GAIN = 0.25  # of the way from always naming the largest class to naming every class correctly
LEAST_RIGHT = 5  # pictures beyond the largest class: fewer are an accident
_SHOWN = 4


@dataclass(frozen=True)
class Shortcut:
    """An attribute of the files that tells their classes.

    Naming for each picture the class that is the most frequent among the *other* pictures with its value is right for `right`
    of `count` pictures; always naming the largest class for `largest`. `table` has the pictures per class of each value.
    """

    attribute: str
    right: int
    largest: int
    count: int
    table: dict[str, dict[str, int]]

    def describe(self) -> str:
        """Return one sentence with the most frequent values."""
        shown = sorted(self.table.items(), key=lambda item: -sum(item[1].values()))
        values = "; ".join(f"{value}: {_counts(classes)}" for value, classes in shown[:_SHOWN])
        more = f"; and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return (
            f"the {self.attribute} alone gives away the class of {self.right} of {self.count} pictures (the largest class has "
            f"{self.largest}): {values}{more}. A net may learn that instead of what the pictures show"
        )


def find_shortcuts(pictures: Sequence[Picture]) -> list[Shortcut]:
    """Look for classes that can be recognised by file type, size, color, depth of the folder or camera."""
    attributes = {
        "file type": [picture.file.path.suffix.lower() or "no suffix" for picture in pictures],
        "picture size": [f"{picture.size_hw[0]} x {picture.size_hw[1]}" for picture in pictures],
        "color": ["gray" if picture.is_gray else "in color" for picture in pictures],
        "depth of the folder": [f"{picture.file.deeper} deeper" for picture in pictures],
        "camera": [picture.camera or "not stated" for picture in pictures],
    }
    labels = [picture.file.label for picture in pictures]
    found = (measure_shortcut(attribute, values, labels) for attribute, values in attributes.items())
    return [shortcut for shortcut in found if shortcut is not None]


def measure_shortcut(attribute: str, values: Sequence[str], labels: Sequence[str]) -> Shortcut | None:
    """Measure how well `values` `(n)` tell `labels` `(n)`; None where that is hardly better than the largest class."""
    largest = max(Counter(labels).values(), default=0)
    table: dict[str, Counter[str]] = {}
    for value, label in zip(values, labels, strict=True):
        table.setdefault(value, Counter())[label] += 1
    # A value that one picture alone has tells nothing of others: each is judged by the others, ties against it.
    right = sum(_told(table[value], label) for value, label in zip(values, labels, strict=True))
    if len(table) < 2 or right - largest < max(LEAST_RIGHT, LEAST_GAIN * (len(labels) - largest)):
        return None
    return Shortcut(attribute, right, largest, len(labels), {value: dict(classes) for value, classes in table.items()})


def _told(classes: Counter[str], label: str) -> bool:
    others = [count for other, count in classes.items() if other != label]
    return classes[label] - 1 > max(others, default=0)


def _counts(classes: dict[str, int]) -> str:
    ranked = sorted(classes.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{label} {count}" for label, count in ranked[:_SHOWN])
    return shown + (f" and {len(ranked) - _SHOWN} more" if len(ranked) > _SHOWN else "")
