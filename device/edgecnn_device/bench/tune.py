"""Which thread pools suit this machine: the runtime's and OpenCV's, by what a frame takes with each."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecnn.artifacts import Artifact
from edgecnn.classifier import artifact_path
from edgecnn.files import exists, replacing
from edgecnn.text import counted
from edgecnn_device.bench.models import choose_backends, run_child
from edgecnn_device.bench.worker import Request
from edgecnn_device.config import read_values

ROUNDS = 3
# More threads are worth it when a frame takes less time by more than this share; they cost power, and other programs' time.
_WORTH = 0.05
_CAPACITIES = "cpu*/cpu_capacity"


@dataclass(frozen=True)
class Pools:
    """How many threads the runtime and OpenCV may use."""

    threads: int
    opencv_threads: int


@dataclass(frozen=True)
class Tuning:
    """What a frame takes in milliseconds with each of some pools, the median of rounds, and which pools to use.

    `faster_processors` are those of a board whose processors are not all alike; empty where they are.
    """

    frame_ms: dict[Pools, float]
    chosen: Pools
    faster_processors: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it for `json.dumps`."""
        cases = [asdict(pools) | {"frame_ms": round(spent, 4)} for pools, spent in self.frame_ms.items()]
        return {"cases": cases, "chosen": asdict(self.chosen), "faster_processors": list(self.faster_processors)}


def candidates(processors: int, faster: int = 0) -> list[Pools]:
    """Return the pools to try on so many processors, of which so many are the faster ones: fewest threads first."""
    counts = {1, processors, faster or processors} | {2**power for power in range(processors.bit_length())}
    sizes = sorted(size for size in counts if size <= processors)
    return sorted((Pools(one, other) for one in sizes for other in sizes), key=lambda each: each.threads + each.opencv_threads)


def choose(frame_ms: dict[Pools, float]) -> Pools:
    """Return the pools with the fewest threads whose frames take hardly more time than the fastest ones."""
    least = min(frame_ms.values())
    good = [pools for pools, spent in frame_ms.items() if spent <= least * (1 + _WORTH)]
    return min(good, key=lambda pools: (pools.threads + pools.opencv_threads, frame_ms[pools]))


def faster_processors(folder: Path = Path("/sys/devices/system/cpu")) -> tuple[int, ...]:
    """Return the processors of the largest capacity, where the kernel says that they differ; empty where they are alike."""
    found = {int(path.parent.name[3:]): int(path.read_text()) for path in folder.glob(_CAPACITIES)}
    best = max(found.values(), default=0)
    fast = tuple(sorted(number for number, capacity in found.items() if capacity == best))
    return fast if len(fast) < len(found) else ()


def tune(
    model: str,
    *,
    runs: int,
    seconds: float,
    runtime: str | None = None,
    seed: int = 0,
    processors: int | None = None,
    notice: Callable[[str], None] = lambda line: None,
) -> Tuning:
    """Measure all pools in turn, round after round; on one processor there is nothing to measure.

    Raises what `bench_model` raises, InferenceError when a case gives no answer.
    """
    count = processors or len(os.sched_getaffinity(0))
    faster = faster_processors()
    pools = candidates(count, len(faster))
    if len(pools) == 1:
        return Tuning({}, pools[0], faster)
    artifact = Artifact.open(artifact_path(model))
    backend, _ = choose_backends(artifact, runtime)[0]  # with its delegate: those come first
    spent: dict[Pools, list[float]] = {each: [] for each in pools}
    for number in range(ROUNDS):
        for each in pools:
            notice(f"round {number + 1} of {ROUNDS}: {counted(each.threads, 'thread')}, OpenCV {each.opencv_threads}")
            request = Request(str(artifact.path), backend, True, each.threads, runs, seconds, None, seed, each.opencv_threads)
            spent[each].append(run_child(request)["frame_ms"])
    frame_ms = {each: statistics.median(times) for each, times in spent.items()}
    return Tuning(frame_ms, choose(frame_ms), faster)


def write_pools(path: Path, pools: Pools) -> None:
    """Set both numbers in a camera's configuration, and leave all else as it is; a file that is not there is made.

    InputError for a file that is no TOML.
    """
    text = ""
    if exists(path):
        read_values(path)
        text = path.read_text("utf-8")
    for name, value in (("opencv-threads", pools.opencv_threads), ("threads", pools.threads)):
        text = _with(text, name, value)
    with replacing(path) as beside:
        beside.write_text(text, "utf-8")


def _with(text: str, name: str, value: int) -> str:
    """Return TOML with `name = value` in place of its line, or of the comment that stands for it; else at the beginning."""
    line = f"{name} = {value}"
    for pattern in (rf"^{name}\s*=.*$", rf"^#\s*{name}\s*=.*$"):
        changed, count = re.subn(pattern, line, text, count=1, flags=re.MULTILINE)
        if count:
            return changed
    return f"{line}\n{text}"
