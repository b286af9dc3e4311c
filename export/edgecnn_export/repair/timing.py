"""How long several files take for a picture, in turns: what slows the machine down then slows all of them down."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecnn.runtimes import Runtime

ROUNDS = 15
Key = TypeVar("Key", bound=Hashable)


def time_side_by_side(
    runtimes: Mapping[Key, Runtime], images: NDArray[np.uint8], clock: Callable[[], float] = time.perf_counter
) -> dict[Key, float]:
    """Return the median time in ms that each runtime takes for one of the images `(n, h, w, c)`, after one round of warmup."""
    taken: dict[Key, list[float]] = {key: [] for key in runtimes}
    for _ in range(ROUNDS + 1):
        for key, runtime in runtimes.items():
            began = clock()
            runtime.run(images)
            taken[key].append(1e3 * (clock() - began) / len(images))
    return {key: float(np.median(times[1:])) for key, times in taken.items()}
