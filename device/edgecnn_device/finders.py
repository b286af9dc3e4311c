"""Where in a frame to look: the whole of it, tiles over a strip, or the handwritten digits in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from edgecnn.errors import InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn_device.frames import Image, Region

Finder = Callable[[Image], list[Region]]
Find = Literal["auto", "whole", "digits"]


def find_whole(image_bgr: Image) -> list[Region]:
    """Look at the whole frame as one view; the model's contract says how it is fitted."""
    height, width = image_bgr.shape[:2]
    return [Region((0, 0, width, height), image_bgr)]


@dataclass(frozen=True)
class Tiles:
    """A grid of `columns` x `rows` equal views over the frame; neighbours share `overlap` (0 to 0.9) of their side."""

    columns: int
    rows: int
    overlap: float = 0.0

    def __post_init__(self) -> None:
        if not (1 <= self.columns <= 64 and 1 <= self.rows <= 64):
            raise InputError(f"--tiles {self.columns}x{self.rows}: give 1 to 64 columns and rows, such as 6x1")
        if not 0 <= self.overlap <= 0.9:
            raise InputError(f"--overlap {self.overlap}: give 0 to 0.9 of a tile's side")

    @classmethod
    def parse(cls, text: str, overlap: float) -> Tiles:
        """Read `COLUMNSxROWS`, such as `6x1`."""
        columns, _, rows = text.lower().partition("x")
        if not (columns.isdecimal() and rows.isdecimal()):
            raise InputError(f"--tiles {text!r}: give COLUMNSxROWS, such as 6x1")
        return cls(int(columns), int(rows), overlap)

    def __call__(self, image_bgr: Image) -> list[Region]:
        """Return the tiles row by row; together they cover the whole frame."""
        height, width = image_bgr.shape[:2]
        if height < self.rows or width < self.columns:
            raise InputError(f"a frame of {width}x{height} pixels has no {self.columns}x{self.rows} tiles")
        return [
            Region((x, y, w, h), image_bgr[y : y + h, x : x + w])
            for y, h in spans(height, self.rows, self.overlap)
            for x, w in spans(width, self.columns, self.overlap)
        ]


def spans(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Divide `length` pixels into `count` equal spans (start, size), neighbours sharing `overlap` of their size."""
    size = length / (count - (count - 1) * overlap)
    whole = min(length, max(1, round(size)))
    return [(round(i * (length - whole) / (count - 1)) if count > 1 else 0, whole) for i in range(count)]


def find_handwriting(image_bgr: Image) -> list[Region]:
    """Find handwritten digits; each region's view is the digit in its 28 x 28 form."""
    from edgecnn.finding import find_digits

    return [Region(digit.box, digit.form) for digit in find_digits(image_bgr)]


def choose_finder(
    preprocessing: Preprocessing, *, find: Find = "auto", tiles: str | None = None, overlap: float = 0.0
) -> Finder:
    """Choose the finder that was asked for; `auto` looks for digits where the model wants them, else at the whole frame."""
    if find not in get_args(Find):
        raise InputError(f"unknown finder {find!r}; known: {', '.join(get_args(Find))}")
    if tiles is not None:
        if find == "digits":
            raise InputError("--tiles and --find digits exclude each other")
        return Tiles.parse(tiles, overlap)
    wants_digits = preprocessing.fit == "digit"
    if find == "digits" and not wants_digits:
        raise InputError("--find digits needs a model of handwritten digits (28 x 28, fit 'digit')")
    return find_handwriting if find == "digits" or (find == "auto" and wants_digits) else find_whole
