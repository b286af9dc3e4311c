"""The training pictures that a model finds most like a sample: shown beside it where their folder is there."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.classifier import artifact_path
from edgecnn.datasets.layout import LabelledFile, find_layout
from edgecnn.datasets.split_table import FILE_NAME, place_of, read_splits_table
from edgecnn.errors import InputError
from edgecnn.files import read_bytes
from edgecnn.pictures import MAX_FILE_BYTES, decode_picture
from edgecnn.progress import note, report
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.head import unit
from edgecnn.runtimes.runtime import answer
from edgecnn.samples.likeness import distances
from edgecnn.text import counted

MOST = 2000  # training pictures that are looked at
SHOWN = 4
_SIDE = 320  # px of a small picture
_RECORD, _MOST_RECORD = "training.json", 2**26


@dataclass(frozen=True)
class Neighbour:
    """A training picture near a sample: its number, its label, its name, and the distance of unit features, 0 to 2."""

    number: int
    label: str
    name: str
    distance: float

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {"number": self.number, "label": self.label, "name": self.name, "distance": round(self.distance, 3)}


class TrainingPictures:
    """What a model makes of training pictures; samples are compared with them on demand, by the same model.

    `labels` are the classes of that model.
    """

    def __init__(self, model: str, data: Path) -> None:
        """Look at the pictures of a run, or of class folders, once.

        Raises InputError for a model without features, and what opening the model and the folder raises.
        """
        artifact = Artifact.open(artifact_path(model))
        if artifact.contract.head is None:
            raise InputError(f"{model} has no features to find what is alike by; export it again, or omit --model and --data")
        self.labels = artifact.contract.labels
        self._fit, self._runtime, self._lock = artifact.contract.preprocessing, open_runtime(artifact), threading.Lock()
        files = training_files(data)
        self._files, points = list[LabelledFile](), []
        for done, file in enumerate(chosen := files[:: -(-len(files) // MOST)]):
            report("looking at training pictures", done, len(chosen))
            try:
                points.append(self._features(_read(file.path)))
            except InputError as error:
                note(f"left out: {error}")
                continue
            self._files.append(file)
        report("looking at training pictures", len(chosen), len(chosen))
        if not points:
            raise InputError(f"no picture of {data} can be read: there is nothing to show beside the samples")
        self._points = np.stack(points)

    def __str__(self) -> str:
        return counted(len(self._files), "training picture")

    def nearest(self, image_bgr: NDArray[np.uint8], count: int = SHOWN) -> list[Neighbour]:
        """Return the training pictures that are most like a picture `(h, w, 3)`, the nearest first."""
        with self._lock:
            gaps = distances(self._features(image_bgr), self._points)
        order = np.argsort(gaps, kind="stable")[:count].tolist()
        return [Neighbour(i, self._files[i].label, self._files[i].name, float(gaps[i])) for i in order]

    def picture(self, number: int) -> bytes | None:
        """Return a training picture as a small PNG; None where there is none."""
        if not 0 <= number < len(self._files):
            return None
        try:
            image = _read(self._files[number].path)
        except InputError:
            return None
        scale = min(1.0, _SIDE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
        return cv2.imencode(".png", small)[1].tobytes()

    def _features(self, image_bgr: NDArray[np.uint8]) -> NDArray[np.float64]:
        pooled = answer(self._runtime, self._fit(image_bgr)[None]).pooled
        assert pooled is not None
        return np.asarray(unit(pooled)[0])


def training_files(data: Path) -> Sequence[LabelledFile]:
    """Return the pictures that a run was trained on, or those of class folders; InputError where there are none."""
    table = data / FILE_NAME
    if not table.is_file():
        layout = find_layout(data)
        return [file for file in layout.files if not layout.divided or file.part == "train"]
    try:
        folder = Path(json.loads(read_bytes(data / _RECORD, at_most=_MOST_RECORD))["data_folder"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{data / _RECORD} does not say where the pictures of the run are; name their folder") from error
    rows = [row for row in read_splits_table(table) if row.split == "train"]
    return [LabelledFile(place_of(row.file, folder, table), row.file, row.label) for row in rows]


def _read(path: Path) -> NDArray[np.uint8]:
    return decode_picture(read_bytes(path, at_most=MAX_FILE_BYTES), name=str(path))
