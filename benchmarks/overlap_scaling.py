"""How the search for the same part grows with the number of pictures: time, memory, and what it finds.

    python -m benchmarks.overlap_scaling 360 720 1500

Pictures are made when they are asked for, and none is kept: half of them show a part for the first time, the others show one of
these parts again, turned by any angle, shifted and in another light. The table states for each number of pictures the time to
make them alone, CPU and wall time of the search (with making them), the process's peak memory, and recall and precision.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 200
CLASSES = 5


class Parts(Sequence[NDArray[np.uint8]]):
    """`count` gray pictures `(200, 200)`: the second half shows the parts of the first half again."""

    def __init__(self, count: int) -> None:
        """Make a sequence of `count` pictures."""
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def shown(self) -> NDArray[np.int64]:
        """The part `(count,)` that each picture shows."""
        return np.arange(self._count) % -(-self._count // 2)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # type: ignore[override]  # never asked for a slice
        part = index % -(-self._count // 2)
        fine = np.random.default_rng(part).integers(0, 256, (SIDE, SIDE)).astype(np.float32)
        layers = [(cv2.GaussianBlur(fine, (0, 0), sigma) - 127.5) * sigma for sigma in (1.2, 4.0)]
        picture = 128 + 0.45 * (layers[0] + layers[1])
        if part != index:
            random = np.random.default_rng((1, index))
            turn = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), random.uniform(0, 360), 1.0)
            turn[:, 2] += random.uniform(-20, 20, 2)
            picture = cv2.warpAffine(picture, turn, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT) * random.uniform(0.6, 1.2)
        return np.clip(picture, 0, 255).astype(np.uint8)


def measure(count: int) -> str:
    """Search `count` pictures; return a row of the table."""
    from edgecnn.datasets.overlap import find_overlaps

    pictures = Parts(count)
    before = time.process_time()
    for index in range(min(count, 500)):
        pictures[index * count // min(count, 500)]
    making = (time.process_time() - before) / min(count, 500) * count
    before, began = time.process_time(), time.monotonic()
    found = find_overlaps(pictures, pictures.shown % CLASSES)
    cpu, wall = time.process_time() - before, time.monotonic() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    right = sum(pictures.shown[pair.first] == pictures.shown[pair.second] for pair in found.pairs)
    recall, precision = right / (count // 2), right / max(len(found.pairs), 1)
    return f"| {count:,} | {making:.0f} | {cpu:.0f} | {wall:.0f} | {memory:.2f} | {recall:.3f} | {precision:.3f} |"


def main() -> None:
    """Print the table, each row measured in a process of its own."""
    parser = argparse.ArgumentParser(description="How the search for the same part grows with the number of pictures.")
    parser.add_argument("counts", nargs="*", type=int, default=[360, 720, 1500])
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    stated = parser.parse_args()
    if stated.row:
        print(measure(stated.counts[0]))
        return
    print("| pictures | making them, CPU s | search, CPU s | wall s | peak memory, GiB | recall | precision |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for count in stated.counts:
        subprocess.run([sys.executable, "-m", "benchmarks.overlap_scaling", "--row", str(count)], check=True)


if __name__ == "__main__":
    main()
