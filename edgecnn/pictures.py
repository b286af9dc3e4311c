"""Reading picture files, and refusing those that are none, cut short, or larger than any camera's."""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import PictureError
from edgecnn.exif import MAKE, MODEL, SAMPLE_FORMAT, read_tags
from edgecnn.files import read_bytes

# What still pictures are called; `edgecnn.folders` looks inside instead. A .gif may be a video.
SUFFIXES = frozenset(
    {
        ".avif", ".bmp", ".dib", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pam", ".pbm", ".pgm", ".png", ".pnm",
        ".ppm", ".ras", ".sr", ".tif", ".tiff", ".webp",
    }
)  # fmt: skip
MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 2**26  # 67 megapixels: above every board camera; decoded, already 200 MB
_FLOAT = 3  # SampleFormat of TIFF 6.0, section 19
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a picture as BGR `(height, width, 3)` uint8, turned upright as its EXIF says.

    Raises PictureError for a file that is no picture, is cut short, or claims more than MAX_PIXELS pixels.
    """
    if path.is_dir():
        raise PictureError(f"{path} is a folder, not a picture")
    return decode_picture(read_bytes(path, at_most=MAX_FILE_BYTES), name=str(path))


def decode_picture(data: bytes, *, name: str) -> NDArray[np.uint8]:
    """Decode an encoded picture to BGR `(height, width, 3)` uint8; `name` stands in the error messages."""
    if not data:
        raise PictureError(f"{name} is empty: not a picture")
    if _is_cut_short(data):
        raise PictureError(f"{name} is cut short or damaged")
    if (pixels := _claimed_pixels(data)) > MAX_PIXELS:
        raise PictureError(f"{name} claims {pixels} pixels; at most {MAX_PIXELS} are decoded")
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
    tiff = next((data[at + 10 :] for marker, at in _jpeg_segments(data) if _is_exif(data, marker, at)), b"")
    tags = read_tags(tiff if data.startswith(_JPEG) else data)
    stated = [str(tags[tag]) for tag in (MAKE, MODEL) if tags.get(tag)]
    # Many models repeat the make.
    return (stated[-1] if len(stated) < 2 or stated[1].startswith(stated[0]) else " ".join(stated)) if stated else None


def _is_cut_short(data: bytes) -> bool:
    # OpenCV fills the missing rows of a truncated file with gray and reports success; a classifier must not see that.
    if data.startswith(_JPEG):
        # Behind the first scan's start: the thumbnail in a camera's EXIF is a JPEG with an end of its own.
        return data.find(b"\xff\xd9", _jpeg_scan(data)) < 0
    if data.startswith(_PNG):
        return not _png_is_whole(data)
    if data.startswith(b"BM") and len(data) >= 6:
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def _claimed_pixels(data: bytes) -> int:
    """Read the size that a PNG, BMP or JPEG header claims, in pixels, before a decoder allocates it; 0 if unknown."""
    if data.startswith(_PNG) and len(data) >= 24:
        return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    if data.startswith(b"BM") and len(data) >= 26:
        width, height = (int.from_bytes(data[i : i + 4], "little", signed=True) for i in (18, 22))
        return abs(width * height)
    if data.startswith(_JPEG):
        return _jpeg_pixels(data)
    return 0


def _is_exif(data: bytes, marker: int, at: int) -> bool:
    return marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0"


def _jpeg_pixels(data: bytes) -> int:
    for marker, at in _jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big") * int.from_bytes(data[at + 7 : at + 9], "big")
    return 0


def _jpeg_scan(data: bytes) -> int:
    """Return where the first scan (marker SOS) starts, or the last segment that can be told apart before it."""
    return max((at for _, at in _jpeg_segments(data)), default=0)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, place of its 0xFF) of each header segment up to the first scan (ITU-T T.81, annex B)."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # any number of 0xFF may fill the space before a marker
            at += 1
            continue
        yield marker, at
        if marker == 0xDA:
            return
        at += 2 + length


def _png_is_whole(data: bytes) -> bool:
    """Tell whether all chunks up to IEND are there with the checksums they state (PNG specification, 5.3).

    libpng checks them too, but complains on stderr by itself.
    """
    at = len(_PNG)
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False
