"""What a process that classifies settles before it loads anything."""

from __future__ import annotations

import gc
import os

_BLAS_THREADS = "OPENBLAS_NUM_THREADS"
_ALLOCATIONS = 20_000  # between two looks for cyclic garbage, of which pictures and answers make none


def settle_process() -> None:
    """Load NumPy with one thread for its BLAS, and look for cyclic garbage less often.

    The idle threads of OpenBLAS spin: from the start to the first answer they burnt as much processor time as all the rest,
    for products of matrices that are too small for a second thread. Whoever sets OPENBLAS_NUM_THREADS has what it says, and
    programs that this one starts hear nothing of it.
    """
    gc.set_threshold(_ALLOCATIONS)
    if _BLAS_THREADS in os.environ:
        return
    os.environ[_BLAS_THREADS] = "1"
    try:
        import numpy  # noqa: F401  # which reads the variable as it is loaded
    finally:
        del os.environ[_BLAS_THREADS]
