"""`report.html` of a training: how it went, what it gets wrong, which labels look wrong, and what to photograph next.

What is shown is bounded, however large the folder: pictures as small JPEGs, so many of each kind.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, Splits, rank_in_class
from edgecnn.errors import EdgecnnError
from edgecnn.files import write_bytes
from edgecnn.metrics import wilson_interval
from edgecnn.preprocessing import as_bgr
from edgecnn.runtimes.head import HeadRuntime, write_weights
from edgecnn.text import counted, percent, printable
from edgecnn.where import maps_by_weights, overlay
from edgecnn_export.pages import render
from edgecnn_export.place_weights import PICTURES, fit_place_weights
from edgecnn_export.reference import KerasFeatures
from edgecnn_export.studies.confusing import ConfusingPair, confusing_pairs
from edgecnn_export.studies.frozen import FILE_NAME as FEATURES_FILE
from edgecnn_export.studies.frozen import Frozen, freeze_features
from edgecnn_export.studies.learning_curve import ClassCurve, LearningCurve, learning_curve
from edgecnn_export.studies.suspects import Suspects, find_suspects
from edgecnn_export.training.balancing import few_of_each
from edgecnn_export.training.session import TrainingRun

FILE_NAME = "report.html"
MOST_PICTURES, SECONDS = 1000, 60.0  # that the studies behind the report look at, and for which they compute features
MOST_CLASSES, PER_CLASS = 20, 8  # of the contact sheet
MOST_MISTAKES = MOST_SUSPECTS = 24
MOST_SIBLINGS = 4  # shown of a suspect group
WORTH_A_POINT = 0.005  # of recall, rounded up a point: what a class named among those to photograph has to gain
FEW_GROUPS = 20  # of a class, to be called few
_SIDE, _QUALITY = 128, 80  # of a small picture
_CHART_WH = 320, 150


@dataclass(frozen=True, eq=False)
class Studies:
    """What was found about the pictures themselves."""

    frozen: Frozen
    suspects: Suspects
    pairs: tuple[ConfusingPair, ...]
    curve: LearningCurve


def write_report(
    run: TrainingRun,
    splits: Splits,
    *,
    seed: int = 0,
    most: int = MOST_PICTURES,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Study the pictures of a training, at most `most` of them, write `report.html` into its folder, and return its path.

    Features are computed for about `seconds`; the rest takes about as long again at most. What cannot be studied, because
    the pictures are too small for the pretrained network or its package is missing, is said on the page.
    """
    studies: Studies | str
    try:
        studies = study(run, splits, seed=seed, most=most, seconds=seconds, clock=clock)
    except EdgecnnError as error:
        studies = str(error)
    path = run.folder / FILE_NAME
    write_bytes(path, render_report(run, splits, studies, seed=seed).encode())
    return path


