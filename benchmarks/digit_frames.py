"""Whole frames of digits beside the reader of commit d5a7022, in turn: `python -m benchmarks.digit_frames [--json]`.

Without that reader's environment (`benchmarks/setup.sh`) its columns stay empty.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgecnn.classifier import Classifier
from edgecnn_device.bench.digits import SCENES, SIZES_WH, draw_scene, measure_frame

HERE = Path(__file__).parent
ROUNDS, RUNS, SECONDS = 3, 20, 1.0
SEEDS = range(3)
FPS = 30  # of a live camera
# How many times faster than that reader a frame of 640x480 is to be read.
TARGETS = {"3 digits": 5.0, "14 digits": 5.0, "63 digits": 6.0, "untidy desk, 3 digits": 10.0}
HEAD = (
    "| frame | size | classified | find ms | invoke ms | whole ms | floor ms | over floor | unchanged ms "
    "| still, % of a core | d5a7022 ms | times faster | target |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
)


class Reader:
    """A process that reads frames of a folder."""

    def __init__(self, python: str, folder: Path) -> None:
        """Start it; `close` ends it."""
        command = [python, str(HERE / "peers" / "digit_reader.py"), str(folder)]
        alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment = dict(os.environ) if python == sys.executable else alone
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def read(self, name: str) -> float:
        """Return the milliseconds that one frame takes it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(name, file=self._process.stdin, flush=True)
        return float(json.loads(self._process.stdout.readline())["ms"])

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def measure() -> list[dict[str, Any]]:
    """Measure all scenes: ours by step beside its floor, and both readers in turn; means over the seeds' frames."""
    cv2.setNumThreads(1)
    old = HERE / ".envs" / "reader_d5a7022" / "bin" / "python"
    pythons = {"ms": sys.executable} | ({"before_ms": str(old)} if old.exists() else {})
    classifier, rows = Classifier.open("mnist"), []
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as stack:
        folder = Path(text)
        readers = {name: stack.enter_context(contextlib.closing(Reader(python, folder))) for name, python in pythons.items()}
        for size_wh in SIZES_WH:
            for scene in SCENES:
                print(f"measuring {scene}, {size_wh[0]}x{size_wh[1]} ...", file=sys.stderr)
                images = [draw_scene(scene, size_wh, seed) for seed in SEEDS]
                costs = [measure_frame(image, scene, classifier, runs=RUNS, seconds=SECONDS).to_json() for image in images]
                row = {name: float(np.mean([cost[name] for cost in costs])) for name in costs[0] if name != "scene"}
                rows.append({"scene": scene, **row, **in_turn(images, folder, readers)})
    return rows


def in_turn(images: list[Any], folder: Path, readers: dict[str, Reader]) -> dict[str, float]:
    """Return each reader's mean milliseconds a frame, the best of the rounds."""
    sums = dict.fromkeys(readers, 0.0)
    for number, image in enumerate(images):
        np.save(folder / f"{number}.npy", image)
        rounds = [{name: reader.read(f"{number}.npy") for name, reader in readers.items()} for _ in range(ROUNDS)]
        sums = {name: sums[name] + min(each[name] for each in rounds) for name in readers}
    return {name: total / len(images) for name, total in sums.items()}


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the table as Markdown."""
    return [*HEAD, *map(_line, rows)]


def _line(row: dict[str, Any]) -> str:
    times = [f"{row[name]:.2f}" for name in ("find_ms", "invoke_ms", "whole_ms", "floor_ms")]
    still = ((FPS - 1) * row["unchanged_ms"] + row["whole_ms"]) / 10  # all of a frame is read once a second
    beside = [f"{row['whole_ms'] / row['floor_ms']:.1f}", f"{row['unchanged_ms']:.2f}", f"{still:.1f}", *_before(row)]
    size = f"{row['width']:.0f}x{row['height']:.0f}"
    return "| " + " | ".join([row["scene"], size, f"{row['regions']:.0f}", *times, *beside]) + " |"


def _before(row: dict[str, Any]) -> list[str]:
    if "before_ms" not in row:
        return ["", "", ""]
    faster = row["before_ms"] / row["ms"]
    wanted = TARGETS.get(row["scene"]) if row["height"] == SIZES_WH[0][1] else None
    target = "" if wanted is None else f"{wanted:g}: {'met' if faster >= wanted else '**missed**'}"
    return [f"{row['before_ms']:.1f}", f"{faster:.1f}", target]


def main() -> None:
    """Measure and print."""
    rows = measure()
    print(json.dumps(rows) if "--json" in sys.argv else "\n".join(lines(rows)))


if __name__ == "__main__":
    main()
