"""What the camera loop costs: beside the bare script, for each sink, for more tiles, and for viewers of the page.

python -m benchmarks.loop_costs neu        # in the root of the repository; needs the extra web
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics as figures
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from edgecnn.artifacts import Artifact
from edgecnn.classifier import Classifier
from edgecnn.cli.options import SEED
from edgecnn.errors import InputError
from edgecnn.runtimes.select import open_graph
from edgecnn.text import json_text
from edgecnn_device import board
from edgecnn_device.bench.inputs import SIZE_WH
from edgecnn_device.camera import LookOptions
from edgecnn_device.finders import Look, Tiles, find_whole, look_at
from edgecnn_device.frames import OK, Frame, Image, State
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Sink, Watcher, run_loop
from edgecnn_device.model import Model, ModelOptions, open_model
from edgecnn_device.outputs import SinkOptions, open_sinks
from edgecnn_device.sinks.video_file import VideoOptions
from edgecnn_device.sources import SourceOptions, open_source
from edgecnn_device.sources.synthetic import play_sheet, play_strip
from edgecnn_device.tracking import Tracker

FRAMES, ROUNDS = 150, 24
TILES = ((1, 1), (2, 1), (4, 1), (8, 1), (4, 4), (8, 4), (8, 8))
VIEWERS = (0, 1, 10, 50)
_FIRST = 10  # the first frames of a file are opening, decoding ahead and filling of caches
_CODECS = {".mp4": "mp4v", ".avi": "MJPG"}


@dataclass(frozen=True)
class Pace:
    """Milliseconds a frame of the fastest round, by the clock and of processor time."""

    wall_ms: float
    cpu_ms: float

    @classmethod
    def of(cls, rounds: Sequence[tuple[float, float]]) -> Pace:
        """Take the best of rounds of (wall, cpu) seconds a frame: what else runs on a machine only ever adds."""
        return cls(round(1000 * min(wall for wall, _ in rounds), 4), round(1000 * min(cpu for _, cpu in rounds), 4))


@dataclass(frozen=True)
class Comparison:
    """The loop beside the bare script. Ratios are loop over bare in frames a second, so 1 is as fast and more is faster.

    `unjudged` is the loop that takes every frame and every answer for good, as the bare script does: the rest of `loop` is what
    it costs to notice black, frozen and torn pictures, and to know of an answer whether it is unsure or novel.
    """

    processors: int
    frames: int
    rounds: int
    bare: Pace
    loop: Pace
    unjudged: Pace
    loop_ratio: float
    unjudged_ratio: float
    cpu_ratio: float
    median_ratio: float
    bare_busy: float

    @classmethod
    def of(cls, timed: Mapping[str, Sequence[tuple[float, float]]], frames: int) -> Comparison:
        """Compare rounds of `bare`, `loop` and `unjudged` that were run in turn."""
        bare, loop = timed["bare"], timed["loop"]
        one, other, unjudged = Pace.of(bare), Pace.of(loop), Pace.of(timed["unjudged"])
        return cls(
            processors=len(os.sched_getaffinity(0)),
            frames=frames,
            rounds=len(bare),
            bare=one,
            loop=other,
            unjudged=unjudged,
            unjudged_ratio=round(one.wall_ms / unjudged.wall_ms, 3),
            loop_ratio=round(one.wall_ms / other.wall_ms, 3),
            cpu_ratio=round(one.cpu_ms / other.cpu_ms, 3),
            median_ratio=round(figures.median(b[0] / o[0] for b, o in zip(bare, loop, strict=True)), 3),
            bare_busy=round(figures.median(cpu / wall for wall, cpu in bare), 3),
        )


class Stopwatch:
    """Notes when each frame begins; the first ones do not count."""

    def __init__(self) -> None:
        """Begin before the first frame."""
        self._stamps: list[tuple[float, float]] = []

    def __call__(self) -> bool:
        """Note one frame; True, as the loop's `between` wants it."""
        self._stamps.append((time.perf_counter(), time.process_time()))
        return True

    def per_frame(self) -> tuple[float, float]:
        """Return wall and processor time in seconds a frame."""
        (first_wall, first_cpu), (last_wall, last_cpu) = self._stamps[_FIRST], self._stamps[-1]
        count = len(self._stamps) - 1 - _FIRST
        return (last_wall - first_wall) / count, (last_cpu - first_cpu) / count


