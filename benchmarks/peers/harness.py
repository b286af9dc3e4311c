"""What all peers share: time each answer, and say at the end what the process cost.

A peer is a script `NAME.py MODEL.tflite FOLDER VIDEO`, FOLDER being the result of `edgecnn export neu`. It calls `run` with a
function that yields the class id of each frame of the video.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path


def run(answers: Callable[[Path, Path, str], Iterator[int]], needs: list[str]) -> None:
    """Time `answers(model, folder, video)`; `needs` are the distributions that somebody installs for this way."""
    model, folder, video = sys.argv[1:]
    stamps: list[tuple[float, float]] = []
    seen: list[int] = []
    peak_bytes = 0
    for class_id in answers(Path(model), Path(folder), video):
        if not seen:
            print("first", flush=True)
        seen.append(class_id)
        if len(seen) % 10 == 1:  # seldom: to look costs something, too
            stamps.append((time.perf_counter(), _processor_s()))
        peak_bytes = _peak_bytes() if len(seen) % 50 == 0 else peak_bytes  # children are gone at the end
    count = 10 * (len(stamps) - 2)
    (wall, cpu), (wall_end, cpu_end) = stamps[1], stamps[-1]  # the first ten frames are opening, loading and filling of caches
    figures = {
        "frames": len(seen),
        "wall_ms": 1000 * (wall_end - wall) / count,
        "cpu_ms": 1000 * (cpu_end - cpu) / count,
        "peak_rss_bytes": peak_bytes,
        "install_bytes": closure_bytes(needs),
        "classes": seen,
    }
    print(json.dumps(figures), flush=True)


def _processor_s() -> float:
    """Return the processor time of this process and its children so far."""
    ticks = 0
    for child in _children():
        fields = (child / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _peak_bytes() -> int:
    """Return the peak memory of this process and its children."""
    peak = 0
    for process in (Path("/proc/self"), *_children()):
        status = (process / "status").read_text().splitlines()
        peak += next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    return peak


def _children() -> list[Path]:
    return [Path("/proc", child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def closure_bytes(names: list[str]) -> int:
    """Return the size of these distributions' files and of all that they require."""
    waiting, sizes = list(names), {}
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in sizes:
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # required on other systems only
        sizes[name] = sum(path.stat().st_size for file in found.files or [] if (path := Path(str(file.locate()))).is_file())
        required = [text for text in found.requires or [] if "extra ==" not in text]
        waiting += [re.split(r"[ ;<>=!~\[(]", text, maxsplit=1)[0] for text in required]
    return sum(sizes.values())
