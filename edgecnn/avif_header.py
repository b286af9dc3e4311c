"""How large the pictures in an AVIF file are: by its boxes, and by the AV1 data in them, which a decoder believes more.

Sources: ISO/IEC 14496-12 (boxes), 23008-12 (`ispe`, `iloc`, `grid`); AV1 Bitstream & Decoding Process Specification, 5.3, 5.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Size = tuple[int, int]
_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # those that hold what is looked for, and what comes before it
_SEQUENCE_HEADER = 1
_MOST_ITEMS = 4096
_IN_IDAT = 1


def avif_sizes(data: bytes) -> Iterator[Size]:
    """Yield every (width, height) that a decoder might make room for; struct.error or IndexError where the file is cut short.

    ValueError for a sequence of pictures: those are videos, whose parts stand elsewhere.
    """
    boxes = list(_boxes(data, 0, len(data)))
    if any(kind == b"moov" for kind, _, _ in boxes):
        raise ValueError("it holds a sequence of pictures")
    idat = next((start for kind, start, _ in boxes if kind == b"idat"), 0)
    for kind, start, _ in boxes:
        if kind == b"ispe":
            yield struct.unpack_from(">II", data, start + 4)
        elif kind == b"iloc":
            for at, length in _extents(data, start, idat):
                yield from _grid(data, at, length)
                yield from _sequences(data, at, min(at + length, len(data)))


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start of the content, end) of all boxes, and of those inside the containers that matter."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        until = min(end, end if size == 0 else at + size)
        yield kind, start, until
        if kind in _CONTAINERS:
            yield from _boxes(data, start + _CONTAINERS[kind], until)
        at = max(until, at + 8)


def _extents(data: bytes, at: int, idat: int) -> Iterator[tuple[int, int]]:
    """Yield (place in the file, length) of each part of each item."""
    version, sizes, more = data[at], data[at + 4], data[at + 5]
    offset_bytes, length_bytes, base_bytes, index_bytes = sizes >> 4, sizes & 15, more >> 4, (more & 15) if version else 0
    at += 6
    count, at = _number(data, at, 4 if version == 2 else 2)
    for _ in range(min(count, _MOST_ITEMS)):
        at += 4 if version == 2 else 2
        method = 0
        if version:
            method, at = _number(data, at, 2)
        base, at = _number(data, at + 2, base_bytes)
        parts, at = _number(data, at, 2)
        for _ in range(min(parts, _MOST_ITEMS)):
            offset, at = _number(data, at + index_bytes, offset_bytes)
            length, at = _number(data, at, length_bytes)
            place = base + offset + (idat if method & 15 == _IN_IDAT else 0)
            yield place, length or len(data) - place


def _number(data: bytes, at: int, size: int) -> tuple[int, int]:
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big"), at + size


def _grid(data: bytes, at: int, length: int) -> Iterator[Size]:
    """Yield the size of a picture that is put together of others, if that is what the item is."""
    if length in (8, 12) and at + length <= len(data):
        yield struct.unpack_from(">HH" if length == 8 else ">II", data, at + 4)


def _sequences(data: bytes, at: int, end: int) -> Iterator[Size]:
    """Yield the size of each sequence header among the units of AV1 (OBUs) from `at` to `end`."""
    while at < end:
        head = data[at]
        at += 2 if head & 4 else 1
        size = end - at
        if head & 2:
            size, at = _leb128(data, at)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield _sequence_size(_Bits(data[at : min(at + size, end)]))
        at += size


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        value |= (data[at] & 0x7F) << 7 * place
        at += 1
        if data[at - 1] < 0x80:
            break
    return value, at


def _sequence_size(bits: _Bits) -> Size:
    """Read a sequence header up to the size of its largest frame (5.5.1)."""
    bits.take(4)  # profile, still picture
    if bits.take(1):  # reduced still picture header
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(width_bits) + 1, bits.take(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    model, delay_bits = False, 0
    if bits.take(1):  # timing info
        bits.take(32), bits.take(32)
        if bits.take(1):  # equal picture interval
            bits.take_uvlc()
        model = bool(bits.take(1))
        if model:
            delay_bits = bits.take(5) + 1
            bits.take(32 + 5 + 5)
    display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if model and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if display_delay and bits.take(1):
            bits.take(4)


class _Bits:
    """Bits of some bytes, the highest first; IndexError behind the last."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:256], "big"), 8 * len(data[:256])

    def take(self, count: int) -> int:
        if count > self._left:
            raise IndexError
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)

    def take_uvlc(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return self.take(min(zeros, 32))
