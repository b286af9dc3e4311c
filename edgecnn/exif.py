"""The few tags of TIFF and EXIF that tell more than pixels: which camera took a picture, and whether its pixels are floats."""

from __future__ import annotations

from collections.abc import Iterator

MAKE, MODEL, DATE_TIME, SAMPLE_FORMAT = 0x010F, 0x0110, 0x0132, 0x0153
_SHORT, _ASCII = 3, 2
_MAX_ENTRIES, _MAX_TEXT = 512, 256


def read_tags(tiff: bytes) -> dict[int, str | int]:
    """Return the texts and the first of the short numbers in the first directory of a TIFF, or of the TIFF inside EXIF.

    What is damaged or out of bounds is left out: tags are hints (TIFF 6.0, section 2).
    """
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    return dict(_tags(tiff, order == "little")) if order else {}


def _tags(tiff: bytes, little: bool) -> Iterator[tuple[int, str | int]]:
    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], "little" if little else "big")

    start = number(4, 4)
    for at in range(start + 2, start + 2 + 12 * min(number(start, 2), _MAX_ENTRIES), 12):
        if at + 12 > len(tiff):
            return
        tag, kind, count = number(at, 2), number(at + 2, 2), number(at + 4, 4)
        if kind == _ASCII:
            place = at + 8 if count <= 4 else number(at + 8, 4)
            text = tiff[place : place + min(count, _MAX_TEXT)].split(b"\0")[0].decode("latin-1")
            yield tag, " ".join(text.split())
        elif kind == _SHORT and count > 0:
            yield tag, number(at + 8 if count <= 2 else number(at + 8, 4), 2)
