"""Reading fields of a FlatBuffer of unknown origin with nothing but `struct`: each position is checked before it is read.

The layout is that of https://flatbuffers.dev/internals/: a table begins with the distance to its vtable, which says where in
the table each field stands; strings, vectors and tables are reached by offsets relative to where the offset stands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MOST_ITEMS = 2**16


class FlatBufferError(ValueError):
    """The bytes are no FlatBuffer of the expected form."""


@dataclass(frozen=True)
class Table:
    """A table at `position` of `data`; fields are asked for by their number in the schema."""

    data: bytes
    position: int

    @classmethod
    def root(cls, data: bytes, identifier: bytes) -> Table:
        """Return the root table; FlatBufferError when the file identifier is another."""
        if data[4:8] != identifier:
            raise FlatBufferError(f"expected the file identifier {identifier!r}, got {data[4:8]!r}")
        return cls(data, _read(data, "<I", 0))

    def number(self, field: int, form: str, default: int = 0) -> int:
        """Return a number of the struct format `form`, such as `<i`."""
        at = self._at(field)
        return default if at is None else int(_read(self.data, form, at))

    def text(self, field: int) -> str | None:
        """Return a string."""
        content = self.content(field)
        return None if content is None else content.decode("utf-8", "replace")

    def content(self, field: int) -> bytes | None:
        """Return a vector of bytes, or a string, as bytes."""
        found = self._vector(field)
        if found is None:
            return None
        start, count = found
        if start + count > len(self.data):
            raise FlatBufferError("a vector ends beyond the file")
        return self.data[start : start + count]

    def numbers(self, field: int, form: str) -> tuple[float, ...]:
        """Return a vector of numbers, each of the struct format `form`."""
        found = self._vector(field)
        if found is None:
            return ()
        start, count = found
        size = struct.calcsize(form)
        if count > MOST_ITEMS or start + count * size > len(self.data):
            raise FlatBufferError("a vector ends beyond the file, or is too long")
        return tuple(value for (value,) in struct.iter_unpack(form, self.data[start : start + count * size]))

    def table(self, field: int) -> Table | None:
        """Return a table that a field refers to."""
        at = self._at(field)
        return None if at is None else Table(self.data, at + _read(self.data, "<I", at))

    def tables(self, field: int) -> Iterator[Table]:
        """Return the tables of a vector, in order."""
        found = self._vector(field)
        if found is None:
            return
        start, count = found
        if count > MOST_ITEMS:
            raise FlatBufferError("a vector is too long")
        for at in range(start, start + 4 * count, 4):
            yield Table(self.data, at + _read(self.data, "<I", at))

    def _at(self, field: int) -> int | None:
        """Return where a field's value stands, None when the table leaves it out."""
        vtable = self.position - _read(self.data, "<i", self.position)
        if vtable < 0 or 4 + 2 * field >= _read(self.data, "<H", vtable):
            return None
        offset = _read(self.data, "<H", vtable + 4 + 2 * field)
        return self.position + offset if offset else None

    def _vector(self, field: int) -> tuple[int, int] | None:
        at = self._at(field)
        if at is None:
            return None
        start = at + _read(self.data, "<I", at)
        return start + 4, _read(self.data, "<I", start)


def _read(data: bytes, form: str, at: int) -> int:
    try:
        (value,) = struct.unpack_from(form, data, at)
    except struct.error as error:
        raise FlatBufferError("an offset leads out of the file") from error
    return int(value)
