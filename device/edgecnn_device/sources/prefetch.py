"""Decoding the next frames of a file while the loop works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from edgecnn_device.frames import Frame, Missing

Item = Frame | Missing
_DEPTH = 2
_PATIENCE_S = 0.1


def read_ahead(frames: Iterator[Item]) -> Iterator[Item]:
    """Yield the items of `frames` in order, of which a thread has up to two ready.

    An exception of `frames` comes after the items before it. The thread ends with the iterator, at the latest when that is
    closed.
    """
    ready: queue.Queue[Item | BaseException | None] = queue.Queue(_DEPTH)
    stopping = threading.Event()
    thread = threading.Thread(target=_fill, args=(frames, ready, stopping), name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopping.set()
        thread.join()


def _fill(frames: Iterator[Item], ready: queue.Queue[Item | BaseException | None], stopping: threading.Event) -> None:
    last: BaseException | None = None
    try:
        for item in frames:
            if not _put(item, ready, stopping):
                break
    except BaseException as error:  # whatever it is, it belongs to who reads the frames
        last = error
    _put(last, ready, stopping)
    close = getattr(frames, "close", None)  # a generator closes its file in the thread that reads it
    if close is not None:
        close()


def _put(item: Item | BaseException | None, ready: queue.Queue[Item | BaseException | None], stopping: threading.Event) -> bool:
    """Wait for a place; False when nobody will take the item any more."""
    while not stopping.is_set():
        try:
            ready.put(item, timeout=_PATIENCE_S)
        except queue.Full:
            continue
        return True
    return False
