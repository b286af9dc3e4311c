"""Pictures that show the time at which they were made, as 48 squares: milliseconds in binary. Needs no NumPy to draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# All within the middle square of 320 x 240, which is what a model of square pictures gets to see.
LEFT, TOP, SIDE, COLUMNS, BITS = 64, 48, 24, 8, 48
DARK, MIDDLE, LIGHT = 40, 128, 220


def draw_gray(seconds: float, width: int = 320, height: int = 240) -> bytes:
    """Return a gray picture of `seconds` (of the Unix epoch), row by row."""
    bits = int(seconds * 1000) & (2**BITS - 1)
    rows = [bytes([MIDDLE + 8 * (row % 7)]) * width for row in range(height)]
    for line in range(BITS // COLUMNS):
        squares = b"".join(bytes([LIGHT if bits >> (line * COLUMNS + n) & 1 else DARK]) * SIDE for n in range(COLUMNS))
        row = bytes([MIDDLE]) * LEFT + squares + bytes([MIDDLE]) * (width - LEFT - len(squares))
        rows[TOP + line * SIDE : TOP + (line + 1) * SIDE] = [row] * SIDE
    return b"".join(rows)


def read_time(image: NDArray[np.uint8]) -> float:
    """Read the seconds that are drawn in a picture `(240, 320)` or `(240, 320, 3)`."""
    gray = image if image.ndim == 2 else image[:, :, 1]
    bits = 0
    for bit in range(BITS):
        line, column = divmod(bit, COLUMNS)
        bits |= int(gray[TOP + line * SIDE + SIDE // 2, LEFT + column * SIDE + SIDE // 2] > MIDDLE) << bit
    return bits / 1000
