"""How a process that classifies begins."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Load NumPy with one thread for its BLAS, and import what the block imports without looking for cyclic garbage.

    The idle threads of OpenBLAS spin: from the start to the first answer they burnt as much processor time as all the rest,
    for products of matrices that are too small for a second thread. Whoever sets OPENBLAS_NUM_THREADS has what it says, and
    programs that this one starts hear nothing of it. Modules live as long as the process: what the block has loaded is not
    looked at again. In a process that has NumPy already, nothing is done.
    """
    if "numpy" in sys.modules:
        yield
        return
    gc.disable()
    try:
        _load_numpy()
        yield
    finally:
        gc.freeze()
        gc.enable()


def _load_numpy() -> None:
    if _BLAS_THREADS in os.environ:
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        import numpy  # noqa: F401  # which reads the variable as it is loaded
    finally:
        del os.environ[_BLAS_THREADS]
