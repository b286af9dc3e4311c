"""Any `FOLDER/<class>/<pictures>` as a task of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.datasets.overlap import find_overlaps
from edgecnn.datasets.splitting import split_groups
from edgecnn.errors import DatasetError, InputError, PictureError
from edgecnn.files import read_bytes
from edgecnn.folders import natural_key
from edgecnn.pictures import MAX_FILE_BYTES, SUFFIXES, decode_picture
from edgecnn.preprocessing import Color, Fit, Preprocessing
from edgecnn.tasks import Task, shipped_tasks

MAX_COMMON_SIDE = 256  # pictures of one size up to this are used as they are
DEFAULT_SIDE = 128  # otherwise: small enough for a board, large enough for most parts


def find_classes(folder: Path) -> dict[str, list[Path]]:
    """List the pictures of each class folder, classes and pictures in natural order.

    Raises DatasetError, in one line, when this is not a folder of at least two class folders with pictures.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DatasetError(f"{folder} {what}; expected FOLDER/<class>/<pictures>")
    inside = sorted(_visible(folder), key=natural_key)
    classes = {path.name: _pictures(path) for path in inside if path.is_dir()}
    if not classes:
        holds = "pictures but no class folders" if any(_is_picture(path) for path in inside) else "no class folders"
        raise DatasetError(f"{folder} holds {holds}; expected FOLDER/<class>/<pictures>")
    for label, pictures in classes.items():
        if not pictures:
            _refuse_empty(folder / label)
    if len(classes) == 1:
        raise DatasetError(f"{folder} has one class only ({next(iter(classes))}); a task needs at least two class folders")
    return classes


def task_from_folder(folder: Path) -> Task:
    """Make a task of a folder: its name, its class folders as labels, and a size and color that fit all pictures.

    Pictures that all have one size up to 256 pixels keep it; others are cropped to their middle square and made 128 x 128.
    Gray when every picture is. `flips` stays off: whether a mirrored part is the same part is not for us to guess.
    """
    classes = find_classes(folder)
    sizes, is_gray = set(), True
    for _, _, image in _read_all(classes):
        sizes.add(image.shape[:2])
        is_gray = is_gray and _looks_gray(image)
    name = re.sub("[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "folder"
    task = Task(
        name=f"{name}-folder" if name in shipped_tasks() else name,
        title=f"pictures of {folder.resolve().name}",
        labels=tuple(classes),
        preprocessing=_preprocessing(sizes, "gray" if is_gray else "rgb"),
    )
    return dataclasses.replace(task, load=lambda chosen, seed: load_folder(task, chosen or folder, seed))


def load_folder(task: Task, folder: Path, seed: int) -> Splits:
    """Load `folder/<class>/<pictures>` for `task` and divide it 70 : 15 : 15, overlapping pictures kept together.

    Raises DatasetError when the class folders are not the task's labels, a picture cannot be read, or a class is too small.
    """
    classes = find_classes(folder)
    if set(classes) != set(task.labels):
        odd = sorted(set(classes) ^ set(task.labels))
        raise DatasetError(
            f"the class folders of {folder} are not the labels of {task.name!r}: {', '.join(odd)} in one of the two"
        )
    images, grays, ids, digests = [], [], [], []
    for label, digest, image in _read_all(classes):
        images.append(task.preprocessing(image))
        grays.append(to_gray(image))
        ids.append(task.labels.index(label))
        digests.append(digest)
    names = [f"{label}/{path.name}" for label, paths in classes.items() for path in paths]
    class_ids = np.array(ids, np.int64)
    groups = find_overlaps(grays, class_ids, seed=seed).groups
    parts = split_groups(class_ids, groups, task.labels, seed=seed)
    whole = Dataset(np.stack(images), class_ids, tuple(names), groups, tuple(digests))
    rule = "70 : 15 : 15 by class, pictures that overlap kept together (edgecnn's overlap check)"
    complete = {"train": True, "validation": True, "test": True}
    train, validation, test = (whole.take(part) for part in parts)
    return Splits(train, validation, test, SplitInfo(folder.resolve().name, rule, seed, complete), folder.resolve())


def to_gray(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `(h, w)` of a BGR picture."""
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), np.uint8)


def _visible(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"cannot look into {folder}: {(error.strerror or str(error)).lower()}") from error


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _pictures(folder: Path) -> list[Path]:
    return sorted((path for path in _visible(folder) if _is_picture(path)), key=natural_key)


def _refuse_empty(folder: Path) -> None:
    deeper = any(path.is_dir() for path in folder.iterdir())
    holds = "folders but no pictures" if deeper else f"no pictures ({', '.join(sorted(SUFFIXES))})"
    raise DatasetError(f"{folder} holds {holds}; expected FOLDER/<class>/<pictures>")


def _read_all(classes: dict[str, list[Path]]) -> Iterator[tuple[str, str, NDArray[np.uint8]]]:
    """Yield label, SHA-256 of the file and BGR picture."""
    for label, paths in classes.items():
        for path in paths:
            try:
                data = read_bytes(path, at_most=MAX_FILE_BYTES)
                yield label, hashlib.sha256(data).hexdigest(), decode_picture(data, name=str(path))
            except PictureError as error:
                raise DatasetError(f"{error}; remove or replace it (`edgecnn data check` lists all such files)") from error
            except InputError as error:
                raise DatasetError(str(error)) from error


def _looks_gray(image_bgr: NDArray[np.uint8]) -> bool:
    return bool((image_bgr[..., 0] == image_bgr[..., 1]).all() and (image_bgr[..., 1] == image_bgr[..., 2]).all())


def _preprocessing(sizes: set[tuple[int, int]], color: Color) -> Preprocessing:
    fit: Fit = "crop"
    if len(sizes) == 1 and max(size := next(iter(sizes))) <= MAX_COMMON_SIDE:
        return Preprocessing(*size, color, fit)
    return Preprocessing(DEFAULT_SIDE, DEFAULT_SIDE, color, fit)
