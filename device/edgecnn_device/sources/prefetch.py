"""Decoding the next frames of a file while the loop works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

from edgecnn_device.frames import Frame, Missing

Item = Frame | Missing
_DEPTH = 2


def read_ahead(frames: Iterator[Item]) -> Iterator[Item]:
    """Yield the items of `frames` in order, of which a thread has up to two ready.

    An exception of `frames` comes after the items before it. The thread ends with the iterator, at the latest when that is
    closed.
    """
    # Two simple queues, since one that is bounded takes ten times as long: the second holds a place for each item to come.
    ready: queue.SimpleQueue[Item | BaseException | None] = queue.SimpleQueue()
    places: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(_DEPTH):
        places.put(None)
    stopping = threading.Event()
    thread = threading.Thread(target=_fill, args=(frames, ready, places, stopping), name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            places.put(None)
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopping.set()
        places.put(None)
        thread.join()


def _fill(
    frames: Iterator[Item],
    ready: queue.SimpleQueue[Item | BaseException | None],
    places: queue.SimpleQueue[None],
    stopping: threading.Event,
) -> None:
    last: BaseException | None = None
    try:
        for item in frames:
            places.get()
            if stopping.is_set():
                break
            ready.put(item)
            del item  # its picture is in the processor's cache: the next one should get that very memory
    except BaseException as error:  # whatever it is, it belongs to who reads the frames
        last = error
    ready.put(last)
    close = getattr(frames, "close", None)  # a generator closes its file in the thread that reads it
    if close is not None:
        close()
