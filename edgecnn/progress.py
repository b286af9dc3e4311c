"""How far a long job is, reported to whoever listens; the command line does, a notebook may.

Ambient instead of passed along: whatever reads a folder reports, however deep it is called, and no command can forget to.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[str, int, int | None], None]
Note = Callable[[str], None]

_AHEAD = 16
MAX_WORKERS = 16  # each may hold a decoded photograph of 200 MB

_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)
_note: ContextVar[Note | None] = ContextVar("note", default=None)


@contextlib.contextmanager
def listening(progress: Progress | None = None, note: Note | None = None) -> Iterator[None]:
    """Let `progress(stage, done, total)` and `note(line)` hear what is reported inside.

    `total` is None where it is unknown; `done` is `total` at the end of a stage. Both may raise to stop the job.
    """
    tokens = _progress.set(progress), _note.set(note)
    try:
        yield
    finally:
        _progress.reset(tokens[0])
        _note.reset(tokens[1])


def report(stage: str, done: int, total: int | None) -> None:
    """Tell that `done` of `total` parts of `stage` are done."""
    if (progress := _progress.get()) is not None:
        progress(stage, done, total)


def note(line: str) -> None:
    """Tell one line that a user should know, such as which files were left out."""
    if (listener := _note.get()) is not None:
        listener(line)


def on_all_cores(work: Callable[[Item], Result], items: Sequence[Item], stage: str) -> Iterator[Result]:
    """Map `work` over `items` in threads, in order, and report how far that is; an interruption leaves the rest undone.

    It pays where `work` spends its time in NumPy and OpenCV, which release the interpreter lock. _AHEAD items for each thread
    wait at most: what a hundred thousand need to wait takes 200 MB.
    """
    from concurrent.futures import ThreadPoolExecutor

    report(stage, 0, len(items) or None)
    workers = min(os.cpu_count() or 1, MAX_WORKERS)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            coming = iter(items)
            waiting = deque(pool.submit(work, item) for item in itertools.islice(coming, _AHEAD * workers))
            for done in range(1, len(items) + 1):
                result = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in itertools.islice(coming, 1))
                yield result
                report(stage, done, len(items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
