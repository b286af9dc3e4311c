"""How long reading the digits of a whole frame takes, beside the least that it could."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgecnn.classifier import Classifier
from edgecnn.datasets.synthetic.handwritten_sheets import Layout, simulate_sheet
from edgecnn.preprocessing import resize
from edgecnn_device.bench.timing import repeat
from edgecnn_device.finders import ReadHandwritingOverTime, Seen, read_handwriting
from edgecnn_device.frames import Image

SIZES_WH = ((640, 480), (1280, 720))
# What is on a frame: how it is laid out, how many digits stand on it, and how high they are as a share of its height.
SCENES: dict[str, tuple[Layout, int, float]] = {
    "empty sheet": ("digits", 0, 0.1),
    "3 digits": ("digits", 3, 0.12),
    "14 digits": ("digits", 14, 0.1),
    "63 digits": ("digits", 63, 0.06),
    "sudoku": ("sudoku", 40, 0.06),
    "untidy desk, 3 digits": ("desk", 3, 0.08),
    "untidy desk, no digit": ("desk", 0, 0.08),
}


@dataclass(frozen=True)
class FrameCost:
    """What one frame costs in milliseconds of processor time, the least of several runs.

    `floor_ms` is that of halving the frame and of one inference of as many digits as were classified last; `unchanged_ms` that
    of the same frame again from a live camera.
    """

    scene: str
    width: int
    height: int
    regions: int
    find_ms: float
    invoke_ms: float
    whole_ms: float
    floor_ms: float
    unchanged_ms: float

    @property
    def over_floor(self) -> float:
        """How many times the floor the whole frame takes."""
        return self.whole_ms / self.floor_ms

    def to_json(self) -> dict[str, Any]:
        """Return it for `json.dumps`, with microseconds as the last digits."""
        values = {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return values | {"over_floor": round(self.over_floor, 2)}


def draw_scene(scene: str, size_wh: tuple[int, int], seed: int = 0) -> Image:
    """Draw a frame of one of the `SCENES`; the same seed gives the same frame."""
    layout, count, height = SCENES[scene]
    rng = np.random.default_rng([seed, list(SCENES).index(scene)])
    return simulate_sheet(layout, rng, size_hw=size_wh[::-1], count=count, height=height * size_wh[1], turn_deg=0.0).image_bgr


def measure_frame(image_bgr: Image, scene: str, classifier: Classifier, *, runs: int, seconds: float) -> FrameCost:
    """Measure the reading of one frame `(h, w, 3)`."""
    seen: list[Seen] = []
    live, now_s = ReadHandwritingOverTime(), 0.0
    live(image_bgr, classifier, lambda: now_s)
    whole = _least(lambda: seen.append(read_handwriting(image_bgr, classifier, time.thread_time)), runs, seconds)
    inputs, (height, width) = seen[-1].inputs, image_bgr.shape[:2]

    def do_least() -> None:
        resize(image_bgr, (height // 2, width // 2))
        if len(inputs):
            classifier.runtime.run(inputs)

    best = min(seen, key=lambda each: each.latency_ms["find"])
    return FrameCost(
        scene,
        width,
        height,
        len(inputs),
        best.latency_ms["find"],
        min(each.latency_ms["invoke"] for each in seen),
        whole,
        _least(do_least, runs, seconds / 4),
        _least(lambda: live(image_bgr, classifier, lambda: now_s), runs, seconds / 4),
    )


def measure_frames(classifier: Classifier, seed: int, *, runs: int, seconds: float) -> list[FrameCost]:
    """Measure frames of all scenes and sizes, each for its share of the time."""
    share = seconds / (len(SCENES) * len(SIZES_WH))
    return [
        measure_frame(draw_scene(scene, size_wh, seed), scene, classifier, runs=runs, seconds=share)
        for size_wh in SIZES_WH
        for scene in SCENES
    ]


def _least(call: Callable[[], object], runs: int, seconds: float) -> float:
    """Return the least processor time in milliseconds of several calls."""
    spent: list[float] = []

    def timed(number: int) -> None:
        began_s = time.thread_time()
        call()
        if number >= 0:
            spent.append(time.thread_time() - began_s)

    repeat(timed, runs=runs, seconds=seconds, warmup=1)
    return 1000 * min(spent)
