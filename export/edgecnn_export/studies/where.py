"""How well a model's maps point at what is marked: boxes in a table, masks beside the pictures, or patches pasted in."""

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
from edgecnn.rejection.good_parts import Guard
from edgecnn.rejection.threshold import draw_ood
from edgecnn.robustness.corruptions import Corruption, corrupt
from edgecnn.runtimes import Runtime
from edgecnn.runtimes.runtime import answer
from edgecnn.tasks import Task
from edgecnn.text import percent
from edgecnn.where import Map, enlarge, located_maps, novelty_maps

Marks = Mapping[str, NDArray[np.bool_]]
_COLUMNS = ("file", "class", "x", "y", "w", "h")
_BATCH = 64
_PER_KIND = 10  # pictures of each out-of-distribution kind that patches are cut from
_PATCH = 0.25, 0.5  # the sides of a patch, in sides of the picture


@dataclass(frozen=True)
class Pointing:
    """Of pictures of a class: how often the maximum of the map lies on a mark, by chance too, and the mean pixel AUROC.

    The same of the novelty map, None of a model without thresholds.
    """

    label: str
    pointing: Share
    chance: float
    pixel_auroc: float
    novelty_pointing: Share | None = None
    novelty_pixel_auroc: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        novelty = None if self.novelty_pointing is None else self.novelty_pointing.to_json()
        return dataclasses.asdict(self) | {"pointing": self.pointing.to_json(), "novelty_pointing": novelty}


def measure_where(
    runtime: Runtime,
    task: Task,
    dataset: Dataset,
    marks: Marks,
    *,
    evidence: Guard | None = None,
    corruption: Corruption | None = None,
    severity: int = 3,
    seed: int = 0,
) -> list[Pointing]:
    """Compare the map of the most probable class, and by `evidence` that of novelty, with the marks `(h, w)` of each picture.

    Marks are by file name. Returns a row for each class with marked pictures and one for all. Raises DatasetError where no
    picture has a mark, and InputError for a model without a map of features.
    """
    chosen = [i for i, name in enumerate(dataset.names) if _is_usable(marks.get(Path(name).name))]
    if not chosen:
        raise DatasetError("none of these pictures has a mark: are the names those of the picture files?")
    rows: dict[str, list[_Found]] = defaultdict(list)
    for at in range(0, len(chosen), _BATCH):
        part = chosen[at : at + _BATCH]
        images = dataset.images[part]
        images = images if corruption is None else corrupt(images, corruption, severity, seed)
        answers = answer(runtime, images)
        # Of good parts alone there is no other map than that of novelty.
        maps = [] if evidence is None else [novelty_maps(evidence, answers)]
        if not task.only_good:
            class_ids = answers.probabilities.argmax(axis=1).tolist()
            maps.insert(0, located_maps(runtime, evidence, images, answers, class_ids))
        for i, *own in zip(part, *maps, strict=True):
            mark = marks[Path(dataset.names[i]).name]
            found = tuple(_compare(each, mark, task.preprocessing.shape[:2]) for each in own)
            rows[task.labels[int(dataset.class_ids[i])]].append(_Found(float(mark.mean()), found))
    found_labels = [_row(label, rows[label]) for label in task.labels if label in rows]
    return [*found_labels, _row("all", [each for own in rows.values() for each in own])]


@dataclass(frozen=True)
class _Found:
    """The share of a picture that is marked, and of each map whether its maximum lies there, with its pixel AUROC."""

    marked: float
    maps: tuple[tuple[bool, float], ...]


def _compare(place_map: Map, mark: NDArray[np.bool_], input_hw: tuple[int, int]) -> tuple[bool, float]:
    whole = enlarge(place_map, input_hw, (mark.shape[1], mark.shape[0]))
    hit = bool(mark[np.unravel_index(int(whole.argmax()), mark.shape)])
    return hit, auroc(whole[mark].astype(np.float64), whole[~mark].astype(np.float64))


def _is_usable(mark: NDArray[np.bool_] | None) -> bool:
    return mark is not None and bool(mark.any()) and not bool(mark.all())


def _row(label: str, found: Sequence[_Found]) -> Pointing:
    figures: list[Any] = []
    for each in zip(*(own.maps for own in found), strict=True):
        hits, areas = zip(*each, strict=True)
        figures.append((Share(sum(hits), len(hits)), float(np.mean(areas))))
    (pointing, pixel_auroc), *rest = figures
    chance = float(np.mean([own.marked for own in found]))
    return Pointing(label, pointing, chance, pixel_auroc, *(rest[0] if rest else ()))


def paste_patches(task: Task, dataset: Dataset, seed: int) -> tuple[Dataset, Marks]:
    """Return the pictures with a patch of a generated out-of-distribution picture in each, and where it is.

    A patch has between a quarter and a half of either side; it is nothing that was taught, in the middle of what was.
    """
    drawn = np.concatenate(list(draw_ood(task, _PER_KIND, seed).values()))
    random = np.random.default_rng(seed)
    images, marks = dataset.images.copy(), {}
    for image, name in zip(images, dataset.names, strict=True):
        mark = np.zeros(image.shape[:2], np.bool_)
        patch = tuple(_span(side, random) for side in mark.shape)
        mark[patch], image[patch] = True, drawn[random.integers(len(drawn))][patch]
        marks[Path(name).name] = mark
    return dataclasses.replace(dataset, images=images), marks


def _span(side: int, random: np.random.Generator) -> slice:
    length = max(1, round(side * random.uniform(*_PATCH)))
    start = int(random.integers(side - length + 1))
    return slice(start, start + length)


def find_marks(task: Task, splits: Splits, boxes: Path | None, masks: Path | None) -> Marks:
    """Read the marks that a user names, or the `boxes.csv` in the folder of the data; InputError where there are none."""
    if masks is not None:
        if boxes is not None:
            raise InputError("--boxes and --masks both mark the pictures; give one of them")
        return read_masks(masks, task)
    if splits.folder is None:
        raise InputError("these pictures come from no folder, so that nothing marks them; give --data, --boxes or --masks")
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
    head = ["class", "pictures", "by chance", "pointing (95 % interval)", "pixel AUROC"]
    if rows[0].novelty_pointing is not None:
        head += ["novelty map: pointing", "pixel AUROC"]
    lines = [head, ["---"] * len(head), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Pointing) -> list[str]:
    cells = [row.label, str(row.pointing.count), f"{100 * row.chance:.1f} %"]
    for share, area in ((row.pointing, row.pixel_auroc), (row.novelty_pointing, row.novelty_pixel_auroc)):
        if share is not None:
            cells += [percent(share.value, share.interval), f"{area:.3f}"]
    return cells
