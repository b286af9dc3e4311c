"""Reading picture files, and refusing those that are none, cut short, or larger than any camera's."""

from __future__ import annotations

import functools
import os
import zlib
from operator import attrgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError, PictureError
from edgecnn.exif import DATE_TIME, MAKE, MODEL, SAMPLE_FORMAT, read_tags
from edgecnn.files import read_bytes
from edgecnn.formats import HEAD_BYTES, sniff
from edgecnn.memory import limit_bytes
from edgecnn.opencv_limits import MAX_PIXELS, MAX_SIDE
from edgecnn.picture_headers import JPEG, PNG, DamagedError, jpeg_segments, read_header

# What still pictures are called; `edgecnn.folders` looks inside instead. A .gif may be a video.
SUFFIXES = frozenset(
    {
        ".avif", ".bmp", ".dib", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pam", ".pbm", ".pgm", ".png", ".pnm",
        ".ppm", ".ras", ".sr", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
MAX_FILE_BYTES = 256 * 2**20
_FLOAT = 3  # SampleFormat of TIFF 6.0, section 19


def read_picture(path: Path, *, memory_bytes: int | None = None) -> NDArray[np.uint8]:
    """Read a picture as BGR `(height, width, 3)` uint8, turned upright as its EXIF says.

    Raises PictureError for a file that is not a picture of a form that is read here, is cut short, or claims more pixels than
    are decoded: MAX_PIXELS, fewer where decoding would take half of the `memory_bytes` that this process may have.
    """
    if path.is_dir():
        raise PictureError(f"{path} is a folder, not a picture")
    memory_bytes = limit_bytes() if memory_bytes is None else memory_bytes
    return decode_picture(
        read_bytes(path, at_most=min(MAX_FILE_BYTES, memory_bytes // 4)), name=str(path), memory_bytes=memory_bytes
    )


def decode_picture(data: bytes, *, name: str, memory_bytes: int | None = None) -> NDArray[np.uint8]:
    """Decode an encoded picture to BGR `(height, width, 3)` uint8; `name` stands in the error messages.

    See `read_picture` for what is refused.
    """
    if not data:
        raise PictureError(f"{name} is empty: not a picture")
    _check_claim(data, name, limit_bytes() if memory_bytes is None else memory_bytes)
    if _is_cut_short(data):
        raise PictureError(f"{name} is cut short or damaged")
    if read_tags(data).get(SAMPLE_FORMAT) == _FLOAT:
        # OpenCV cuts floats off at 0 and 255: 0..1 would become black.
        raise PictureError(f"{name} holds floating-point pixels, which state no 0..255 range; save it with 8 or 16 bits")
    _hush_opencv()
    try:
        image_bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise PictureError(f"{name} cannot be decoded: {error.err or 'too large or damaged'}") from error
    if image_bgr is None or image_bgr.size == 0:
        raise PictureError(f"{name} is not a picture that OpenCV can read")
    return np.asarray(image_bgr, np.uint8)


def reason_without_name(error: InputError, path: Path) -> str:
    """Return why a picture cannot be read without its file's name and the way out, so that the same reason can be counted."""
    text = str(error).replace(f"cannot read {path}: ", "").replace(str(path), "").strip()
    return text.split(";")[0].removeprefix("is ")


def _check_claim(data: bytes, name: str, memory_bytes: int) -> None:
    """Refuse what no decoder is to see: a form that is not read here, a header of nonsense, more than there is room for."""
    try:
        header = read_header(data)
    except DamagedError as error:
        raise PictureError(f"{name} is cut short or damaged: {error}") from error
    if header is None:
        form = sniff(data[:HEAD_BYTES])
        what = "not a picture that OpenCV can read" if form is None else f"{form}, which OpenCV cannot read; convert it to PNG"
        raise PictureError(f"{name} is {what}")
    parts = "" if header.pixels <= header.width * header.height else f", to be decoded {header.pixels} at a time"
    claim = f"{name} claims {header.width} x {header.height} pixels{parts}"
    if header.pixels > MAX_PIXELS:
        raise PictureError(f"{claim}; at most {MAX_PIXELS} are decoded")
    if max(header.width, header.height) > MAX_SIDE:
        raise PictureError(f"{claim}; at most {MAX_SIDE} a side are decoded")
    if len(data) + header.peak_bytes > memory_bytes // 2:
        raise PictureError(
            f"{claim}, which takes {header.peak_bytes / 1e6:.0f} MB to decode: too much of the {memory_bytes / 1e6:.0f} MB of "
            "memory here; make it smaller"
        )


_SILENT = 0


@functools.cache
def _hush_opencv() -> None:
    """Keep OpenCV from writing on stderr what we say ourselves, in one line; OPENCV_LOG_LEVEL decides otherwise."""
    if "OPENCV_LOG_LEVEL" not in os.environ:
        # From OpenCV 4.13 on the function lies deeper.
        home: Any = cv2 if hasattr(cv2, "setLogLevel") else attrgetter("utils.logging")(cv2)
        home.setLogLevel(_SILENT)


def camera_of(data: bytes) -> str | None:
    """Return make and model of the camera that the EXIF of a JPEG or the tags of a TIFF state, None where they do not."""
    tags = _tags_of(data)
    stated = [str(tags[tag]) for tag in (MAKE, MODEL) if tags.get(tag)]
    # Many models repeat the make.
    return (stated[-1] if len(stated) < 2 or stated[1].startswith(stated[0]) else " ".join(stated)) if stated else None


def taken_at(data: bytes) -> str | None:
    """Return the date and time (`YYYY:MM:DD HH:MM:SS`) that EXIF or the tags of a TIFF state, None where they do not."""
    stated = _tags_of(data).get(DATE_TIME)
    return str(stated) if stated else None


def _tags_of(data: bytes) -> dict[int, str | int]:
    tiff = next((data[at + 10 :] for marker, at in jpeg_segments(data) if _is_exif(data, marker, at)), b"")
    return read_tags(tiff if data.startswith(JPEG) else data)


def _is_cut_short(data: bytes) -> bool:
    # OpenCV fills the missing rows of a truncated file with gray and reports success; a classifier must not see that.
    if data.startswith(JPEG):
        # Behind the first scan's start: the thumbnail in a camera's EXIF is a JPEG with an end of its own.
        return data.find(b"\xff\xd9", max((at for _, at in jpeg_segments(data)), default=0)) < 0
    if data.startswith(PNG):
        return not _png_is_whole(data)
    if data.startswith(b"BM"):
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def _is_exif(data: bytes, marker: int, at: int) -> bool:
    return marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0"


def _png_is_whole(data: bytes) -> bool:
    """Tell whether all chunks up to IEND are there with the checksums they state (PNG specification, 5.3).

    libpng checks them too, but complains on stderr by itself.
    """
    at = len(PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False
