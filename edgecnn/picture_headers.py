"""What a picture file claims to hold, read from its header before a decoder is asked to make room for it.

A file of a kilobyte can claim a picture of gigabytes. Only forms whose header is understood here are ever decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from edgecnn.formats import HEAD_BYTES, sniff
from edgecnn.quick_dataclass import dataclass

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
# Progressive JPEG of any encoder has about ten scans; each costs a pass over the whole picture (libjpeg-turbo stops at 500).
_MOST_SCANS = 100
_MOST_TAGS = 4096
_J2K_START = rb"\xff\x4f\xff\x51"
_PNM_SIZE = rb"P[1-6](?:\s|#[^\r\n]{0,4096}[\r\n])+([0-9]{1,10})(?:\s|#[^\r\n]{0,4096}[\r\n])+([0-9]{1,10})(?![0-9])"
_PAM_FIELD = rb"(?m)^%s[ \t]+([0-9]{1,10})\s"
# What OpenCV keeps for each pixel while it decodes to 8-bit BGR, two copies of the picture included; measured with 4.14.
_USUAL, _WEBP, _PROGRESSIVE, _ANIMATED, _AVIF = 7, 8, 10, 16, 24


class DamagedError(ValueError):
    """A header that contradicts itself or ends too soon."""


@dataclass(frozen=True)
class Header:
    """What a file claims: its form, width and height, the pixels and bytes that a decoder makes room for at its worst."""

    form: str
    width: int
    height: int
    pixels: int
    peak_bytes: int


def read_header(data: bytes) -> Header | None:
    """Read the header of a file of a form that is read here; None for any other. DamagedError when it is none."""
    form = sniff(data[:HEAD_BYTES])
    read = _READERS.get(form or "")
    if form is None or read is None:
        return None
    try:
        return read(form, data)
    except (struct.error, IndexError, OverflowError) as error:
        raise DamagedError(f"its {form} header is cut short") from error
    except ValueError as error:
        raise error if isinstance(error, DamagedError) else DamagedError(str(error)) from error


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
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


def _claim(form: str, width: int, height: int, bytes_each: int = _USUAL) -> Header:
    return Header(form, width, height, width * height, width * height * bytes_each)


def _read_png(form: str, data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    return _claim(form, width, height, _ANIMATED if b"acTL" in data[:4096] else _USUAL)


def _read_jpeg(form: str, data: bytes) -> Header:
    # In the coded data itself no 0xFF is followed by a marker: whatever looks like a scan is one, of a thumbnail at most.
    if data.count(b"\xff\xda") > _MOST_SCANS:
        raise DamagedError(f"it has more than {_MOST_SCANS} scans")
    frames = [(marker, at) for marker, at in jpeg_segments(data) if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)]
    if not frames:
        return _claim(form, 0, 0)  # no decoder gets further
    sizes = [struct.unpack_from(">HH", data, at + 5) for _, at in frames]
    height, width = max(sizes, key=lambda size: int(size[0]) * int(size[1]))
    progressive = any(marker in (0xC2, 0xC6, 0xCA, 0xCE) for marker, _ in frames)
    return _claim(form, width, height, _PROGRESSIVE if progressive else _USUAL)


def _read_bmp(form: str, data: bytes) -> Header:
    (header_bytes,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
    return _claim(form, abs(width), abs(height))


def _read_webp(form: str, data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        if len(data) < 30:
            raise DamagedError("its WebP header is cut short")
        return _claim(form, width, height, _ANIMATED if data[20] & 2 else _WEBP)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return _claim(form, 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), _WEBP)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return _claim(form, width & 0x3FFF, height & 0x3FFF, _WEBP)
    raise DamagedError("its WebP header is damaged")


def _read_pnm(form: str, data: bytes) -> Header:
    if data.startswith(b"P7"):
        return _read_pam(form, data)
    found = re.match(_PNM_SIZE, data)
    if found is None:
        raise DamagedError(f"its {form} header is damaged")
    return _claim(form, int(found[1]), int(found[2]))


def _read_pam(form: str, data: bytes) -> Header:
    head = data[:4096]
    width, height, depth = (
        max((int(found) for found in re.findall(_PAM_FIELD % name, head)), default=0)
        for name in (b"WIDTH", b"HEIGHT", b"DEPTH")
    )
    if not (width and height and depth):
        raise DamagedError(f"its {form} header is damaged")
    return Header(form, width, height, width * height, width * height * _USUAL + 2 * width * depth)


def _read_gif(form: str, data: bytes) -> Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return _claim(form, width, height, _ANIMATED)


def _read_sun(form: str, data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 4)
    return _claim(form, width, height)


def _read_avif(form: str, data: bytes) -> Header:
    from edgecnn.avif_header import avif_sizes  # few have any

    sizes = list(avif_sizes(data))
    if not sizes:
        raise DamagedError("it states no size")
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return _claim(form, width, height, _AVIF)


def _read_jpeg_2000(form: str, data: bytes) -> Header:
    """Read the marker SIZ of each codestream (ISO/IEC 15444-1, A.5.1), the largest of which counts."""
    claims = []
    for found in re.finditer(_J2K_START, data):
        right, bottom, left, top = struct.unpack_from(">4I", data, found.start() + 8)
        (components,) = struct.unpack_from(">H", data, found.start() + 40)
        claims.append((max(0, right - left), max(0, bottom - top), components))
    if not claims:
        raise DamagedError("it holds no codestream")
    width, height, components = max(claims, key=lambda claim: claim[0] * claim[1] * claim[2])
    return _claim(form, width, height, _USUAL + 4 * components)


def _read_tiff(form: str, data: bytes) -> Header:
    """Read the first directory: the picture's size, and that of the strip or tile that is decoded as one (TIFF 6.0)."""
    tags = _tiff_tags(data)
    width, height = tags.get(256, 0), tags.get(257, 0)
    bits, samples = max(8, tags.get(258, 1)), tags.get(277, 1)
    part = tags.get(322, width), tags.get(323, min(tags.get(278, height), height) if 322 not in tags else height)
    pixels = max(width * height, part[0] * part[1])
    # A part is held in the file's own form and, where that is none of BGR's, as four bytes per pixel.
    part_bytes = part[0] * part[1] * (4 + bits * samples // 8)
    return Header(form, width, height, pixels, width * height * _USUAL + part_bytes)


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Return the first value of each tag of the first directory, of TIFF or BigTIFF, in either byte order."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"\x2b\0", b"\0\x2b")
    (at,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)
    (count,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, at)
    if count > _MOST_TAGS:
        raise DamagedError(f"its directory has {count} tags")
    entry, begin = (20, at + 8) if big else (12, at + 2)
    found: dict[int, int] = {}
    for place in range(begin, begin + entry * count, entry):
        tag, kind = struct.unpack_from(f"{order}HH", data, place)
        (values,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, place + 4)
        letter = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if letter is None or not values:
            continue
        value_at = place + (12 if big else 8)
        if struct.calcsize(letter) * values > (8 if big else 4):  # it stands elsewhere
            (value_at,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, value_at)
        if value_at + struct.calcsize(letter) <= len(data):
            # A tag that is there twice counts as the larger one: which of them a decoder believes is not ours to guess.
            found[tag] = max(found.get(tag, 0), struct.unpack_from(order + letter, data, value_at)[0])
    return found


_READERS: dict[str, Callable[[str, bytes], Header]] = {
    "PNG": _read_png,
    "JPEG": _read_jpeg,
    "BMP": _read_bmp,
    "TIFF": _read_tiff,
    "WebP": _read_webp,
    "PNM": _read_pnm,
    "GIF": _read_gif,
    "Sun raster": _read_sun,
    "AVIF": _read_avif,
    "JPEG 2000": _read_jpeg_2000,
}
