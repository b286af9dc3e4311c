"""Reads frames of digits again and again: `digit_reader.py FOLDER`, with whichever edgecnn is installed.

FOLDER holds frames `(h, w, 3)` as .npy. For each file's name on stdin one line of JSON follows on stdout: the least processor
time in milliseconds of several readings, and how many digits were read.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

RUNS = 3
REJECT_THRESHOLD = 0.8
Reader = Callable[[NDArray[np.uint8]], int]


def open_reader() -> Reader:
    """Return what reads a picture with the shipped model, and counts the digits."""
    from edgecnn import shipped
    from edgecnn.artifacts import Artifact
    from edgecnn.runtimes import open_runtime

    try:
        from edgecnn.handwriting import read_digits
    except ImportError:  # before it was called so
        from edgecnn.finding import read_digits
    runtime = open_runtime(Artifact.open(shipped.int8_path("mnist")))
    return lambda image: sum(each.class_id is not None for each in read_digits(image, runtime, REJECT_THRESHOLD))


def main() -> None:
    """Answer until stdin ends."""
    cv2.setNumThreads(1)
    read, folder = open_reader(), Path(sys.argv[1])
    for name in sys.stdin:
        image = np.load(folder / name.strip())
        spent, digits = [], 0
        for _ in range(RUNS):
            began_s = time.process_time()
            digits = read(image)
            spent.append(time.process_time() - began_s)
        print(json.dumps({"ms": 1000 * min(spent), "digits": digits}), flush=True)


main()
