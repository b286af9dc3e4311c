"""Keeping back what a runtime's native code says at every start, so that an error of ours is the only line on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO

# Printed by LiteRT and TensorFlow Lite whenever an interpreter is made; it cannot be switched off from Python.
_USUAL = (b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.", b"INFO: Initialized TensorFlow Lite runtime.")


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Drop the lines that every start prints from what the block writes to file descriptor 2; all else is passed on."""
    sys.stderr.flush()
    with hidden_file() as held:
        kept = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held.read().splitlines(keepends=True):
                if line.strip() not in _USUAL:
                    os.write(2, line)


def hidden_file() -> IO[bytes]:
    """Return a file without a name, in memory where the system can: a board's disk may be read-only."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edgecnn"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()
