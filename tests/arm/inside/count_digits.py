"""Reads frames of digits, a mark before each, for the emulator to count its instructions: `count_digits.py FOLDER OUT.json`.

FOLDER holds frames `(h, w, 3)` as .npy. Whichever edgecnn is installed reads them with its own shipped model, this one's reader
or that of commit d5a7022.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.runtimes import open_runtime

try:
    from edgecnn.handwriting import read_digits
except ImportError:  # before it was called so
    from edgecnn.finding import read_digits

REJECT_THRESHOLD = 0.8


def main(folder: Path, out: Path) -> None:
    """Read the first frame once to warm up, then each of them once."""
    cv2.setNumThreads(1)  # threads that wait for work spin, and how often depends on the machine
    runtime = open_runtime(Artifact.open(shipped.int8_path("mnist")))
    frames = {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}
    marks = []
    for name in [None, *frames]:
        image = frames[name or next(iter(frames))]
        marks.append(name or "")
        os.getppid()
        read_digits(image, runtime, REJECT_THRESHOLD)
    os.getppid()
    out.write_text(json.dumps([*marks, ""]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
