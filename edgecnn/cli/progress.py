"""Progress on stderr: one line that changes on a terminal, else a line now and then; nothing for what is done at once."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator

import click

from edgecnn.progress import listening
from edgecnn.text import printable

SILENCE = 0.5  # seconds without a word before a job says what it does
_TICK = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0  # between plain lines of one stage; each pause is twice the last


@contextlib.contextmanager
def shown_progress(silence: float = SILENCE) -> Iterator[None]:
    """Show on stderr what is reported inside, and print the notes."""
    display = Display(silence)
    try:
        with listening(display.report, display.note):
            yield
    finally:
        display.close()


class Display:
    """Prints from a thread of its own, so that a stage which never reports is shown all the same."""

    def __init__(self, silence: float = SILENCE) -> None:
        """Say nothing for `silence` seconds."""
        self._silence = silence
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._stage: tuple[str, int, int | None] | None = None
        self._last_output = time.monotonic()
        self._shown_stage = ""  # of which a plain line was printed
        self._pause = _FIRST_PAUSE
        self._line_is_open = False

    def report(self, stage: str, done: int, total: int | None) -> None:
        """Take up how far a stage is; its end when `done` is `total`."""
        with self._lock:
            ended = done == total
            self._stage = None if ended else (stage, done, total)
            if ended and self._line_is_open:
                self._erase()
            elif ended and self._shown_stage == stage:
                self._print_plain(stage, done, total)
                self._shown_stage = ""
            elif not ended and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                self._thread.start()

    def note(self, line: str) -> None:
        """Print one line at once."""
        with self._lock:
            if self._line_is_open:
                self._erase()
            click.echo(printable(line), err=True)
            self._last_output = time.monotonic()

    def close(self) -> None:
        """End the thread, and the line that it may have begun."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        if self._line_is_open:
            self._erase()

    def _run(self) -> None:
        # A reader of stderr that has gone away must not end in a traceback of this thread.
        with contextlib.suppress(OSError, ValueError):
            while not self._closed.wait(_TICK):
                with self._lock:
                    if self._stage is not None:
                        self._tick(*self._stage)

    def _tick(self, stage: str, done: int, total: int | None) -> None:
        silent = time.monotonic() - self._last_output
        if sys.stderr.isatty():
            if self._line_is_open or silent >= self._silence:
                self._redraw(_text(stage, done, total))
        elif silent >= (self._pause if stage == self._shown_stage else self._silence):
            self._pause = min(2 * self._pause, _LONGEST_PAUSE) if stage == self._shown_stage else _FIRST_PAUSE
            self._shown_stage = stage
            self._print_plain(stage, done, total)

    def _print_plain(self, stage: str, done: int, total: int | None) -> None:
        click.echo(_text(stage, done, total), err=True)
        self._last_output = time.monotonic()

    def _redraw(self, text: str) -> None:
        width = shutil.get_terminal_size().columns
        click.echo(f"\r\x1b[K{text[: width - 1]}", err=True, nl=False)
        self._line_is_open = True

    def _erase(self) -> None:
        click.echo("\r\x1b[K", err=True, nl=False)
        self._line_is_open = False
        self._last_output = time.monotonic()


def _text(stage: str, done: int, total: int | None) -> str:
    if total is None:
        return f"{stage} ..." if done == 0 else f"{stage}: {done} so far"
    return f"{stage}: {done} of {total} ({100 * done // total} %)"
