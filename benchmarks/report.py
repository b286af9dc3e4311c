"""Measure everything that docs/reference/benchmarks.md says, and write it: `make bench`.

    python -m benchmarks.report EXPORTS OUTPUT.md

EXPORTS is the result of `edgecnn export neu --int8 --onnx`. All figures of a table are of one run, the ways in turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import digit_frames, start_times
from benchmarks.loop_costs import write_video
from edgecnn.shipped import int8_path

HERE = Path(__file__).parent
ROUNDS, FRAMES = 3, 200
# The script, its environment, and how the table calls it.
PEERS = {
    "bare": ("edgecnn", "bare script"),
    "edgecnn_loop": ("edgecnn", "**edgecnn camera loop**"),
    "tensorflow_pi": ("edgecnn", "TensorFlow's Raspberry Pi example, re-expressed"),
    "tensorflow_pi_equal": ("edgecnn", "the same with the preprocessing of the model's training"),
    "opencv_dnn": ("edgecnn", "OpenCV DNN (float ONNX)"),
    "supervision_callback": ("supervision", "supervision with a callback"),
    "roboflow_pipeline": ("roboflow", "Roboflow's inference pipeline, logic of one's own"),
    "edge_impulse": ("edge_impulse", "Edge Impulse's Python SDK loop"),
    "keras_predict": ("keras", "Keras `predict` (float)"),
    "ultralytics_predict": ("ultralytics", "Ultralytics `predict` (its yolo11n-cls, untrained)"),
}
NOTES = {
    "tensorflow_pi": "it resizes without the smoothing that the model was trained with, and checks and writes nothing",
    "tensorflow_pi_equal": "it checks neither frames nor answers, and writes nothing",
    "opencv_dnn": "it needs no runtime, and so is smaller",
    "bare": "it checks nothing, keeps nothing and writes nothing",
    "edge_impulse": "it keeps no history and verifies nothing at its start",
    "roboflow_pipeline": "it keeps no history, writes nothing and does not look whether the camera is frozen or black",
}


def main() -> None:
    """Measure and write."""
    exports, output = Path(sys.argv[1]), Path(sys.argv[2])
    peers, missing = measure_peers(exports)
    starts = start_times.compare_starts()
    loop = run_json("benchmarks.loop_costs", "neu")
    models = run_json("edgecnn", "bench", "neu", "mnist", *map(str, sorted(exports.glob("*.onnx"))))
    digits = digit_frames.measure()
    output.write_text("\n".join(page(peers, missing, starts, loop, models, digits)) + "\n")


def run_json(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module with --json and return its answer."""
    command = [sys.executable, "-m", module, *arguments, "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def measure_peers(exports: Path) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Run all ways in turn; return the best of the rounds of each, and the names of those that cannot be had here."""
    rounds: dict[str, list[dict[str, Any]]] = {}
    missing = [title for script, (environment, title) in PEERS.items() if python_of(environment) is None]
    with tempfile.TemporaryDirectory() as folder:
        video = write_video(Path(folder) / "frames.mp4", frames=FRAMES)
        for _ in range(ROUNDS):
            for script, (environment, title) in PEERS.items():
                python = python_of(environment)
                if python is not None:
                    print(f"measuring {title} ...", file=sys.stderr)
                    rounds.setdefault(script, []).append(measure(python, script, exports, video))
    best = {}
    for script, runs in rounds.items():
        if any(run["frames"] != FRAMES for run in runs):
            raise SystemExit(f"{script} did not answer for each of the {FRAMES} frames")
        names = ("wall_ms", "cpu_ms", "peak_rss_bytes", "install_bytes", "first_s")
        best[script] = {name: min(run[name] for run in runs) for name in names}
    return best, missing


def python_of(environment: str) -> str | None:
    """Return the interpreter of an environment; Keras may be this one's own."""
    folder = HERE / ".envs" / environment
    if (folder / ".ready").exists():
        return str(folder / "bin" / "python")
    return sys.executable if environment == "keras" else None


def measure(python: str, script: str, exports: Path, video: Path) -> dict[str, Any]:
    """Run one way once."""
    command = [python, str(HERE / "peers" / f"{script}.py"), str(int8_path("neu")), str(exports), str(video)]
    began_s = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while (line := process.stdout.readline()) and line.strip() != "first":
            pass  # some print of themselves
        first_s = time.perf_counter() - began_s
        rest, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{script} failed: {errors.strip().splitlines()[-1]}")
    figures: dict[str, Any] = json.loads(rest.strip().splitlines()[-1])
    return figures | {"first_s": first_s}


def page(
    peers: dict[str, dict[str, float]],
    missing: list[str],
    starts: dict[str, dict[str, float]],
    loop: dict[str, Any],
    models: dict[str, Any],
    digits: list[dict[str, Any]],
) -> list[str]:
    """Return the lines of the page."""
    notes = loop["board"]["notes"]
    return [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {loop['machine']}.",
        "All that stands in one table was measured in one run, in turn; the best round counts, since what else runs on a",
        "machine only ever adds. Believe the ratios: milliseconds are this machine's. What ARM does is in [arm.md](arm.md).",
        *[f"\nDuring this run: {note}." for note in notes],
        "",
        "## Beside what one would use instead",
        "",
        f"A file of {FRAMES} synthetic frames of 640x480 (MPEG-4), the shipped int8 model of `neu` where it can be loaded.",
        "Each way with one thread or its own default, in an environment of its own. *ratio* is time a frame over the bare",
        "script's: below 1 is faster. Processor time and memory are with all child processes.",
        "",
        *peer_lines(peers, missing),
        "",
        "## The camera loop beside the bare script",
        "",
        *loop_lines(loop),
        "",
        "## From the start to the first answer",
        "",
        "One picture of 200x200, the shipped int8 model of `neu`. The bare script imports OpenCV and the interpreter and",
        "checks nothing; `edgecnn` has parsed its options and checked the file's digests, the camera has replayed the golden",
        "vectors too (`python -m benchmarks.start_times`).",
        "",
        *start_times.lines(starts),
        "",
        "What is left: click with its part of the standard library (a third of it), imports of our own, hashing and unpacking,",
        "and for the camera its options, golden vectors and what a drift is noticed by. Of what was tried, this brought most:",
        "no methods of dataclasses compiled at import (`edgecnn/quick_dataclass.py`), one thread for OpenBLAS, whose idle",
        "threads burnt as much processor time as all the rest, and for the camera a drift's bands of light as a product of",
        "matrices, since NumPy's polynomials and Fourier transforms are 14 modules that nothing else imports. Tried and left",
        "out: the libraries of OpenCV, NumPy, LiteRT and OpenSSL loaded by a thread beside Python's imports (0 to 6 % sooner,",
        "5 % more processor time, since Python's small libraries wait for the loader's lock).",
        "",
        "## Models on their runtimes",
        "",
        "640x480 to the model's input, then one inference; milliseconds, `edgecnn bench`.",
        "",
        *model_lines(models),
        "",
        "## Whole frames of digits",
        "",
        "Simulated sheets, the mean of three; processor time on one thread, the best of several readings. *Floor* is halving",
        "the frame and one inference of what was classified, *unchanged* the same frame again from a live camera, *still* what",
        "such a camera takes at 30 frames a second of a sheet that lies still, *d5a7022* the reader of 27 November 2026 in an",
        "environment of its own, in turn with ours (`python -m benchmarks.digit_frames`).",
        "",
        *digit_frames.lines(digits),
        "",
        "## The search for the same part",
        "",
        "How its time and memory grow up to 100,000 pictures, by `python -m benchmarks.overlap_scaling`, stands in",
        "[leaks and groups](../explanation/leaks-and-groups.md#what-it-costs): it takes too long to be part of this run.",
    ]


def peer_lines(peers: dict[str, dict[str, float]], missing: list[str]) -> list[str]:
    """Return the table of all ways, and where ours is behind."""
    bare, ours = peers["bare"], peers["edgecnn_loop"]
    lines = [
        "| way | ms a frame | ratio | processor ms a frame | peak memory MB | first answer s | install MB |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {PEERS[name][1]} | {row['wall_ms']:.2f} | {row['wall_ms'] / bare['wall_ms']:.2f} | {row['cpu_ms']:.2f} | "
        f"{row['peak_rss_bytes'] / 1e6:.0f} | {row['first_s']:.2f} | {row['install_bytes'] / 1e6:.0f} |"
        for name, row in peers.items()
    ]
    columns = {
        "wall_ms": "time",
        "cpu_ms": "processor",
        "peak_rss_bytes": "memory",
        "first_s": "start",
        "install_bytes": "size",
    }
    behind = []
    for name, row in peers.items():
        where = [title for column, title in columns.items() if row[column] < 0.97 * ours[column]]
        if where and name != "edgecnn_loop":
            behind.append(f"- {PEERS[name][1]} ({', '.join(where)}): {NOTES.get(name, 'see the columns')}.")
    summary = ["The camera loop is behind (by 3 % or more):", "", *behind] if behind else ["The camera loop is behind none."]
    size = ours["install_bytes"] / bare["install_bytes"]
    return [
        *lines,
        "",
        *summary,
        "",
        f"The base install is {size:.3f} times the size of its large dependencies alone (target: {_at_most(size, 1.15)}).",
        *([f"\nCould not be installed here, so not measured: {'; '.join(missing)}."] if missing else []),
    ]


def loop_lines(loop: dict[str, Any]) -> list[str]:
    """Return what the whole loop costs."""
    whole, one, memory = loop["comparison"], loop["one_processor"], loop["memory"]
    lines = [
        "| | bare ms | loop ms | loop over bare, frames a second | of processor time | without judging | target |",
        "|---|---|---|---|---|---|---|",
        f"| all {whole['processors']} processors | {whole['bare']['wall_ms']:.3f} | {whole['loop']['wall_ms']:.3f} | "
        f"{whole['loop_ratio']:.2f} | {whole['cpu_ratio']:.2f} | {whole['unjudged_ratio']:.2f} | "
        f"{_at_least(whole['loop_ratio'], 0.97)} |",
        f"| one processor | {one['bare']['wall_ms']:.3f} | {one['loop']['wall_ms']:.3f} | {one['loop_ratio']:.2f} | "
        f"{one['cpu_ratio']:.2f} | {one['unjudged_ratio']:.2f} | "
        f"{_at_least(one['loop_ratio'], 0.95)} |",
        "",
        "*Without judging* is the loop that takes every frame and every answer for good, as the bare script does. The rest is",
        "what it costs to notice black, frozen and torn pictures, and to know of an answer whether it is unsure or novel: some",
        "40 calls of NumPy and OpenCV for a few numbers each, after a convolution has emptied the processor's caches, so that",
        "each function that is not called elsewhere costs more than what it computes. What brought most: all centres and the",
        "contrast in one product, Python's own floats for what is one number a class, sums of the feature map in 32 bits, and",
        "bytes instead of arrays for the grays of a sample. Tried without gain: judging the frame after the inference, when",
        "its pixels are in the cache; OpenCV's reductions for a sample's rows, or for the feature map; `numpy.einsum` for the",
        "features' length; one thread for OpenCV beside the thread that reads ahead, or for the decoder.",
        "",
        f"Peak memory {memory['camera_peak_rss_bytes'] / 1e6:.0f} MB, bare script "
        f"{memory['bare_peak_rss_bytes'] / 1e6:.0f} MB, "
        f"ratio {memory['rss_ratio']:.2f} (target: {_at_most(memory['rss_ratio'], 1.5)}).",
        "",
        "| sink | adds, processor ms a frame |",
        "|---|---|",
        *[f"| {name} | {pace['cpu_ms']:+.3f} |" for name, pace in loop["sinks"].items() if name != "none"],
        "",
        "| tiles | processor ms a frame | a tile |",
        "|---|---|---|",
    ]
    lines += [
        f"| {count} | {pace['cpu_ms']:.2f} | {pace['cpu_ms'] / int(count):.3f} |" for count, pace in loop["tiles"].items()
    ]
    lines += [
        "",
        "A live camera at 30 frames a second with its page (target: under 25 % of a processor with one viewer):",
        "",
        "| viewers of the stream | % of a processor | frames a second | frame age p95 ms | publish p50 ms | p95 ms |",
        "|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row['viewers']} | {row['cpu_percent']:.1f} | {row['fps']:.1f} | {row['age_p95_ms']:.1f} | "
        f"{row['publish_p50_ms']:.3f} | {row['publish_p95_ms']:.3f} |"
        for row in loop["viewers"]
    ]


def _at_least(value: float, target: float) -> str:
    return f"at least {target}: {'met' if value >= target else '**missed**'}"


def _at_most(value: float, target: float) -> str:
    return f"at most {target}: {'met' if value <= target else '**missed**'}"


def model_lines(models: dict[str, Any]) -> list[str]:
    """Return the table of models on runtimes."""
    lines = [
        "| file | bytes | runtime | threads | load | first run | preprocess p50 | invoke p50 / p95 / p99 | whole p50 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model in models["models"]:
        for case in model["cases"]:
            invoke = " / ".join(f"{case['invoke'][name]:.3f}" for name in ("p50_ms", "p95_ms", "p99_ms"))
            runtime = case["runtime"] + ("" if case["delegate"] else " without delegate")
            lines.append(
                f"| {Path(model['path']).name} | {model['bytes']} | {runtime} | {case['threads']} | {case['load_ms']:.1f} | "
                f"{case['first_run_ms']:.2f} | {case['preprocess']['p50_ms']:.3f} | {invoke} | {case['whole']['p50_ms']:.3f} |"
            )
    return lines


if __name__ == "__main__":
    main()
