"""Pictures of a user's own that belong to none of the classes: what a model must not take for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.layout import OTHERS
from edgecnn.errors import InputError
from edgecnn.folders import left_out_line, list_all
from edgecnn.pictures import read_picture, reason_without_name
from edgecnn.progress import note, report
from edgecnn.tasks import Task

MOST = 1000  # pictures of a kind: more tell no more, and are held in memory


def find_others(data: Path | None, stated: Path | None, added: Path | None = None) -> list[Path]:
    """Return where pictures of no class are: the folder that a user states, `_other` in that of the data, and `added` ones."""
    beside = [None if data is None else data / OTHERS, added]
    own = [each for each in beside if each is not None and each.is_dir()]
    return own if stated is None else [stated, *own]


def read_others(task: Task, folders: Sequence[Path], *, most: int = MOST) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures below each folder by kind, `(n, height, width, channels)` uint8 as the model gets them.

    A folder in the folder is a kind, `FOLDER/NAME`; pictures directly in it are the kind `FOLDER`. Of more than `most`
    pictures of a kind every second, third and so on is taken. What cannot be read is left out and noted. Raises InputError
    for a folder without a picture that can be read.
    """
    found: dict[str, NDArray[np.uint8]] = {}
    for folder in folders:
        listing = list_all([folder])
        paths: dict[str, list[Path]] = {}
        for path in listing.pictures:
            inside = path.relative_to(folder).parts[:-1] if folder.is_dir() else ()
            paths.setdefault("/".join((folder.name, *inside[:1])), []).append(path)
        for kind, own in paths.items():
            images = _read(task, kind, own[:: -(-len(own) // most)], listing.left_out)
            if images:
                before = [found[kind]] if kind in found else []
                found[kind] = np.concatenate([*before, np.stack(images)])
        if listing.left_out:
            note(f"{folder}: {left_out_line(listing.left_out)}")
        if not any(kind in found for kind in paths):
            raise InputError(f"no picture in {folder} can be read: there is nothing to distinguish from the classes")
    return found


def _read(task: Task, kind: str, paths: Sequence[Path], left_out: dict[str, str]) -> list[NDArray[np.uint8]]:
    images = []
    for done, path in enumerate(paths):
        report(f"reading pictures of {kind}", done, len(paths))
        try:
            images.append(task.preprocessing(read_picture(path)))
        except InputError as error:
            left_out[str(path)] = reason_without_name(error, path)
    report(f"reading pictures of {kind}", len(paths), len(paths))
    return images
