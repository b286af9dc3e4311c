"""Whether a new model may take the place of an old one: both answer the same pictures, and the pairs decide.

Runs on a board: it needs the runtimes of exported files, and no TensorFlow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier, Prediction
from edgecnn.datasets.group_by import parse_group_by
from edgecnn.datasets.layout import GOOD, OTHERS, find_good, find_layout
from edgecnn.datasets.split_table import read_splits_table
from edgecnn.errors import DatasetError, InputError
from edgecnn.files import read_bytes
from edgecnn.folders import list_all
from edgecnn.pictures import MAX_FILE_BYTES, decode_picture
from edgecnn.progress import note, report
from edgecnn.samples.folder import group_events, read_samples
from edgecnn.samples.labels import BAD, LabelLog
from edgecnn.text import counted
from edgecnn_export.parity.statistics import drop_bound, grouped_drop_bound, mcnemar_p, pictures_to_decide

Verdict = Literal["better", "no worse", "worse", "undecided"]
EXIT_CODES: dict[Verdict, int] = {"better": 0, "no worse": 0, "worse": 1, "undecided": 3}
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledPicture:
    """A picture with what it shows, `_other` for none of the classes; pictures of one `group` err together.

    `is_chosen` says that a camera kept it for the old model's doubt: such pictures are against the old model from the start.
    """

    path: Path
    label: str
    group: str | None = None
    is_chosen: bool = False


@dataclass(frozen=True)
class Paired:
    """How often something holds of the old and the new model's answers to the same `count` pictures.

    `gain` is new minus old, as shares; each end of `interval` is a one-sided bound at the confidence of the comparison. `lost`
    and `gained` are the pictures on which it holds of one model alone.
    """

    name: str
    count: int
    old: float
    new: float
    interval: tuple[float, float]
    lost: int
    gained: int

    @property
    def gain(self) -> float:
        """How much more often it holds of the new model."""
        return self.new - self.old

    def judge(self, margin: float) -> Verdict:
        """Say what the interval proves of something that ought to hold often; `margin` is the loss that is allowed."""
        low, high = self.interval
        if low > 0:
            return "better"
        if low >= -margin:
            return "no worse"
        return "worse" if high < 0 else "undecided"

    def to_json(self) -> dict[str, Any]:
        """Return the figures with plain numbers."""
        head = {"pictures": self.count, "old": self.old, "new": self.new, "gain": self.gain}
        return head | {"interval": list(self.interval), "lost": self.lost, "gained": self.gained}


@dataclass(frozen=True)
class Comparison:
    """What two models make of the same pictures.

    `decides` names the row of `overall` that the verdict rests on; `classes` are the shares recognised by class, at a
    confidence that holds for all of them together; `chosen` are pictures that the old model doubted: shown, they do not decide.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    decides: str
    overall: dict[str, Paired]
    classes: dict[str, Paired]
    chosen: dict[str, Paired]
    confidence: float
    max_drop: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return everything with plain numbers."""
        parts = {"overall": self.overall, "classes": self.classes, "chosen": self.chosen}
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "decides": self.decides,
            "confidence": self.confidence,
            "max_drop": self.max_drop,
            "notes": list(self.notes),
            **{name: {key: row.to_json() for key, row in part.items()} for name, part in parts.items()},
        }


@dataclass(frozen=True, eq=False)
class _Answered:
    """What one model said of pictures with labels, each `(n,)`."""

    right: Bools
    named: Bools
    unsure: Bools
    novel: Bools

    def take(self, which: Bools) -> _Answered:
        return _Answered(*(getattr(self, name)[which] for name in ("right", "named", "unsure", "novel")))


def find_pictures(
    data: Path, *, group_by: Path | str | None = None, splits: Sequence[Path] = (), only_good: bool = False
) -> list[LabelledPicture]:
    """Return the pictures of class folders, and those in `_other`.

    Of a folder that its owner divided it is the test part. What a table of `splits` names as trained on or chosen by is left
    out, by its content. For models that know good parts only, these lie in `good`, and what lies in any other folder is of no
    class. Raises DatasetError for no such folder, or where nothing is left.
    """
    if only_good and not (data / GOOD).is_dir():
        raise DatasetError(f"{data} has no folder {GOOD!r}: good parts belong in it, damaged ones in any folders beside it")
    layout = find_good(data / GOOD) if only_good else find_layout(data)
    files = [file for file in layout.files if not layout.divided or file.part == "test"]
    if layout.divided:
        note(f"{data} is divided by its owner: its test part is compared on")
    groups: list[str | None] = [None] * len(files)
    if group_by is not None:
        joined, remark = parse_group_by(group_by).join(files, np.arange(len(files)))
        groups = [str(group) for group in joined.tolist()]
        note(remark)
    pictures = [LabelledPicture(file.path, file.label, group) for file, group in zip(files, groups, strict=True)]
    strangers = [data / OTHERS] if (data / OTHERS).is_dir() else []
    if only_good:
        strangers = [folder for folder in sorted(data.iterdir()) if folder.is_dir() and folder.name != GOOD]
    pictures += [LabelledPicture(path, OTHERS) for path in list_all(strangers).pictures]
    seen = {row.sha256 for path in splits for row in read_splits_table(path) if row.split != "test"}
    kept = [each for each in pictures if not seen or _digest(each.path) not in seen]
    if len(kept) < len(pictures):
        note(f"{counted(len(pictures) - len(kept), 'picture')} left out: a model was trained on them, or chosen by them")
    if not kept:
        raise DatasetError(f"no picture of {data} is left to compare on")
    return kept


def find_field_pictures(folder: Path) -> list[LabelledPicture]:
    """Return the labelled samples of a camera's folder whose picture is there; InputError where there are none."""
    found, labels = read_samples(folder), LabelLog(folder).read()
    events = group_events(found.samples)
    pictures = [
        LabelledPicture(sample.picture, labels.of[sample.name].label, events[sample.name], "random" not in sample.reasons)
        for sample in found.samples
        if sample.picture is not None and sample.name in labels.of and labels.of[sample.name].label != BAD
    ]
    if not pictures:
        raise InputError(f"{folder} has no labelled picture; label some with: edgecnn review {folder}")
    return pictures


