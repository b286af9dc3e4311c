"""What a process that classifies settles before it loads anything."""

from __future__ import annotations

import gc
import os
from collections.abc import MutableMapping

_ALLOCATIONS = 20_000  # between two looks for cyclic garbage, of which pictures and answers make none


def settle_process(environment: MutableMapping[str, str] = os.environ) -> None:
    """Give NumPy's BLAS one thread, and look for cyclic garbage less often; must come before NumPy is loaded.

    The idle threads of OpenBLAS spin: from the start to the first answer they burnt as much processor time as all the rest,
    for products of matrices that are too small for a second thread. Whoever sets OPENBLAS_NUM_THREADS has what it says.
    """
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(_ALLOCATIONS)
