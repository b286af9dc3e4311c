"""Decodes damaged pictures or videos in a process that has to come to its end.

`python decoding.py SUFFIX FOLDER SEED CASES LIMIT_S` prints how often each outcome was seen, as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from fuzzing import damaged
from numpy.typing import NDArray

from edgecnn.errors import EdgecnnError, PictureError
from edgecnn.pictures import decode_picture
from edgecnn_device.frames import Frame
from edgecnn_device.sources.select import SourceOptions, open_source

FRAMES = 12
_CODECS = {".avi": "MJPG", ".mkv": "MJPG", ".mp4": "mp4v"}


def scene(seed: int) -> NDArray[np.uint8]:
    """Draw a ramp with noise, `(h, w, 3)`."""
    ramp = np.linspace(40, 200, 160)[None, :, None] + np.random.default_rng(seed).integers(-9, 10, (120, 160, 3))
    return np.clip(ramp, 0, 255).astype(np.uint8)


def picture_case(suffix: str) -> tuple[bytes, Callable[[bytes], str]]:
    """Decode a picture as every command does."""
    data = cv2.imencode(suffix, scene(0))[1].tobytes()
    whole = decode_picture(data, name="whole")

    def outcome(altered: bytes) -> str:
        try:
            image = decode_picture(altered, name="damaged")
        except PictureError:
            return "refused"
        assert image.ndim == 3 and image.dtype == np.uint8
        same = image.shape == whole.shape and np.array_equal(image, whole)
        return "decoded to the same picture" if same else "decoded to another picture (the format has no checksum)"

    return data, outcome


def video_case(suffix: str, folder: Path) -> tuple[bytes, Callable[[bytes], str]]:
    """Read a video as `edgecnn camera` does, to its end."""
    path = folder / f"v{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*_CODECS[suffix]), 25, (160, 120))
    for number in range(FRAMES):
        writer.write(scene(number))
    writer.release()

    def outcome(altered: bytes) -> str:
        path.write_bytes(altered)
        try:
            with open_source(SourceOptions(str(path))) as source:
                assert 0.1 <= source.fps <= 1000
                items = list(source)
        except EdgecnnError:
            return "refused"
        frames = sum(isinstance(item, Frame) for item in items)
        if frames == FRAMES:
            return "all frames read"
        return "fewer frames read, and counted as missing" if len(items) > frames else "other frames read"

    return path.read_bytes(), outcome


def main() -> None:
    """Run one kind until its cases or its time are used up."""
    suffix, folder, seed, cases, limit_s = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
    data, outcome = video_case(suffix, folder) if suffix in _CODECS else picture_case(suffix)
    counts, ends_s = Counter[str](), time.monotonic() + limit_s
    for altered in damaged(data, random.Random(f"{seed} {suffix}")):
        if counts.total() == cases or time.monotonic() > ends_s:
            break
        counts[outcome(altered)] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
