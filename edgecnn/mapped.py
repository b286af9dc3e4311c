"""Pictures that may be larger than memory: above a size they lie in a file in the cache folder, mapped into memory.

The file has no name (`O_TMPFILE`, open(2)): however the process ends, nothing is left of it. Its room is taken at once, so that
a full disk is an error here and no SIGBUS later. What was read of it stays resident until `let_go`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import OutputError
from edgecnn.files import CACHE_VARIABLE, cache_folder
from edgecnn.memory import limit_bytes
from edgecnn.progress import note

IN_MEMORY_BYTES = 2**29  # larger arrays are mapped
_BLOCK_BYTES = 2**26  # that are copied or hashed at once
_mapped: WeakSet[mmap.mmap] = WeakSet()


def new_pictures(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array of this shape to be filled.

    Where the cache folder has no room for a large one, it is made in memory if that takes no more than half of it, and a note
    says so; else OutputError.
    """
    size = prod(shape)
    if size <= IN_MEMORY_BYTES:
        return np.empty(shape, np.uint8)
    folder = cache_folder()
    reason = f"{CACHE_VARIABLE} turns the cache off"
    if folder is not None:
        try:
            return _map(shape, folder)
        except OSError as error:
            reason = f"{folder}: {(error.strerror or str(error)).lower()}"
    what = f"{size / 1e9:.1f} GB of resized pictures"
    if size > limit_bytes() // 2:
        raise OutputError(
            f"no room on the disk for {what} ({reason}): free some, name another folder by {CACHE_VARIABLE}, or take a smaller "
            "--size"
        )
    note(f"  {what} are held in memory, not on the disk ({reason})")
    return np.empty(shape, np.uint8)


def _map(shape: tuple[int, ...], folder: Path) -> NDArray[np.uint8]:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, prefix="pictures-") as file:
        os.posix_fallocate(file.fileno(), 0, prod(shape))
        return _array(mmap.mmap(file.fileno(), prod(shape)), shape)


def _array(memory: mmap.mmap, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    _mapped.add(memory)
    return np.ndarray(shape, np.uint8, buffer=memory)


@dataclass(frozen=True, eq=False)
class Lent:
    """Pictures of `shape` for a child process (`lend`): themselves, or the `path` of a file that the parent holds open."""

    shape: tuple[int, ...]
    images: NDArray[np.uint8] | None
    path: str = ""

    def pictures(self) -> NDArray[np.uint8]:
        """Return the pictures, read-only where they lie in a file."""
        if self.images is not None:
            return self.images
        with Path(self.path).open("rb") as file:
            return _array(mmap.mmap(file.fileno(), prod(self.shape), access=mmap.ACCESS_READ), self.shape)


@contextlib.contextmanager
def lend(images: NDArray[np.uint8]) -> Iterator[Lent]:
    """Give what stands for pictures when it is pickled for child processes: of large ones, a file that is open meanwhile.

    Where the disk has no room for it, or the system no `/proc` to reach it by, it is the pictures themselves.
    """
    file = _copied(images)
    if file is None:
        yield Lent(images.shape, images)
        return
    with file:
        yield Lent(images.shape, None, f"/proc/{os.getpid()}/fd/{file.fileno()}")


def _copied(images: NDArray[np.uint8]) -> IO[bytes] | None:
    """Return an open file without a name that holds large pictures; None for small ones, and where there can be none."""
    folder = cache_folder()
    if images.nbytes <= IN_MEMORY_BYTES or folder is None or not Path("/proc/self/fd").is_dir():
        return None
    with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        file = opened.enter_context(tempfile.TemporaryFile(dir=folder, prefix="pictures-"))
        os.posix_fallocate(file.fileno(), 0, images.nbytes)
        for block in blocks(images):
            file.write(np.ascontiguousarray(block).data)
        file.flush()
        opened.pop_all()
        return file
    return None


def let_go() -> None:
    """Let go of what lies in mapped files: their contents stay, on the disk and in the system's cache of it."""
    for memory in tuple(_mapped):
        with contextlib.suppress(OSError, ValueError):
            memory.madvise(mmap.MADV_DONTNEED)


def blocks(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures `(n, h, w, c)` in order, some at once, and let go of them behind it."""
    at_once = max(1, _BLOCK_BYTES // max(1, prod(images.shape[1:])))
    for at in range(0, len(images), at_once):
        yield images[at : at + at_once]
        let_go()


def take_pictures(images: NDArray[np.uint8], indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the pictures at `indices` `(k,)` of `(n, h, w, c)` as an array of their own."""
    taken = new_pictures((len(indices), *images.shape[1:]))
    at = 0
    for block in blocks(taken):
        np.take(images, indices[at : at + len(block)], axis=0, out=block)
        at += len(block)
    return taken


def join_pictures(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return all pictures of several arrays `(n, h, w, c)` of one shape in order."""
    joined = new_pictures((sum(map(len, parts)), *parts[0].shape[1:]))
    at = 0
    for part in parts:
        for block in blocks(part):
            joined[at : at + len(block)] = block
            at += len(block)
    return joined


def stack_pictures(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return pictures `(h, w, c)` as one array; those that lie one behind another in one already are not copied."""
    if (rows := _as_rows(images)) is not None:
        return rows
    stacked = new_pictures((len(images), *images[0].shape))
    for at, image in enumerate(images):
        stacked[at] = image
    let_go()
    return stacked


def _as_rows(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    """Return the array whose rows in order, without a gap, these are."""
    whole, size = images[0].base, images[0].nbytes
    if not isinstance(whole, np.ndarray) or whole.shape[1:] != images[0].shape or not whole.flags.c_contiguous:
        return None
    first = (_address(images[0]) - _address(whole)) // max(1, size)
    follow = all(image.base is whole and _address(image) == _address(whole) + i * size for i, image in enumerate(images, first))
    return whole[first : first + len(images)] if follow else None


def _address(array: NDArray[np.uint8]) -> int:
    return int(array.__array_interface__["data"][0])


class Shelf:
    """Keeps arrays of any shape: the first IN_MEMORY_BYTES of them in memory, all others in mapped files."""

    def __init__(self) -> None:
        """Begin empty."""
        self._held = 0
        self._free: NDArray[np.uint8] = np.empty(0, np.uint8)

    def keep(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return what stands for `array` from now on."""
        if self._held + array.nbytes <= IN_MEMORY_BYTES:
            self._held += array.nbytes
            return array
        if len(self._free) < array.nbytes:
            self._free = new_pictures((max(array.nbytes, IN_MEMORY_BYTES + 1),))
        place, self._free = self._free[: array.nbytes].reshape(array.shape), self._free[array.nbytes :]
        place[...] = array
        return place