def compare_with_bare(model: Model, video: Path, folder: Path, *, rounds: int = ROUNDS) -> Comparison:
    """Read a video with the bare script and with the whole loop (JSON Lines its only sink), in turn, `rounds` times.

    InputError for a model that the bare script cannot run: only an int8 `.tflite` of raw pixels looked at as a whole.
    """
    from benchmarks.bare_script import classify_video

    contract = model.artifact.contract
    if model.artifact.format != "tflite" or contract.precision != "int8" or contract.preprocessing.fit == "digit":
        raise InputError(f"{model.artifact.path}: the bare script runs int8 .tflite files that look at the whole frame")
    interpreter = _interpreter(model.artifact)

    def bare(stopwatch: Stopwatch) -> None:
        classify_video(interpreter, contract.preprocessing, str(video), sys.maxsize, lambda _: _note(stopwatch))

    trusting = Classifier(open_graph(model.artifact), contract.labels, contract.preprocessing)

    def loop(stopwatch: Stopwatch, health: type[Health] = Health) -> None:
        options = SinkOptions(terminal=False, jsonl=folder / "bench.jsonl")
        watcher = replace(_watcher(model, look_at(find_whole)), health=health(Limits(live=False)))
        if health is _Trust:
            watcher = replace(watcher, model=lambda: trusting)
        with open_source(SourceOptions(str(video))) as source, contextlib.ExitStack() as stack:
            sinks = [stack.enter_context(sink) for sink in open_sinks(options, source, LookOptions())]
            run_loop(source, watcher, sinks, between=stopwatch)

    works: dict[str, Callable[[Stopwatch], None]] = {"bare": bare, "loop": loop, "unjudged": partial(loop, health=_Trust)}
    for work in works.values():
        work(Stopwatch())
    return Comparison.of(_in_turn(works, rounds), FRAMES)


class _Trust(Health):
    """Takes every frame for good."""

    def judge(self, frame: Frame, now_s: float) -> State:
        return OK


def _note(stopwatch: Stopwatch) -> None:
    stopwatch()