def compare_models(
    old: Classifier,
    new: Classifier,
    pictures: Sequence[LabelledPicture],
    *,
    max_drop: float = 1.0,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Let two models answer the same pictures and judge the new one.

    `max_drop` is the loss in percentage points that still counts as no worse. What decides is the share of pictures of the
    classes that get their right label; where only one of the models has thresholds, the share whose most probable class is
    right. The new model is worse, too, when it surely recognises a class less often, or surely gives labels to more pictures of
    no class. Raises InputError when the models have no class in common.
    """
    notes = _notes(old, new, {each.label for each in pictures})
    known = {*old.labels, *new.labels, OTHERS}
    usable = [each for each in pictures if each.label in known]
    if len(usable) < len(pictures):
        strange = sorted({each.label for each in pictures} - known)
        notes.append(f"left out: {counted(len(pictures) - len(usable), 'picture')} of {', '.join(strange)}, in neither model")
    if not usable:
        named = ", ".join(sorted(known - {OTHERS}))
        raise InputError(f"there is no picture to compare on: folders must bear names of classes ({named}), or {OTHERS}")
    answered = _answer_all((old, new), usable)
    usable = [each for each, _ in answered]
    labels = np.array([each.label for each in usable], object)
    said = tuple(_judge([pair[i] for _, pair in answered], labels) for i in range(2))
    groups = np.unique([each.group or f"={i}" for i, each in enumerate(usable)], return_inverse=True)[1]
    is_class, fair = labels != OTHERS, np.array([not each.is_chosen for each in usable], bool)

    def rows(which: Bools, level: float = confidence) -> dict[str, Paired]:
        return _rows((said[0].take(which), said[1].take(which)), groups[which], level, seed)

    overall = rows(is_class & fair)
    strangers = rows(~is_class & fair)
    if "label given" in strangers:
        overall["of no class, accepted"] = strangers["label given"]
    present = [label for label in dict.fromkeys((*old.labels, *new.labels)) if (fair & (labels == label)).any()]
    level = 1 - (1 - confidence) / max(1, len(present))
    classes = {label: rows(fair & (labels == label), level)["right"] for label in present}
    both = (old.evidence is None) == (new.evidence is None)
    decides = "right label given" if both and old.unsure_below is not None else "right"
    verdict, reasons = _decide(overall, classes, decides, max_drop / 100, confidence)
    return Comparison(verdict, reasons, decides, overall, classes, rows(is_class & ~fair), confidence, max_drop, tuple(notes))


def _decide(
    overall: dict[str, Paired], classes: dict[str, Paired], decides: str, margin: float, confidence: float
) -> tuple[Verdict, tuple[str, ...]]:
    if decides not in overall:
        return "undecided", ("there is no labelled picture that was not chosen for the old model's doubt",)
    row = overall[decides]
    verdict = row.judge(margin)
    reasons = []
    if verdict == "undecided":
        enough = pictures_to_decide(row.lost, row.gained, row.count, margin, confidence)
        hint = "" if enough is None else f"; about {enough} pictures would decide it, if these are like them"
        reasons.append(f"{counted(row.count, 'picture')} are too few{hint}")
    vetoes = [f"{name} is surely recognised less often" for name, each in classes.items() if each.interval[1] < 0]
    accepted = overall.get("of no class, accepted")
    if accepted is not None and accepted.interval[0] > 0:
        vetoes.append("more pictures of no class surely get a label")
    return ("worse" if vetoes else verdict), (*vetoes, *reasons)


def _rows(said: tuple[_Answered, _Answered], groups: NDArray[np.int64], confidence: float, seed: int) -> dict[str, Paired]:
    measures = {
        "right": [each.right for each in said],
        "right label given": [each.right & each.named for each in said],
        "wrong label given": [~each.right & each.named for each in said],
        "label given": [each.named for each in said],
        "unsure": [each.unsure for each in said],
        "novel": [each.novel for each in said],
    }
    if not len(groups):
        return {}
    return {name: _paired(name, (old, new), groups, confidence, seed) for name, (old, new) in measures.items()}


def _paired(name: str, pair: tuple[Bools, Bools], groups: NDArray[np.int64], confidence: float, seed: int) -> Paired:
    old, new = pair
    differences = old.astype(np.int64) - new
    lost, gained, count = int((differences > 0).sum()), int((differences < 0).sum()), len(old)
    worst, best = drop_bound(lost, gained, count, confidence), drop_bound(gained, lost, count, confidence)
    if len(np.unique(groups)) < count:
        worst = max(worst, grouped_drop_bound(differences, groups, confidence, seed))
        best = max(best, grouped_drop_bound(-differences, groups, confidence, seed))
    if mcnemar_p(lost, gained) / 2 > 1 - confidence:  # the score test is too sure of three pictures
        worst, best = max(worst, 0.0), max(best, 0.0)
    return Paired(name, count, float(old.mean()), float(new.mean()), (-worst, best), lost, gained)


def _notes(old: Classifier, new: Classifier, shown: Set[str]) -> list[str]:
    """Return what a reader should know of models whose classes or thresholds differ; `shown` are the labels of the pictures."""
    if not set(old.labels) & set(new.labels):
        theirs = f"the old one knows {', '.join(old.labels)}, the new one {', '.join(new.labels)}"
        raise InputError(f"the models have no class in common: {theirs}")
    notes = []
    more = [label for label in new.labels if label not in old.labels]
    gone = [label for label in old.labels if label not in new.labels]
    for what, labels in (("also knows {}: the old one", more), ("does not know {}: it", gone)):
        if measured := [label for label in labels if label in shown]:
            notes.append(f"the new model {what.format(', '.join(measured))} is wrong on them all")
    if unseen := [label for label in (*more, *gone) if label not in shown]:
        notes.append(f"not measured, for lack of test pictures: {', '.join(unseen)}, which only one of the models knows")
    if (old.evidence is None) != (new.evidence is None):
        notes.append("only one of the models tells what is novel: the most probable class is compared, whatever gets a label")
    return notes


def _answer_all(
    models: Sequence[Classifier], pictures: Sequence[LabelledPicture]
) -> list[tuple[LabelledPicture, list[tuple[str, Prediction]]]]:
    """Let the models answer one picture at a time: a folder of photographs does not fit into a board's memory."""
    found = []
    for done, each in enumerate(pictures):
        report("comparing on pictures", done, len(pictures))
        try:
            image = decode_picture(read_bytes(each.path, at_most=MAX_FILE_BYTES), name=str(each.path))
        except InputError as error:
            note(f"left out: {error}")
            continue
        predictions = [model.classify([image])[0] for model in models]
        found.append((each, [(m.labels[p.class_id], p) for m, p in zip(models, predictions, strict=True)]))
    report("comparing on pictures", len(pictures), len(pictures))
    if not found:
        raise InputError("there is no picture to compare on")
    return found


def _judge(said: Sequence[tuple[str, Prediction]], labels: NDArray[np.object_]) -> _Answered:
    verdicts = np.array([prediction.verdict for _, prediction in said])
    right = np.array([guess == label for (guess, _), label in zip(said, labels, strict=True)], bool)
    return _Answered(right, verdicts == "label", verdicts == "unsure", verdicts == "novel")


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bytes(path, at_most=MAX_FILE_BYTES)).hexdigest()
