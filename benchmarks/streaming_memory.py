"""How much memory a training takes of a folder of many pictures, which are resized into mapped files.

    python -m benchmarks.streaming_memory 5000 20000 100000

Makes a folder of small drawn pictures of five classes, trains `compact` without a teacher for one epoch on them as 128 x 128 in
color, and follows the process. The table states for each number of pictures the size of all inputs, the peak of the memory that
is the process's own (anonymous) and of all that was resident (with mapped files, which the system may take away), CPU and
wall time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

CLASSES, SIDE = 5, 128


def draw(folder: Path, count: int, side: int) -> int:
    """Write pictures of noise whose color tells their class, `side` pixels a side; return their bytes."""
    written = 0
    for number in range(count):
        random = np.random.default_rng(number)
        picture = random.integers(0, 128, (side, side, 3), np.uint8)
        picture[..., number % 3] += np.uint8(40 + 20 * (number % CLASSES))
        path = folder / f"class{number % CLASSES}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)
        written += path.stat().st_size
    return written


def follow(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Return the peaks of anonymous and of all resident memory of a process, GB."""
    peaks = [0.0, 0.0]
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            break
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmRSS"))}
        peaks = [max(peak, kilobytes.get(name, 0) / 1e6) for peak, name in zip(peaks, ("RssAnon", "VmRSS"), strict=True)]
        time.sleep(0.1)
    return peaks[0], peaks[1]


def measure(count: int, side: int, work: Path) -> str:
    """Train on `count` pictures and return a row of the table."""
    folder = work / f"pictures-{count}"
    size = draw(folder, count, side)
    command = [
        sys.executable, "-m", "edgecnn", "train", str(folder), "--network", "compact", "--teacher", "none", "--epochs", "1",
        "--size", str(SIDE), "--color", "rgb", "--no-report", "--out", str(work / f"run-{count}"),
    ]  # fmt: skip
    before, began = os.times(), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    anonymous, resident = follow(process)
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    wall, after = time.monotonic() - began, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    inputs = count * SIDE * SIDE * 3 / 1e9
    return f"| {count:,} | {size / 1e9:.2f} | {inputs:.2f} | {anonymous:.2f} | {resident:.2f} | {cpu:.0f} | {wall:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How much memory a training takes of a folder of many pictures.")
    parser.add_argument("counts", nargs="*", type=int, default=[5000, 20000])
    parser.add_argument("--side", type=int, default=32, help="Pixels a side of each file.")
    stated = parser.parse_args()
    print("| pictures | files, GB | inputs, GB | peak anonymous, GB | peak resident, GB | CPU s | wall s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for count in stated.counts:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as work:
            print(measure(count, stated.side, Path(work)), flush=True)


if __name__ == "__main__":
    main()