def _in_turn(works: dict[str, Callable[[Stopwatch], None]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Time each work `rounds` times, now one first, now another, so that a change of the machine's mood meets all."""
    timed: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(rounds):
        for name, work in sorted(works.items(), reverse=number % 2 == 1):
            stopwatch = Stopwatch()
            work(stopwatch)
            timed[name].append(stopwatch.per_frame())
    return timed


def _interpreter(artifact: Artifact):  # type: ignore[no-untyped-def]  # LiteRT ships no types
    from edgecnn.quiet import quiet_start
    from edgecnn.runtimes.litert import open_interpreter

    with quiet_start():
        interpreter = open_interpreter(artifact.model, 1)
        interpreter.allocate_tensors()
    return interpreter


def _watcher(model: Model, look: Look, *, live: bool = False) -> Watcher:
    return Watcher(lambda: model.classifier, look, Health(Limits(live=live)), Tracker(5))


def write_video(path: Path, *, digits: bool = False, seed: int = 0, frames: int = FRAMES) -> Path:
    """Write a synthetic video of 640x480 and return its path; the suffix chooses the codec."""
    play = play_sheet(SIZE_WH, seed=seed) if digits else play_strip(SIZE_WH, seed=seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*_CODECS[path.suffix]), 30, SIZE_WH)
    for frame in itertools.islice(play, frames):
        writer.write(frame.image_bgr)
    writer.release()
    return path


def cost_of_sinks(model: Model, images: Sequence[Image], folder: Path, *, rounds: int = ROUNDS) -> dict[str, Pace]:
    """Return what a frame costs with no sink, and what each sink adds to that."""
    nothing = SinkOptions(terminal=False)
    choices = {
        "none": nothing,
        "jsonl": replace(nothing, jsonl=folder / "sink.jsonl"),
        "csv": replace(nothing, csv=folder / "sink.csv"),
        "terminal": replace(nothing, terminal=True),
        "video": replace(nothing, video=VideoOptions(folder / "sink.avi")),
    }
    works = {name: _looped(model, images, options) for name, options in choices.items()}
    with (folder / "terminal.txt").open("w") as lines, contextlib.redirect_stdout(lines):
        paces = {name: Pace.of(timed) for name, timed in _in_turn(works, rounds).items()}
    none = paces.pop("none")
    added = {
        name: Pace(round(pace.wall_ms - none.wall_ms, 4), round(pace.cpu_ms - none.cpu_ms, 4)) for name, pace in paces.items()
    }
    return {"none": none} | added


def _looped(
    model: Model, images: Sequence[Image], options: SinkOptions, look: Look | None = None
) -> Callable[[Stopwatch], None]:
    def work(stopwatch: Stopwatch) -> None:
        source = _Still(images)
        if options.video is not None:
            options.video.path.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            sinks: list[Sink] = [stack.enter_context(sink) for sink in open_sinks(options, source, LookOptions())]
            run_loop(source, _watcher(model, look or look_at(find_whole)), sinks, between=stopwatch)

    return work


class _Still(contextlib.AbstractContextManager["_Still"]):
    """A source of pictures that are in memory already."""

    live, endless, fps, losses, skipped, retry_s = False, False, 30.0, 0, 0, None

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images

    def __exit__(self, *failure: object) -> None: ...

    def __iter__(self) -> Iterator[Frame]:
        from datetime import UTC, datetime

        for number, image in enumerate(self._images):
            yield Frame(image, number, "memory", datetime.now(UTC), time.monotonic())


def cost_of_tiles(model: Model, images: Sequence[Image], *, rounds: int = 5) -> dict[int, Pace]:
    """Return what a frame costs with 1, 2, 4 ... 64 tiles."""
    nothing = SinkOptions(terminal=False)
    works = {f"{columns}x{rows}": _looped(model, images, nothing, look_at(Tiles(columns, rows))) for columns, rows in TILES}
    timed = _in_turn(works, rounds)
    return {columns * rows: Pace.of(timed[f"{columns}x{rows}"]) for columns, rows in TILES}


def cost_of_viewers(model: str, viewers: int, seconds: float, folder: Path) -> dict[str, float]:
    """Run a live synthetic camera at 30 frames a second with its page and this many viewers of the stream.

    Returns the processor time of the camera's process in percent of one core, the 95th percentiles of frame age and of
    publishing in milliseconds, and frames a second.
    """
    from benchmarks.viewers import watch_page

    lines = folder / f"viewers-{viewers}.jsonl"
    lines.unlink(missing_ok=True)
    options = ("--source", "synthetic", "--web", "127.0.0.1:0", "--jsonl", str(lines), "--write", "every")
    with _camera(model, *options) as (process, address):
        with watch_page(address, viewers):
            time.sleep(1.0)
            seen, cpu_s, began_s = _count(lines), _processor_s(process.pid), time.monotonic()
            time.sleep(seconds)
            cpu_s, took_s = _processor_s(process.pid) - cpu_s, time.monotonic() - began_s
        bodies = [json.loads(line) for line in lines.read_text().splitlines()[seen:]]
    # The sink before it was JSON Lines: `publish` of a line is that of the frame before, the page's part included.
    usable = [body for body in bodies if body["state"] == "ok"]
    return {
        "viewers": viewers,
        "cpu_percent": round(100 * cpu_s / took_s, 2),
        "fps": round(len(usable) / took_s, 2),
        "age_p95_ms": round(float(np.percentile([body["age_ms"] for body in usable], 95)), 2),
        "publish_p50_ms": round(float(np.percentile([body["latency_ms"]["publish"] for body in usable], 50)), 3),
        "publish_p95_ms": round(float(np.percentile([body["latency_ms"]["publish"] for body in usable], 95)), 3),
    }


def _count(lines: Path) -> int:
    return len(lines.read_text().splitlines())


@contextlib.contextmanager
def _camera(model: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `edgecnn camera` as a process of its own; yield it and the address of its page."""
    command = [sys.executable, "-P", "-m", "edgecnn", "camera", model, "--no-terminal", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            yield process, next(line.split()[-1] for line in process.stderr if "page is at" in line)
        finally:
            process.terminate()


def _processor_s(process: int) -> float:
    """Return the processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare_memory(model: Model, video: Path) -> dict[str, Any]:
    """Return the peak memory of a camera over the video, beside the bare script's."""
    preprocessing = json.dumps(asdict(model.artifact.contract.preprocessing))
    path, script = str(model.artifact.path), str(Path(__file__).with_name("bare_script.py"))
    bare = _peak_bytes(["run_path", script, path, str(video), str(FRAMES), preprocessing])
    camera = _peak_bytes(["run_module", "edgecnn", "camera", path, "--source", str(video)])
    return {"bare_peak_rss_bytes": bare, "camera_peak_rss_bytes": camera, "rss_ratio": round(camera / bare, 3)}


# The process itself says its peak at its end: what wait4 tells begins with the memory of the process that started it.
_RUN = """
import atexit, runpy, sys
def tell():
    with open("/proc/self/status") as status:
        sys.stderr.write(next(line for line in status if line.startswith("VmHWM")))
atexit.register(tell)
run, sys.argv = sys.argv[1], sys.argv[2:]
getattr(runpy, run)(sys.argv[0], run_name="__main__")
"""


def _peak_bytes(command: list[str]) -> int:
    """Return the peak memory of a Python process in bytes; InputError when it fails."""
    whole = [sys.executable, "-P", "-c", _RUN, *command]
    done = subprocess.run(whole, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return int(done.stderr.split()[-2]) * 1024


def bench_loop(
    model_name: str, *, seed: int = 0, seconds: float = 4.0, rounds: int = ROUNDS, notice: Callable[[str], None]
) -> dict[str, Any]:
    """Measure the whole loop; `loop_ratio` is on all processors as the command runs, `one_processor` the same on one.

    `seconds` is how long each number of viewers looks. Raises what `open_model` raises, and InputError for a model that the
    bare script cannot run.
    """
    from edgecnn_device.web.options import read_web_options

    read_web_options("127.0.0.1:0", None)  # the extra is there
    model = open_model(ModelOptions(model_name))
    images = [frame.image_bgr for frame in itertools.islice(play_strip(SIZE_WH, seed=seed), 2 * _FIRST + 20)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = write_video(folder / "frames.mp4", seed=seed)
        notice("the loop beside the bare script")
        whole = compare_with_bare(model, video, folder, rounds=rounds)
        with _one_processor():
            notice("the same on one processor")
            pinned = compare_with_bare(model, video, folder, rounds=rounds)
        notice("the peak memory of both")
        memory = compare_memory(model, video)
        notice("each sink, and 1 to 64 tiles")
        sinks, tiles = cost_of_sinks(model, images, folder, rounds=rounds), cost_of_tiles(model, images)
        viewers = []
        for count in VIEWERS:
            notice(f"a live camera with {count} viewers of its page")
            viewers.append(cost_of_viewers(model_name, count, seconds, folder))
    return {
        "model": str(model.artifact.path),
        "loop_ratio": whole.loop_ratio,
        "comparison": asdict(whole),
        "one_processor": asdict(pinned),
        "memory": memory,
        "sinks": {sink: asdict(pace) for sink, pace in sinks.items()},
        "tiles": {str(count): asdict(pace) for count, pace in tiles.items()},
        "viewers": viewers,
    }


@contextlib.contextmanager
def _one_processor() -> Iterator[None]:
    """Let this process run on one processor only, for the block."""
    allowed = os.sched_getaffinity(0)
    for thread in Path("/proc/self/task").iterdir():  # threads that are there already keep their own mask
        os.sched_setaffinity(int(thread.name), {min(allowed)})
    try:
        yield
    finally:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), allowed)


def format_costs(report: dict[str, Any]) -> list[str]:
    """Return what `bench_loop` measured as lines of text."""
    lines = [f"{report['model']}, 640x480"]
    for name in ("comparison", "one_processor"):
        found = report[name]
        lines.append(
            f"loop {found['loop']['wall_ms']:.3f} ms per frame, bare script {found['bare']['wall_ms']:.3f} ms on "
            f"{'all' if name == 'comparison' else 'one'} of the processors: ratio {found['loop_ratio']:.2f} "
            f"(of processor time {found['cpu_ratio']:.2f}; above 1 the loop is faster; {found['unjudged_ratio']:.2f} where "
            f"neither frames nor answers are judged)"
        )
    memory = report["memory"]
    lines.append(
        f"peak memory {memory['camera_peak_rss_bytes'] / 1e6:.0f} MB, bare {memory['bare_peak_rss_bytes'] / 1e6:.0f} MB: ratio "
        f"{memory['rss_ratio']:.2f}"
    )
    sinks = {name: pace["cpu_ms"] for name, pace in report["sinks"].items()}
    lines.append(f"without a sink {sinks.pop('none'):.3f} ms of processor time per frame; each sink adds:")
    lines += [f"  {name:<9} {ms:+.3f} ms" for name, ms in sinks.items()]
    lines.append("tiles: " + ", ".join(f"{count} {pace['cpu_ms']:.2f} ms" for count, pace in report["tiles"].items()))
    lines.append("a live camera at 30 frames per second with its page:")
    lines += [
        f"  {row['viewers']:2d} viewers: {row['cpu_percent']:5.1f} % of a processor, {row['fps']:.1f} frames per second, "
        f"age p95 {row['age_p95_ms']:.1f} ms, publish p50 {row['publish_p50_ms']:.3f} p95 {row['publish_p95_ms']:.3f} ms"
        for row in report["viewers"]
    ]
    return lines


@click.command()
@click.argument("model", metavar="FILE|TASK")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of the generated pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(model: str, seed: int, as_json: bool) -> None:
    """Measure what the camera loop costs on this machine; MODEL is an int8 .tflite file that looks at the whole frame."""
    before = board.look()
    report = bench_loop(model, seed=seed, notice=lambda line: click.echo(f"measuring {line} ...", err=True))
    report |= {"machine": board.describe(), "board": board.to_json(before, board.look())}
    click.echo(json_text(report) if as_json else "\n".join([*format_costs(report), *report["board"]["notes"]]))


if __name__ == "__main__":
    main()
