"""A folder of pictures (or one picture), read one after the other without loss."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edgecnn.errors import InputError
from edgecnn.folders import is_other, list_all, path_key
from edgecnn.pictures import read_picture
from edgecnn_device.frames import Frame, Missing


def read_folder(path: Path, *, loop: bool = False) -> Iterator[Frame | Missing]:
    """Yield the pictures in natural order, each with its own path as source; one that cannot be read is a `Missing`.

    InputError when the folder holds no picture.
    """
    listing = list_all([path])
    no_pictures = {Path(name): reason for name, reason in listing.left_out.items() if not is_other(reason)}
    number = 0
    while True:
        for picture in sorted([*listing.pictures, *no_pictures], key=path_key):
            if picture in no_pictures:
                yield Missing(str(picture), f"{picture}: {no_pictures[picture]}")
            else:
                yield _read(picture, number)
            number += 1
        if not loop:
            return


def _read(picture: Path, number: int) -> Frame | Missing:
    try:
        image_bgr = read_picture(picture)
    except InputError as error:
        return Missing(str(picture), str(error))
    return Frame(image_bgr, number, str(picture), datetime.now(UTC), time.monotonic())
