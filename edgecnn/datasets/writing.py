"""Writing a data set as pictures, one folder a class."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2

from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import OutputError
from edgecnn.files import make_folder


def write_folder(dataset: Dataset, labels: Sequence[str], folder: Path) -> int:
    """Write each picture to `folder/<label>/<label>_<n>.png`, n from 1, and return how many; whole or not at all.

    Raises OutputError when the folder already holds something or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} already exists and is not empty; choose another folder")
    make_folder(folder.parent)
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}") from error
    try:
        _write_all(dataset, labels, beside)
        beside.chmod(0o755)
        beside.replace(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {(error.strerror or str(error)).lower()}; nothing was written") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return len(dataset)


def _write_all(dataset: Dataset, labels: Sequence[str], folder: Path) -> None:
    numbers = [0] * len(labels)
    for image, class_id in zip(dataset.images, dataset.class_ids, strict=True):
        label = labels[class_id]
        numbers[class_id] += 1
        (folder / label).mkdir(exist_ok=True)
        picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[2] == 3 else image
        encoded = cv2.imencode(".png", picture)[1]
        (folder / label / f"{label}_{numbers[class_id]}.png").write_bytes(encoded.tobytes())
