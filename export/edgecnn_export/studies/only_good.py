"""How well a model of good parts alone tells damaged ones: every good part held out once, damaged ones only measured."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import GoodPartsInfo
from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.datasets.folder import good_task
from edgecnn.datasets.group_by import GroupBy
from edgecnn.datasets.layout import LabelledFile, find_good
from edgecnn.datasets.overlap_cache import known_overlaps
from edgecnn.datasets.reading import InputChoice, Picture, read_pictures
from edgecnn.errors import DatasetError
from edgecnn.folders import list_pictures
from edgecnn.metrics import Share
from edgecnn.preprocessing import Preprocessing
from edgecnn.rejection.good_parts import FALSE_ALARMS, with_threshold
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.good_parts import GoodPartsRuntime
from edgecnn.tasks import Task
from edgecnn.text import percent
from edgecnn_export.calibration_data import record_calibration
from edgecnn_export.exporter import export
from edgecnn_export.training.only_good import fit_only_good

DRAWS = 1000  # of parts with replacement, for an interval
_TO_FIT = 0.6  # of the good parts that are not held out; the others choose the threshold
ALL = "all"


Score = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
Fit = Callable[[Task, Splits, int], Score]


@dataclass(frozen=True, eq=False)
class OnlyGoodData:
    """Good parts and damaged ones by kind, each with groups: pictures of one group show the same part."""

    task: Task
    good: Dataset
    others: Mapping[str, Dataset]


@dataclass(frozen=True)
class KindRow:
    """Damaged parts of one kind: how many are called novel, and the AUROC against good parts with its 95 % interval."""

    kind: str
    found: Share
    auroc: float
    interval: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        return dataclasses.asdict(self) | {"found": self.found.to_json(), "interval": list(self.interval)}


@dataclass(frozen=True)
class OnlyGoodFigures:
    """What int8 files of good parts alone tell: `alarms` are false ones, of held-out good pictures; `promised` at most."""

    rows: tuple[KindRow, ...]
    alarms: Share
    promised: float
    parts: int

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        rows = [row.to_json() for row in self.rows]
        return {"kinds": rows, "false_alarms": self.alarms.to_json(), "promised": self.promised, "parts": self.parts}


def read_only_good(
    folder: Path, others: Sequence[Path], *, choice: InputChoice, group_by: GroupBy | None = None
) -> OnlyGoodData:
    """Read good parts in `folder` and damaged ones in `others`, each folder in them a kind; what lies in `folder` is left out.

    Without `group_by` good pictures are grouped by their overlaps, and each damaged one stands for itself. Raises DatasetError
    for a folder without pictures.
    """
    layout = find_good(folder)
    pictures = read_pictures(layout.files, choice)
    if not pictures.read:
        raise DatasetError(f"{folder} holds no picture that can be read")
    task = good_task(folder, pictures.preprocessing)
    kinds: dict[str, list[LabelledFile]] = defaultdict(list)
    for other in others:
        if not other.is_dir():
            raise DatasetError(f"{other} is no folder of damaged parts")
        for path in list_pictures(other).pictures:
            if not (other / path).resolve().is_relative_to(folder.resolve()):
                kind = path.parts[-2] if len(path.parts) > 1 else other.resolve().name
                kinds[kind].append(LabelledFile(other / path, path.as_posix(), kind))
    if not kinds:
        raise DatasetError(f"there are no damaged parts in {', '.join(map(str, others))}")
    found = {kind: _damaged(files, pictures.preprocessing, group_by) for kind, files in sorted(kinds.items())}
    return OnlyGoodData(task, _dataset(pictures.read, _groups(pictures.read, group_by, overlapping=True)), found)


def _damaged(files: Sequence[LabelledFile], preprocessing: Preprocessing, group_by: GroupBy | None) -> Dataset:
    read = read_pictures(files, preprocessing).read
    return _dataset(read, _groups(read, group_by))


def _groups(pictures: Sequence[Picture], group_by: GroupBy | None, *, overlapping: bool = False) -> NDArray[np.int64]:
    alone = np.arange(len(pictures))
    if group_by is not None:
        return group_by.join([picture.file for picture in pictures], alone)[0]
    if not overlapping:
        return alone
    ids = np.zeros(len(pictures), np.int64)
    return known_overlaps([picture.gray for picture in pictures], ids, [picture.sha256 for picture in pictures]).groups


def _dataset(pictures: Sequence[Picture], groups: NDArray[np.int64]) -> Dataset:
    images = np.stack([picture.image for picture in pictures])
    names, digests = zip(*((picture.file.name, picture.sha256) for picture in pictures), strict=True)
    return Dataset(images, np.zeros(len(images), np.int64), names, groups, digests)


def study_only_good(
    data: OnlyGoodData,
    *,
    folds: int = 2,
    false_alarms: float = FALSE_ALARMS,
    seed: int = 0,
    fit: Fit | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> OnlyGoodFigures:
    """Hold every good part out once, fit to the others, export to int8 and measure that file on it and on all damaged parts.

    Of the parts to fit to, 60 % make the bank and the others choose the threshold. `fit` is another way to score. The interval
    of the AUROC is the percentile bootstrap over parts. Raises DatasetError for less than three good parts a fold.
    """
    groups = _groups_of(data.good)
    parts = np.unique(groups)
    if len(parts) < 3 * folds:
        raise DatasetError(f"{len(parts)} good parts are too few for {folds} folds: at least {3 * folds} are needed")
    order = np.random.default_rng(seed).permutation(parts)
    good = np.empty(len(data.good))
    damaged: dict[str, list[NDArray[np.float64]]] = {kind: [] for kind in data.others}
    fold_of = np.empty(len(data.good), np.int64)
    promised = 0.0
    for fold in range(folds):
        splits = _splits(data.good, order[fold::folds], order)
        score = (fit or fit_int8)(data.task, splits, seed)
        info = with_threshold(_asked(false_alarms), score(splits.validation.images), splits.validation.groups)
        held_out = np.isin(groups, order[fold::folds])
        good[held_out], fold_of[held_out] = score(data.good.images[held_out]) / info.novel_above, fold
        for kind, pictures in data.others.items():
            damaged[kind].append(score(pictures.images) / info.novel_above)
        promised = max(promised, info.false_alarms)
        progress(f"{fold + 1} of {folds} folds done")
    ours = good, fold_of, groups
    rows = [_figures(kind, *ours, np.stack(damaged[kind]), _groups_of(data.others[kind]), seed) for kind in damaged]
    every = [(kind, group) for kind, pictures in data.others.items() for group in _groups_of(pictures).tolist()]
    number = {each: i for i, each in enumerate(dict.fromkeys(every))}
    scores = np.concatenate([np.stack(each) for each in damaged.values()], axis=1)
    rows.append(_figures(ALL, *ours, scores, np.array([number[each] for each in every]), seed))
    return OnlyGoodFigures(tuple(rows), Share(int((good > 1).sum()), len(good)), promised, len(parts))


def _splits(good: Dataset, held_out: NDArray[np.int64], order: NDArray[np.int64]) -> Splits:
    rest = order[~np.isin(order, held_out)]
    count = max(1, min(len(rest) - 1, round(_TO_FIT * len(rest))))
    train, validation, test = (
        good.take(np.flatnonzero(np.isin(_groups_of(good), each))) for each in (rest[:count], rest[count:], held_out)
    )
    return Splits(train, validation, test, SplitInfo("good parts", "by part"))


def fit_int8(task: Task, splits: Splits, seed: int) -> Score:
    """Fit a bank to the training pictures, and return how the int8 file scores pictures `(n, h, w, c)`."""
    return int8_runtime(task, splits, seed).scores


def int8_runtime(task: Task, splits: Splits, seed: int) -> GoodPartsRuntime:
    """Fit a bank to the training pictures, and run it behind the int8 file; its threshold is that of the float network."""
    reference = record_calibration(fit_only_good(task, splits, seed=seed), splits, seed)
    with tempfile.TemporaryDirectory() as folder:
        made = export(reference, out=Path(folder), formats=["tflite"], int8=True, seed=seed).files[-1]
        runtime = open_runtime(Artifact.open(made.path))
    assert isinstance(runtime, GoodPartsRuntime)
    return runtime


def _asked(false_alarms: float) -> GoodPartsInfo:
    """Return what is asked for, before anything is known of good parts."""
    return GoodPartsInfo("", 1.0, 1.0, wanted=false_alarms, false_alarms=false_alarms, parts=1, pictures=1)


def _groups_of(pictures: Dataset) -> NDArray[np.int64]:
    assert pictures.groups is not None
    return pictures.groups


def _figures(
    kind: str,
    good: NDArray[np.float64],
    fold_of: NDArray[np.int64],
    groups: NDArray[np.int64],
    scores: NDArray[np.float64],
    other_groups: NDArray[np.int64],
    seed: int,
) -> KindRow:
    """Compare novelties of good pictures `(n,)` with those of damaged ones `(folds, m)` by the model of the same fold."""
    theirs = scores[fold_of]
    wins = (theirs > good[:, None]) + 0.5 * (theirs == good[:, None])
    own, other = _members(groups), _members(other_groups)
    by_part, counts = own @ wins @ other.T, own.sum(axis=1)[:, None] * other.sum(axis=1)
    random = np.random.default_rng(seed)
    drawn = [_weighted(by_part, counts, random) for _ in range(DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    found = Share(float((scores > 1).mean(axis=0).sum()), scores.shape[1])
    return KindRow(kind, found, float(wins.mean()), (float(low), float(high)))


def _members(groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return which pictures are of each part, `(parts, n)`."""
    return np.asarray(np.unique(groups)[:, None] == groups, np.float64)


def _weighted(wins: NDArray[np.float64], counts: NDArray[np.float64], random: np.random.Generator) -> float:
    """Return the AUROC of parts drawn with replacement on both sides."""
    ours, theirs = (np.bincount(random.integers(size, size=size), minlength=size) for size in wins.shape)
    return float((ours @ wins @ theirs) / (ours @ counts @ theirs))


def format_table(found: OnlyGoodFigures) -> str:
    """Return a Markdown table, one row a kind of damage, and a line on false alarms."""
    lines = ["| damage | pictures | AUROC (95 % interval, by part) | called novel |", "|---|---|---|---|"]
    for row in found.rows:
        low, high = row.interval
        share = percent(row.found.value, row.found.interval)
        lines.append(f"| {row.kind} | {row.found.count} | {row.auroc:.3f} ({low:.3f} to {high:.3f}) | {share} |")
    alarms = percent(found.alarms.value, found.alarms.interval)
    lines.append(
        f"\nfalse alarms: {alarms} of {found.alarms.count} held-out good pictures of {found.parts} parts; promised: at most "
        f"{found.promised:.1%} of parts"
    )
    return "\n".join(lines)
