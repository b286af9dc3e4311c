"""Pictures and labels kept as NumPy `.npy` arrays, as the course keeps NEU."""

from __future__ import annotations

import tokenize
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import DatasetError


def read_images(path: Path) -> NDArray[np.uint8]:
    """Read pictures `(n, h, w)` or `(n, h, w, 1)`, 0..1 floats or whole numbers 0..255, as `(n, h, w, 1)` uint8.

    Raises DatasetError for any other shape or range: an array that was standardised or divided twice cannot be restored.
    """
    array = _read(path)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[3] != 1 or array.size == 0:
        raise DatasetError(f"{path} has shape {array.shape}; expected gray pictures (n, height, width, 1)")
    if array.dtype == np.uint8:
        return np.array(array)
    if array.dtype.kind not in "fiu":
        raise DatasetError(f"{path} holds {array.dtype}; expected 0..1 floats or whole numbers 0..255")
    return _to_uint8(path, array)


def read_labels(path: Path, *, count: int, classes: int) -> NDArray[np.int64]:
    """Read `count` class numbers 0..classes-1, `(n,)` or `(n, 1)`, integers or whole floats, as int64."""
    array = _read(path)
    if array.shape not in ((count,), (count, 1)):
        raise DatasetError(f"{path} has shape {array.shape}; expected {count} labels, one per picture")
    array = array.reshape(-1)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all() or (array != np.rint(array)).any():
        raise DatasetError(f"{path} holds {array.dtype} values that are not whole numbers; expected classes 0..{classes - 1}")
    if array.min() < 0 or array.max() >= classes:
        raise DatasetError(f"{path} has labels {array.min():g}..{array.max():g}; expected 0..{classes - 1}")
    return array.astype(np.int64)


def _read(path: Path) -> NDArray[np.generic]:
    if not path.is_file():
        raise DatasetError(f"{path} is missing; the array form of NEU is four files side by side")
    try:
        # Mapped, so that a header that claims terabytes fails instead of allocating them.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, SyntaxError, tokenize.TokenError) as error:
        raise DatasetError(f"{path} is not a readable .npy array: {' '.join(str(error).split())}") from error
    if not isinstance(array, np.ndarray):
        raise DatasetError(f"{path} is an .npz archive, not a .npy array")
    return array


def _to_uint8(path: Path, array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Map 0..1 floats or whole 0..255 values to uint8, telling them apart by range and wholeness."""
    lowest, highest, whole = _survey(array)
    if not (lowest >= 0 and highest <= 255 and (whole or highest <= 1)):
        raise DatasetError(
            f"{path} has values {lowest:g}..{highest:g}{'' if whole else ', not whole'}; expected 0..1 floats or whole "
            "numbers 0..255: save the pictures without any other scaling"
        )
    if array.dtype.kind == "f" and highest <= 1:
        if whole and highest == lowest:
            raise DatasetError(f"{path} is {lowest:g} everywhere; there is nothing to learn from it")
        return np.stack([np.rint(image.astype(np.float64) * 255).astype(np.uint8) for image in array])
    return np.stack([image.astype(np.uint8) for image in array])


def _survey(array: NDArray[np.generic]) -> tuple[float, float, bool]:
    """Return the lowest and highest value and whether all are whole numbers; NaN is the lowest where there is one."""
    lowest, highest, whole = np.inf, -np.inf, True
    for image in array:
        values = image.astype(np.float64)
        if not np.isfinite(values).all():
            return np.nan, np.nan, False
        lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
        whole = whole and bool((values == np.rint(values)).all())
    return lowest, highest, whole
