"""What each step from photograph to digit brings: the finder and reader measured on labelled photographs.

    edgecnn data photos PHOTOS

`PHOTOS/labels.csv` has the columns file, x, y, w, h, label, kind. Kinds: `digit` (a box round one digit), `row` (a box round a
number), `handwritten_cell` (a cell with one digit in it), `printed_cell` (print: neither digit to find nor false report).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import DatasetError
from edgecnn.files import read_bytes
from edgecnn.handwriting.reader import DigitReading, read_digits
from edgecnn.handwriting.steps import ALL_STEPS, Steps
from edgecnn.pictures import read_picture
from edgecnn.preprocessing import resize
from edgecnn.runtimes.runtime import Runtime

PRINTED = "printed_cell"
STEP_NAMES = ("illumination", "lines", "scale", "turning", "joining", "splitting", "stroke_weight", "deskew", "reject")
_COLUMNS = ("file", "x", "y", "w", "h", "label", "kind")
# A reading belongs to a digit when its centre is in the digit's box and its height is not of another size.
_SMALLEST_SHARE, _LARGEST_SHARE = 0.5, 1.5
_SMALLEST_SHARE_OF_CELL = 0.25

Reader = Callable[[NDArray[np.uint8]], list[DigitReading]]


@dataclass(frozen=True)
class TrueBox:
    """A labelled box in a photograph, in pixels; `label` has more than one digit for a row."""

    x: int
    y: int
    w: int
    h: int
    label: str
    kind: str

    def scaled(self, scale: float) -> TrueBox:
        """Return the box in a photograph of `scale` times the size."""
        x, y, w, h = (round(scale * value) for value in (self.x, self.y, self.w, self.h))
        return replace(self, x=x, y=y, w=w, h=h)

    def holds(self, box: tuple[int, int, int, int]) -> bool:
        """Tell whether the centre of a read box `(x, y, w, h)` is in this one and its height fits the kind."""
        centre_x, centre_y = box[0] + box[2] / 2, box[1] + box[3] / 2
        if not (self.x <= centre_x <= self.x + self.w and self.y <= centre_y <= self.y + self.h):
            return False
        if self.kind == "digit":
            return _SMALLEST_SHARE * self.h <= box[3] <= _LARGEST_SHARE * self.h
        return self.kind == "row" or box[3] >= _SMALLEST_SHARE_OF_CELL * self.h


@dataclass(frozen=True)
class Score:
    """Counts over the boxes of one kind: digits there are, found, found and read correctly, and reports where none is."""

    digits: int = 0
    found: int = 0
    correct: int = 0
    false_reports: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(*(a + b for a, b in zip(self.counts, other.counts, strict=True)))

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """The four counts in order."""
        return self.digits, self.found, self.correct, self.false_reports

    @property
    def correct_share(self) -> float:
        """Found and read correctly, of all digits; NaN without any."""
        return self.correct / self.digits if self.digits else float("nan")

    @property
    def false_share(self) -> float:
        """False reports per true digit; NaN without any."""
        return self.false_reports / self.digits if self.digits else float("nan")


@dataclass(frozen=True)
class Row:
    """One line of the table: with which steps, and the score of each kind."""

    name: str
    scores: dict[str, Score] = field(default_factory=dict)


def evaluate(
    folder: Path, runtime: Runtime, *, reject_threshold: float, steps: Iterable[str] = STEP_NAMES, scale: float = 1.0
) -> list[Row]:
    """Measure the reader on the photographs of `folder`: all steps first, then without each of `steps` in turn.

    At `scale` 0.5 the photographs are shrunk to half their width and height first, as from twice as far away. Raises
    DatasetError when the folder has no usable labels.csv.
    """
    labels = {name: [box.scaled(scale) for box in boxes] for name, boxes in read_labels(folder).items()}
    pictures = {name: _scaled(read_picture(folder / name), scale) for name in labels}
    settings = {"all steps": ALL_STEPS} | {f"without {name}": replace(ALL_STEPS, **{name: False}) for name in steps}
    return [
        Row(name, _scores(pictures, labels, _reader(runtime, reject_threshold, chosen))) for name, chosen in settings.items()
    ]


def read_labels(folder: Path) -> dict[str, list[TrueBox]]:
    """Return the true boxes of every photograph of `folder`, by file name."""
    path = folder / "labels.csv"
    rows = csv.DictReader(read_bytes(path, at_most=2**24).decode().splitlines())
    if not set(_COLUMNS) <= set(rows.fieldnames or ()):
        raise DatasetError(f"{path}: expected the columns {', '.join(_COLUMNS)}, got {rows.fieldnames}")
    labels: dict[str, list[TrueBox]] = {}
    try:
        for row in rows:
            x, y, w, h = (int(row[column]) for column in ("x", "y", "w", "h"))
            labels.setdefault(row["file"], []).append(TrueBox(x, y, w, h, row["label"], row["kind"]))
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{path}, line {rows.line_num}: {error}") from error
    return labels


def score(readings: list[DigitReading], boxes: list[TrueBox]) -> dict[str, Score]:
    """Compare what was read in one photograph with its true boxes; a score for each kind but print.

    Every reading belongs to one box at most, the nearest that holds it. In a row the readings from left to right are aligned
    with the label (least edits): a substituted digit is found and misread, an inserted one is a false report. A second reading
    in a digit's box is a false report, and so is one outside every box; that counts for the photograph's commonest kind.
    """
    accepted = [reading for reading in readings if reading.class_id is not None]
    kinds = [box.kind for box in boxes if box.kind != PRINTED]
    scores = {kind: Score() for kind in dict.fromkeys(kinds)}
    inside: dict[int, list[DigitReading]] = {index: [] for index in range(len(boxes))}
    outside = 0
    for reading in accepted:
        index = _nearest(boxes, reading.box)
        if index is None:
            outside += 1
        else:
            inside[index].append(reading)
    for index, box in enumerate(boxes):
        if box.kind != PRINTED:
            found = sorted(inside[index], key=lambda reading: reading.box[0] + reading.box[2] / 2)
            scores[box.kind] += _aligned("".join(str(reading.class_id) for reading in found), box.label)
    if kinds:
        scores[max(scores, key=kinds.count)] += Score(false_reports=outside)
    return scores


def format_table(rows: list[Row]) -> str:
    """Return the table as Markdown: for each kind, correct of all digits and false reports per digit."""
    kinds = list(rows[0].scores)
    lines = ["| steps | " + " | ".join(f"{kind}: found | correct | false" for kind in kinds) + " |"]
    lines.append("|---" * (1 + 3 * len(kinds)) + "|")
    for row in rows:
        cells = (
            f"{s.found}/{s.digits} | {s.correct}/{s.digits} = {100 * s.correct_share:.1f} % | {100 * s.false_share:.1f} %"
            for s in row.scores.values()
        )
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _scaled(picture: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    return picture if scale == 1 else resize(picture, (max(1, round(scale * height)), max(1, round(scale * width))))


def _reader(runtime: Runtime, reject_threshold: float, steps: Steps) -> Reader:
    return lambda image_bgr: read_digits(image_bgr, runtime, reject_threshold, steps)


def _scores(pictures: Mapping[str, NDArray[np.uint8]], labels: Mapping[str, list[TrueBox]], read: Reader) -> dict[str, Score]:
    total: dict[str, Score] = {}
    for name, picture in pictures.items():
        for kind, value in score(read(picture), labels[name]).items():
            total[kind] = total.get(kind, Score()) + value
    return total


def _nearest(boxes: list[TrueBox], read: tuple[int, int, int, int]) -> int | None:
    x, y = read[0] + read[2] / 2, read[1] + read[3] / 2
    holding = [index for index, box in enumerate(boxes) if box.holds(read)]
    away = {i: abs(x - boxes[i].x - boxes[i].w / 2) + abs(y - boxes[i].y - boxes[i].h / 2) for i in holding}
    return min(away, key=lambda index: away[index]) if away else None


def _aligned(read: str, truth: str) -> Score:
    """Align two strings with the least edits, the most equal characters among those."""
    # Each entry: (edits, -correct, -found) of the best alignment of two prefixes.
    rows = [[(j, 0, 0) for j in range(len(truth) + 1)]]
    for i, digit in enumerate(read, 1):
        row = [(i, 0, 0)]
        for j, wanted in enumerate(truth, 1):
            same = int(digit == wanted)
            edits, correct, found = rows[-1][j - 1]
            options = [(edits + 1 - same, correct - same, found - 1)]
            options += [(other[0] + 1, other[1], other[2]) for other in (rows[-1][j], row[j - 1])]
            row.append(min(options))
        rows.append(row)
    _, correct, found = rows[-1][-1]
    return Score(len(truth), -found, -correct, len(read) + found)
