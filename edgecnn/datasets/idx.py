"""The IDX file format of MNIST: a typed array with its sizes in front, often compressed with gzip.

Format: http://yann.lecun.com/exdb/mnist (bottom of the page): two zero bytes, a type byte, the number of axes, each size as a
big-endian 32-bit integer, then the values.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import DatasetError
from edgecnn.files import read_bytes

MAX_BYTES = 2**30
_UINT8 = 0x08
_GZIP = b"\x1f\x8b"


def read_idx(path: Path, *, axes: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes with this number of axes; DatasetError when it is damaged or something else."""
    data = read_bytes(path, at_most=MAX_BYTES)
    if data.startswith(_GZIP):
        data = _unpacked(path)
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DatasetError(f"{path} is not an IDX file: it starts with {data[:4].hex() or 'nothing'}; download it again")
    if (data[2], data[3]) != (_UINT8, axes):
        raise DatasetError(
            f"{path} has IDX type 0x{data[2]:02x} with {data[3]} axes; expected unsigned bytes (0x08) with {axes}: "
            "is it the right file of the four?"
        )
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, min(start, len(data) - 3), 4))
    expected = start + math.prod(shape)
    if len(shape) < axes or len(data) != expected:
        raise DatasetError(f"{path} has {len(data)} bytes where its header promises {expected}; download it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _unpacked(path: Path) -> bytes:
    """Unpack at most MAX_BYTES, so that a small hostile file cannot fill the memory."""
    try:
        with gzip.open(path) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} is a damaged gzip file ({error}); download it again") from error
    if len(data) > MAX_BYTES:
        raise DatasetError(f"{path} unpacks to more than {MAX_BYTES} bytes; that is not an MNIST file")
    return data
