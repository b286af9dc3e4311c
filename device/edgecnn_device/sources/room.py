"""Whether pictures of a size fit into the memory that this process and its reader may have."""

from __future__ import annotations

from pathlib import Path

import cv2

from edgecnn.errors import CameraError, InputError
from edgecnn.memory import limit_bytes

# Measured with the shipped models (x86-64): the loop, and the reader of a camera, without any picture.
_LOOP_BYTES, _READER_BYTES = 60e6, 15e6
# A picture is three bytes a pixel. Whoever reads has it converted and copied; the loop has one, one waits, one arrives, and the
# page's is the newest of those before.
_READER_COPIES, _LOOP_COPIES, _BYTES_A_PIXEL = 2, 4, 3
# What is decoded has half as many bytes: two of them, or those that others refer to (H.264 level 5.1 has five of 4K) and two.
_DECODED_BYTES_A_PIXEL, _ALONE, _REFERRED = 1.5, 2, 7
_ALONE_CODECS = frozenset(cv2.VideoWriter.fourcc(*name) for name in ("MJPG", "mjpg", "jpeg"))
_SMALLER_WH = (1280, 720)

Size = tuple[int, int]


def needed_bytes(size_wh: Size, asked_wh: Size | None = None, *, refers: bool = False) -> float:
    """Return about how many bytes a camera needs whose pictures of `size_wh` are handed on in `asked_wh`.

    `refers` tells of a codec whose pictures refer to each other.
    """
    pixels = size_wh[0] * size_wh[1]
    kept = pixels if asked_wh is None else asked_wh[0] * asked_wh[1]
    decoded = pixels * _DECODED_BYTES_A_PIXEL * (_REFERRED if refers else _ALONE)
    return _LOOP_BYTES + _READER_BYTES + _BYTES_A_PIXEL * (_READER_COPIES * pixels + _LOOP_COPIES * kept) + decoded


def check_camera(size_wh: Size, asked_wh: Size | None, *, refers: bool = False, limit: int | None = None) -> None:
    """Raise CameraError with advice when a camera's pictures do not fit into `limit` bytes (what this process may have)."""
    limit = limit_bytes() if limit is None else limit
    if needed_bytes(size_wh, asked_wh, refers=refers) <= limit:
        return
    smaller = asked_wh is None and needed_bytes(size_wh, _SMALLER_WH, refers=refers) <= limit
    advice = "--size 1280x720 has them made smaller at once" if smaller else "set the camera to a smaller stream"
    raise CameraError(_refusal(size_wh, needed_bytes(size_wh, asked_wh, refers=refers), limit, advice))


def check_file(path: Path, capture: cv2.VideoCapture, *, limit: int | None = None) -> None:
    """Raise InputError with advice when the frames of a video file, which are read ahead, do not fit into `limit` bytes."""
    limit, size_wh = limit_bytes() if limit is None else limit, read_size(capture)
    if (needed := needed_bytes(size_wh, refers=refers_to_others(capture)) - _READER_BYTES) > limit:
        advice = f"make a smaller copy (ffmpeg -i {path.name} -vf scale=1280:-2 smaller.mp4)"
        raise InputError(f"{path}: {_refusal(size_wh, needed, limit, advice)}")


def read_size(capture: cv2.VideoCapture) -> Size:
    """Return the size of the pictures of an open capture."""
    return int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))


def refers_to_others(capture: cv2.VideoCapture) -> bool:
    """Say whether the pictures of an open capture are coded by means of others."""
    return int(capture.get(cv2.CAP_PROP_FOURCC)) not in _ALONE_CODECS


def _refusal(size_wh: Size, needed: float, limit: int, advice: str) -> str:
    width, height = size_wh
    return (
        f"pictures of {width}x{height} take about {needed / 1e6:.0f} MB, more than the {limit / 1e6:.0f} MB that there are "
        f"here: {advice}, or give the service more (MemoryMax= and MemoryHigh=)"
    )
