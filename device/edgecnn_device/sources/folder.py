"""A folder of pictures (or one picture), read one after the other without loss."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from edgecnn.errors import InputError
from edgecnn.pictures import find_pictures, read_picture
from edgecnn_device.frames import Frame, Missing


def read_folder(path: Path, *, loop: bool = False) -> Iterator[Frame | Missing]:
    """Yield the pictures in natural order, each with its own path as source; a damaged one is a `Missing`.

    InputError when the folder holds no picture.
    """
    pictures = find_pictures([path])
    number = 0
    while True:
        for picture in pictures:
            number += 1
            try:
                image_bgr = read_picture(picture)
            except InputError as error:
                yield Missing(str(picture), str(error))
                continue
            yield Frame(image_bgr, number, str(picture), datetime.now(UTC), time.monotonic())
        if not loop:
            return