def study(
    run: TrainingRun, splits: Splits, *, seed: int, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Studies:
    """Find suspects, confusing pairs and learning curves among the pictures of a training."""
    cache = run.folder / FEATURES_FILE
    frozen = freeze_features(run.reference.task, splits, cache=cache, most=most, seconds=seconds, seed=seed, clock=clock)
    suspects = find_suspects(frozen, seed=seed)
    return Studies(frozen, suspects, confusing_pairs(frozen, suspects.answers), learning_curve(frozen, seed=seed))


def render_report(run: TrainingRun, splits: Splits, studies: Studies | str, *, seed: int = 0) -> str:
    """Return the page; `studies` is a sentence where there are none, which says why."""
    known = None if isinstance(studies, str) else studies
    return render(
        Path(__file__).with_name(FILE_NAME),
        name=printable(run.reference.task.name),
        accuracy=percent(run.validation_accuracy, run.validation_interval),
        about=_about(run, splits),
        synthetic=splits.info.synthetic,
        absent="" if known else f"Not studied: {printable(str(studies))}.",
        next=[printable(line) for line in what_next(run, splits, known)],
        classes=_class_rows(run, splits),
        charts=_training_charts(run),
        best=run.record["best_epoch"],
        sheet=_sheet(run, splits.train, seed),
        divided=_division(run, splits),
        mistakes=_mistakes(run, splits.train, splits.validation),
        suspects=_suspects(known) if known else [],
        suspects_about=printable(known.suspects.about()) if known else "",
        pairs=_pairs(known) if known else [],
        curves=_curve_rows(known.curve) if known else [],
        curve_chart=_curve_chart(known.curve) if known else None,
        studied=_studied(known) if known else "",
        network=_network(run),
    )


def what_next(run: TrainingRun, splits: Splits, studies: Studies | None) -> list[str]:
    """Say what would help most, the most urgent first: labels to look at, classes to photograph, more training."""
    lines = []
    if studies and (found := studies.suspects.found):
        lines.append(f"Look at the {counted(len(found), 'label')} under Suspects, beginning with {found[0].title}.")
    lines += [
        f"Photograph {label} on other parts or days: it has no picture to be measured by." for label in run.unmeasured_classes
    ]
    if studies:
        worth = [one for one in studies.curve.classes if one.gain is not None and one.gain >= WORTH_A_POINT]
        lines += [f"Photograph {one.advice()}." for one in worth[:3]]
        lines += [
            f"Photograph {pair.first} and {pair.second} side by side, where they look alike: "
            f"{counted(pair.first_as_second + pair.second_as_first, 'picture')} taken for the other."
            for pair in studies.pairs[:1]
        ]
        few = [one for one in studies.curve.classes if one.groups < FEW_GROUPS]
        lines += [
            f"Photograph more different parts of {one.label}: there are {one.groups}." for one in few[:3] if one not in worth
        ]
    if run.record["still_rising"]:
        lines.append("Train longer: the last epochs still brought much (--minutes, --epochs).")
    return lines or ["Nothing stands out. Photograph what the camera will see on other days: another light, another batch."]


def _about(run: TrainingRun, splits: Splits) -> str:
    record = run.record["validation"]
    return printable(
        f"{run.correct} of {run.count} pictures of {splits.info.describe('validation')}; mean recall of the classes "
        f"{100 * record['macro_recall']:.1f} %. The best epoch was chosen by these pictures; the test "
        f"pictures say how good it is (edgecnn evaluate {run.folder} --split test)."
    )


def _class_rows(run: TrainingRun, splits: Splits) -> list[dict[str, Any]]:
    """Return recall with its interval for each class; the interval counts groups, which err together."""
    confusion, labels = np.array(run.record["validation"]["confusion"]), run.reference.task.labels
    rows = []
    for i, label in enumerate(labels):
        count, right = int(confusion[i].sum()), int(confusion[i, i])
        groups = _groups(splits.validation, i)
        low, high = wilson_interval(right / max(count, 1) * groups, groups)
        wrong = [(int(n), printable(labels[j])) for j, n in enumerate(confusion[i]) if n and j != i]
        rows.append(
            {
                "label": printable(label),
                "count": count,
                "groups": groups,
                "right": right,
                "recall": f"{100 * right / count:.0f} %" if count else "not measured",
                "interval": f"{100 * low:.0f} to {100 * high:.0f}" if count else "",
                "share": round(100 * right / count) if count else 0,
                "wrong": ", ".join(f"{n} as {other}" for n, other in sorted(wrong, reverse=True)[:3]),
            }
        )
    return rows


def _groups(part: Dataset, class_id: int) -> int:
    own = part.class_ids == class_id
    return int(own.sum()) if part.groups is None else len(np.unique(part.groups[own]))


def _division(run: TrainingRun, splits: Splits) -> dict[str, Any]:
    names = ("train", "validation", "test")
    rows = [
        [printable(label), *(f"{int((splits[name].class_ids == i).sum())} in {_groups(splits[name], i)}" for name in names)]
        for i, label in enumerate(run.reference.task.labels)
    ]
    return {"names": names, "rows": rows, "rule": printable(splits.info.rule), "folder": printable(splits.info.source)}


def _training_charts(run: TrainingRun) -> list[dict[str, Any]]:
    kinds = (("", "training"), ("validation_", "validation"), ("camera_", "validation, seen by a camera"))
    charts = []
    for quantity in ("loss", "accuracy"):
        series = [
            (
                label,
                [(entry["epoch"], entry[prefix + quantity]) for entry in run.record["history"] if prefix + quantity in entry],
            )
            for prefix, label in kinds
        ]
        charts.append(_chart(f"{quantity} by epoch", [one for one in series if one[1]]))
    return charts


def _chart(title: str, series: Sequence[tuple[str, Sequence[tuple[float, float]]]], *, log: bool = False) -> dict[str, Any]:
    """Return lines as points of a drawing, with the ends of both axes."""
    width, height = _CHART_WH
    place = math.log if log else float
    points = [point for _, own in series for point in own]
    lowest_x, highest_x = min((x for x, _ in points), default=1), max((x for x, _ in points), default=1)
    lowest_y, highest_y = min((y for _, y in points), default=0), max((y for _, y in points), default=1)
    across, up = (place(highest_x) - place(lowest_x)) or 1, (highest_y - lowest_y) or 1
    lines = [
        {
            "label": printable(label),
            "points": [
                (
                    round((place(x) - place(lowest_x)) / across * width, 1),
                    round(height - (y - lowest_y) / up * height, 1),
                )
                for x, y in own
            ],
        }
        for label, own in series
    ]
    return {
        "title": title,
        "lines": lines,
        "x": (f"{lowest_x:.0f}", f"{highest_x:.0f}"),
        "y": (f"{lowest_y:.3g}", f"{highest_y:.3g}"),
        "width": width,
        "height": height,
    }


def _curve_chart(curve: LearningCurve) -> dict[str, Any]:
    series = [
        (one.label, list(zip(one.counts, (100 * r for r in one.recalls), strict=True))) for one in curve.classes if one.counts
    ]
    return _chart("recall in % by pictures learned from", series, log=True)


def _curve_rows(curve: LearningCurve) -> list[dict[str, str]]:
    return [
        {
            "label": printable(one.label),
            "pictures": str(one.pictures),
            "measured": ", ".join(f"{100 * r:.0f} % of {n:.0f}" for n, r in zip(one.counts, one.recalls, strict=True)),
            "advice": printable(_gain(one)),
        }
        for one in curve.classes
    ]


def _gain(one: ClassCurve) -> str:
    return one.advice().removeprefix(f"{one.label}: ").replace(f" more pictures of {one.label}", " more pictures", 1)


def _sheet(run: TrainingRun, train: Dataset, seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    rows = []
    for class_id in np.unique(train.class_ids)[:MOST_CLASSES]:
        own = random.permutation(np.flatnonzero(train.class_ids == class_id))[:PER_CLASS]
        rows.append(
            {
                "label": printable(run.reference.task.labels[class_id]),
                "pictures": [_figure(train.images[i], train.names[i]) for i in own],
            }
        )
    return rows


def _mistakes(run: TrainingRun, train: Dataset, validation: Dataset) -> dict[str, Any]:
    """Return the validation pictures that were read wrongly, the surest first, one of each group before their siblings."""
    probabilities = run.reference.runtime().run(validation.images)
    answers = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(answers != validation.class_ids)
    wrong = wrong[np.argsort(-probabilities[wrong, answers[wrong]], kind="stable")]
    repeats = rank_in_class(wrong if validation.groups is None else validation.groups[wrong])
    shown = wrong[np.argsort(repeats > 0, kind="stable")][:MOST_MISTAKES]
    maps = place_maps(run.reference.model, train, validation.images[shown], answers[shown]) if len(shown) else None
    labels = run.reference.task.labels
    pictures = []
    for at, i in enumerate(shown):
        seen = as_bgr(validation.images[i])
        where = None if maps is None else thumbnail(overlay(seen, maps[at], (seen.shape[0], seen.shape[1])))
        pictures.append(
            _figure(validation.images[i], validation.names[i])
            | {
                "where": where,
                "given": printable(labels[validation.class_ids[i]]),
                "answer": printable(labels[answers[i]]),
                "probability": f"{probabilities[i, answers[i]]:.0%}",
            }
        )
    return {"count": len(wrong), "of": len(validation), "pictures": pictures}


def place_maps(
    model: keras.Model, train: Dataset, images: NDArray[np.uint8], class_ids: NDArray[np.int64]
) -> list[NDArray[np.float32]] | None:
    """Return for each of `(n, h, w, c)` pictures where it speaks for a class, `(h, w)`; None for a network that has no map.

    It has one where it ends in the mean over all places and a dense layer: see `edgecnn.where`. As in an export, training
    pictures of these classes teach which places those are.
    """
    if len(model.layers) < 2 or not isinstance(model.layers[-2], keras.layers.GlobalAveragePooling2D):
        return None
    kernel, bias = model.layers[-1].get_weights()
    height, width, channels = images.shape[1:]
    features = KerasFeatures(model, (height, width, channels))
    runtime = HeadRuntime(features, write_weights(kernel, bias), len(kernel))
    of_class = train.take(np.flatnonzero(np.isin(train.class_ids, class_ids)))
    few = of_class.take(few_of_each(of_class.class_ids, PICTURES, 0))
    weights = fit_place_weights(runtime, few, len(bias))
    return maps_by_weights(runtime, weights, images, runtime.answer(images), class_ids.tolist())


def _suspects(studies: Studies) -> list[dict[str, Any]]:
    pool = studies.frozen.pool
    return [
        {
            "pictures": [
                _figure(pool.images[i], name) for i, name in zip(one.indices[:MOST_SIBLINGS], one.names, strict=False)
            ],
            "name": printable(one.title),
            "given": printable(one.given),
            "likely": printable(one.likely),
            "why": one.why(),
            "nearest": [
                _figure(pool.images[near.index], near.name)
                | {"label": printable(near.label), "likeness": f"{near.likeness:.2f}"}
                for near in one.nearest
            ],
        }
        for one in studies.suspects.found[:MOST_SUSPECTS]
    ]


def _pairs(studies: Studies) -> list[dict[str, Any]]:
    pool = studies.frozen.pool
    return [
        {
            "first": printable(pair.first),
            "second": printable(pair.second),
            "counts": f"{pair.first_as_second} of {printable(pair.first)} taken for {printable(pair.second)}, "
            f"{pair.second_as_first} the other way round",
            "pictures": [
                (_figure(pool.images[i], pool.names[i]), _figure(pool.images[j], pool.names[j]), f"{likeness:.2f}")
                for i, j, likeness in pair.pictures
            ],
        }
        for pair in studies.pairs
    ]


def _studied(studies: Studies) -> str:
    left = f"; {counted(studies.frozen.left_out, 'picture')} left out" if studies.frozen.left_out else ""
    return (
        f"{counted(len(studies.frozen.pool), 'picture')}{left}. A linear head on features of a network pretrained on ImageNet, "
        "which has never seen these labels, asked only about groups that it was not fitted to."
    )


def _network(run: TrainingRun) -> list[tuple[str, str]]:
    record = run.record
    height, width, channels = run.reference.task.preprocessing.shape
    pretrained = record["pretrained"]
    rows = [
        ("Network", f"{record['model']}, {record['parameters']:,} parameters"),
        ("Input", f"{height} x {width}, {'gray' if channels == 1 else 'color'}, by {run.reference.task.preprocessing.fit}"),
        ("Weights before", "random" if pretrained is None else f"{pretrained['name']}, {pretrained['license']}"),
        ("Trained", f"{record['history'][-1]['epoch']} epochs, best {record['best_epoch']}, seed {record['seed']}"),
        ("On", f"{record['device']}, {record['precision']}"),
    ]
    if (choice := record.get("choice")) is not None:
        rows.insert(1, ("Why", choice["reason"]))
    return [(name, printable(value)) for name, value in rows]


def _figure(image: NDArray[np.uint8], name: str) -> dict[str, Any]:
    return {"picture": thumbnail(as_bgr(image)), "name": printable(name)}


def thumbnail(image_bgr: NDArray[np.uint8]) -> str:
    """Return a picture, gray `(h, w, 1)` or BGR `(h, w, 3)` uint8, as the data URL of a small JPEG."""
    scale = _SIDE / max(image_bgr.shape[:2])
    size = max(1, round(image_bgr.shape[1] * scale)), max(1, round(image_bgr.shape[0] * scale))
    small = cv2.resize(image_bgr, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
