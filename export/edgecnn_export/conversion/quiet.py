"""TensorFlow without its chatter: what native code prints is kept back, and shown only when something goes wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import BinaryIO

from edgecnn.errors import EdgecnnError

_LOGGERS = ("absl", "tensorflow", "tf2onnx", "root")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep stdout and stderr back, native code's as well (file descriptors 1 and 2); an exception replays them on stderr.

    Not for use in several threads at once: a process has one stdout.
    """
    _flush()
    with tempfile.TemporaryFile() as kept, _loggers_at_error(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = [(descriptor, _duplicate(descriptor)) for descriptor in (1, 2)]
        try:
            for descriptor, _ in saved:
                os.dup2(kept.fileno(), descriptor)
            yield
        except EdgecnnError:
            raise  # its one line says it all
        except Exception:
            _restore(saved)
            _replay(kept)
            raise
        finally:
            _restore(saved)


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # a service may run without stdout
        return None


def _restore(saved: list[tuple[int, int | None]]) -> None:
    _flush()
    while saved:
        descriptor, copy = saved.pop()
        if copy is None:
            os.close(descriptor)
        else:
            os.dup2(copy, descriptor)
            os.close(copy)


def _replay(kept: BinaryIO) -> None:
    kept.seek(0)
    text = kept.read().decode(errors="replace")
    if text and sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


@contextlib.contextmanager
def _loggers_at_error() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
