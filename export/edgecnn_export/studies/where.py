"""How well a model's class map points at what was marked: boxes in a table, or masks beside the pictures."""

from __future__ import annotations

import csv
import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import DatasetError, InputError
from edgecnn.metrics import Share, auroc
from edgecnn.pictures import read_picture
from edgecnn.robustness.corruptions import Corruption, corrupt
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.runtime import answer
from edgecnn.tasks import Task
from edgecnn.text import percent
from edgecnn.where import enlarge, pixel_maps

Marks = Mapping[str, NDArray[np.bool_]]
_COLUMNS = ("file", "class", "x", "y", "w", "h")
_BATCH = 64


@dataclass(frozen=True)
class Pointing:
    """Of pictures of a class: how often the maximum of the map lies on a mark, by chance too, and the mean pixel AUROC."""

    label: str
    pointing: Share
    chance: float
    pixel_auroc: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        return dataclasses.asdict(self) | {"pointing": self.pointing.to_json()}


def measure_where(
    runtime: Runtime,
    task: Task,
    dataset: Dataset,
    marks: Marks,
    *,
    corruption: Corruption | None = None,
    severity: int = 3,
    seed: int = 0,
) -> list[Pointing]:
    """Compare the map of the most probable class with the marks `(h, w)` of each picture, by its file name.

    Returns a row for each class with marked pictures and one for all. Raises DatasetError where no picture has a mark, and
    InputError for a model without a map of features.
    """
    chosen = [i for i, name in enumerate(dataset.names) if _is_usable(marks.get(Path(name).name))]
    if not chosen:
        raise DatasetError("none of these pictures has a mark: are the names those of the picture files?")
    rows: dict[str, list[tuple[bool, float, float]]] = defaultdict(list)
    for at in range(0, len(chosen), _BATCH):
        part = chosen[at : at + _BATCH]
        images = dataset.images[part]
        images = images if corruption is None else corrupt(images, corruption, severity, seed)
        answers = answer(runtime, images)
        maps = pixel_maps(runtime, images, answers, answers.probabilities.argmax(axis=1).tolist())
        for i, place_map in zip(part, maps, strict=True):
            mark = marks[Path(dataset.names[i]).name]
            whole = enlarge(place_map, task.preprocessing.shape[:2], (mark.shape[1], mark.shape[0]))
            hit = bool(mark[np.unravel_index(int(whole.argmax()), mark.shape)])
            area = auroc(whole[mark].astype(np.float64), whole[~mark].astype(np.float64))
            rows[task.labels[int(dataset.class_ids[i])]].append((hit, float(mark.mean()), area))
    found = [_row(label, rows[label]) for label in task.labels if label in rows]
    return [*found, _row("all", [each for own in rows.values() for each in own])]


def _is_usable(mark: NDArray[np.bool_] | None) -> bool:
    return mark is not None and bool(mark.any()) and not bool(mark.all())


def _row(label: str, found: Sequence[tuple[bool, float, float]]) -> Pointing:
    hits, areas, aurocs = zip(*found, strict=True)
    return Pointing(label, Share(sum(hits), len(hits)), float(np.mean(areas)), float(np.mean(aurocs)))


def find_marks(task: Task, splits: Splits, boxes: Path | None, masks: Path | None) -> Marks:
    """Read the marks that a user names, or the `boxes.csv` in the folder of the data; InputError where there are none."""
    if masks is not None:
        if boxes is not None:
            raise InputError("--boxes and --masks both mark the pictures; give one of them")
        return read_masks(masks, task)
    if splits.folder is None:
        raise InputError("these pictures lie in no folder, so that nothing marks them; give --data, --boxes or --masks")
    table = boxes or splits.folder / "boxes.csv"
    if not table.is_file():
        raise InputError(f"there is no {table}; give --boxes TABLE or --masks FOLDER")
    pictures = {path.name: path for path in splits.folder.rglob("*.*") if path.is_file()}
    return read_boxes(table, task, pictures)


def read_boxes(table: Path, task: Task, pictures: Mapping[str, Path]) -> Marks:
    """Read boxes `file,class,x,y,w,h` in pixels of the `pictures`, which are known by name.

    InputError for a table of other columns or rows. A picture's boxes of another class than its own are left out.
    """
    marks: dict[str, NDArray[np.uint8]] = {}
    with table.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        if not set(_COLUMNS) <= set(reader.fieldnames or ()):
            raise InputError(f"{table} has the columns {', '.join(reader.fieldnames or ())}; expected {', '.join(_COLUMNS)}")
        for number, row in enumerate(reader, start=2):
            name = row["file"]
            if name not in pictures or pictures[name].parent.name != row["class"]:
                continue
            try:
                x, y, w, h = (int(row[column]) for column in _COLUMNS[2:])
            except ValueError as error:
                raise InputError(f"{table}, line {number}: a box must be four whole numbers") from error
            if name not in marks:
                marks[name] = np.zeros(read_picture(pictures[name]).shape[:2], np.uint8)
            mark = marks[name]
            mark[max(0, y) : y + h, max(0, x) : x + w] = 255
    return {name: _seen(task, mark) for name, mark in marks.items()}


def read_masks(folder: Path, task: Task) -> Marks:
    """Read masks, pictures in folders as the pictures themselves lie, not black where the mark is; by `NAME.jpg` and so on."""
    marks: dict[str, NDArray[np.bool_]] = {}
    for path in sorted(folder.rglob("*.png")):
        seen = _seen(task, read_picture(path))
        marks |= {f"{path.stem}{suffix}": seen for suffix in (".jpg", ".jpeg", ".png", ".bmp")}
    if not marks:
        raise InputError(f"{folder} holds no masks (.png)")
    return marks


def _seen(task: Task, mark: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return a mark as large as the model's input, fitted to it as the picture is."""
    gray = mark if mark.ndim == 2 else mark.max(axis=2)
    shown = task.preprocessing(np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8))
    return np.asarray(shown.max(axis=2) > 127)


def format_table(rows: Sequence[Pointing]) -> str:
    """Return a Markdown table, one row a class."""
    lines = ["| class | pictures | pointing (95 % interval) | by chance | pixel AUROC |", "|---|---|---|---|---|"]
    for row in rows:
        share = percent(row.pointing.value, row.pointing.interval)
        lines.append(f"| {row.label} | {row.pointing.count} | {share} | {100 * row.chance:.1f} % | {row.pixel_auroc:.3f} |")
    return "\n".join(lines)
