"""Holding back what native code prints, so that an error of ours is the only line on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import IO

from edgecnn.errors import EdgecnnError

# Printed by LiteRT and TensorFlow Lite whenever an interpreter is made; it cannot be switched off from Python.
_USUAL = (b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", b"INFO: Initialized TensorFlow Lite runtime.")
_LOGGERS = ("absl", "tensorflow", "tf2onnx", "root")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back stdout, stderr and Python's warnings during a conversion; an exception that is not ours shows them.

    Native code's output (file descriptors 1 and 2) as well. Not for use in several threads at once: a process has one stdout.
    """
    held = _held(1, 2, show=lambda text, error: text if _is_unexpected(error) else b"")
    with held, _loggers_at_error(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Hold back what native code writes to stderr while a framework is imported; it is shown when the block fails."""
    with _held(2, show=lambda text, error: b"" if error is None else text):
        yield


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Drop the lines that every start of a runtime prints from what the block writes to stderr; all else is passed on."""
    with _held(2, show=lambda text, _: b"".join(line for line in text.splitlines(keepends=True) if line.strip() not in _USUAL)):
        yield


def hidden_file() -> IO[bytes]:
    """Return a file without a name, in memory where the system can: a board's disk may be read-only."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edgecnn"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


@contextlib.contextmanager
def _held(*descriptors: int, show: Callable[[bytes, BaseException | None], bytes]) -> Iterator[None]:
    """Hold back what is written to file descriptors; of that `show(text, error)` goes to stderr afterwards."""
    error: BaseException | None = None
    _flush()
    with hidden_file() as held:
        saved = [(descriptor, _duplicate(descriptor)) for descriptor in descriptors]
        try:
            for descriptor in descriptors:
                os.dup2(held.fileno(), descriptor)
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            _flush()
            for descriptor, copy in saved:
                _restore(descriptor, copy)
            held.seek(0)
            _write(show(held.read(), error))


def _is_unexpected(error: BaseException | None) -> bool:
    """True for an exception whose cause what was printed may tell; the one line of an error of ours says it all."""
    return isinstance(error, Exception) and not isinstance(error, EdgecnnError)


def _duplicate(descriptor: int) -> int | None:
    try:
        return os.dup(descriptor)
    except OSError:  # a service may run without stdout
        return None


def _restore(descriptor: int, copy: int | None) -> None:
    if copy is None:
        os.close(descriptor)
    else:
        os.dup2(copy, descriptor)
        os.close(copy)


def _write(text: bytes) -> None:
    if text and sys.stderr is not None:
        sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


@contextlib.contextmanager
def _loggers_at_error() -> Iterator[None]:
    import logging  # for conversions alone: a start waits a few milliseconds for it

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
