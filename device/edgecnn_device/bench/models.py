"""Latency, memory and size of exported models on every runtime and delegate that is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.operators import read_graph
from edgecnn.classifier import artifact_path
from edgecnn.errors import InferenceError, InputError, MissingDependencyError
from edgecnn.files import read_bytes
from edgecnn.runtimes.select import missing_runtime, wanted_runtime
from edgecnn.text import counted
from edgecnn_device.bench.inputs import measured_pictures
from edgecnn_device.bench.timing import RUNS, SECONDS
from edgecnn_device.bench.worker import Request

STAGES = ("preprocess", "invoke", "whole")
_TIMEOUT_S = 600.0
# Runtime -> the package whose presence says that it is installed.
_PACKAGES = {
    "ai-edge-litert": "ai_edge_litert",
    "tflite-runtime": "tflite_runtime",
    "tensorflow": "tensorflow",
    "onnxruntime": "onnxruntime",
}


@dataclass(frozen=True)
class Effort:
    """How much to measure: `runs` runs, or as many as fit in `seconds`, with each of these numbers of threads."""

    runs: int = RUNS
    seconds: float = SECONDS
    threads: tuple[int, ...] = (1,)


@dataclass(frozen=True, eq=False)
class ModelBenchmark:
    """What was measured of one file; `cases` are the answers of `bench.worker`, `failures` one line each."""

    path: str
    bytes: int
    operators: dict[str, int] | None
    cases: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it for `json.dumps`."""
        return asdict(self)


def usual_threads() -> tuple[int, ...]:
    """Return 1, 2, ... up to the processors that this process may use."""
    return tuple(range(1, len(os.sched_getaffinity(0)) + 1))


def installed_backends(file_format: str) -> list[tuple[str, bool]]:
    """Return the runtimes of a format that are installed, each with and, where that can be chosen, without its delegate."""
    names = ["onnxruntime"] if file_format == "onnx" else [name for name in _PACKAGES if name != "onnxruntime"]
    found = [name for name in names if importlib.util.find_spec(_PACKAGES[name]) is not None]
    return [(name, True) for name in found] + [(name, False) for name in found if name == "ai-edge-litert"]


def choose_backends(artifact: Artifact, runtime: str | None = None) -> list[tuple[str, bool]]:
    """Return the installed backends of an artifact, those of `runtime` alone where it is given.

    InputError for a runtime that does not run the artifact's format, MissingDependencyError where none is installed.
    """
    found = [(name, delegate) for name, delegate in installed_backends(artifact.format) if runtime in (None, name)]
    if not found:
        wanted_runtime(artifact.format, runtime)
        raise missing_runtime(artifact.format, runtime)
    return found


def check_benchmark(model: str, *, runtime: str | None = None, source: str | None = None) -> None:
    """Raise what would make every case of a model fail: what `Artifact.open`, `choose_backends` and `open_source` raise."""
    artifact = Artifact.open(artifact_path(model))
    choose_backends(artifact, runtime)
    if source is not None:
        measured_pictures(artifact.contract, source, seed=0)


def bench_model(
    model: str,
    *,
    effort: Effort,
    runtime: str | None = None,
    source: str | None = None,
    seed: int = 0,
    notice: Callable[[str], None] = lambda line: None,
) -> ModelBenchmark:
    """Measure a file, or the shipped int8 model of a task, on `runtime` or on every one that is installed.

    `source` gives the pictures, otherwise they are generated from `seed`. Raises what `Artifact.open` and `choose_backends`
    raise. A runtime that cannot run it is one of the `failures`.
    """
    artifact = Artifact.open(artifact_path(model))
    cases, failures = [], []
    for name, delegate in choose_backends(artifact, runtime):
        for threads in effort.threads:
            notice(f"{artifact.path.name} on {name}{'' if delegate else ' without delegate'}, {counted(threads, 'thread')}")
            path, runs, seconds = str(artifact.path), effort.runs, effort.seconds
            try:
                cases.append(run_child(Request(path, name, delegate, threads, runs, seconds, source, seed)))
            except InferenceError as error:
                failures.append(str(error))
    size = artifact.path.stat().st_size
    return ModelBenchmark(str(model), size, _operators(artifact), tuple(cases), tuple(failures))


def run_child(request: Request) -> dict[str, Any]:
    """Measure in a child process; InferenceError when it fails, crashes or hangs."""
    command = [sys.executable, "-P", "-m", "edgecnn_device.bench.worker"]
    what = f"{request.path} on {request.runtime}"
    try:
        child = subprocess.run(
            command, input=json.dumps(asdict(request)), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InferenceError(f"{what} gave no answer within {_TIMEOUT_S:g} s") from error
    if child.returncode != 0:
        last = child.stderr.strip().splitlines()
        raise InferenceError(f"{what}: {last[-1] if last else f'ended with {child.returncode}'}")
    answer: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return answer


def _operators(artifact: Artifact) -> dict[str, int] | None:
    try:
        return read_graph(artifact.model, artifact.format).counts()
    except MissingDependencyError:
        return None


def read_baseline(path: Path) -> list[dict[str, Any]]:
    """Return the models of an earlier run's JSON; InputError when it is something else."""
    try:
        models = json.loads(read_bytes(path, at_most=2**26))["models"]
        for model in models:
            for case in model["cases"]:
                _key(model, case), model["bytes"], [case[stage]["p50_ms"] for stage in STAGES]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path} is not the output of `edgecnn bench --json`") from error
    return list(models)


def ratios(models: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return new over old median latencies of cases that stand in both: same file name, runtime without version, threads."""
    old = {_key(model, case): case for model in baseline for case in model["cases"]}
    found = []
    for model in models:
        for case in model["cases"]:
            before = old.get(_key(model, case))
            if before is not None:
                stages = {stage: case[stage]["p50_ms"] / before[stage]["p50_ms"] for stage in STAGES}
                found.append(
                    {"file": Path(model["path"]).name, "runtime": case["runtime"], "delegate": case["delegate"]}
                    | {"threads": case["threads"], "bytes": model["bytes"] / _bytes_of(baseline, model)}
                    | {stage: round(ratio, 3) for stage, ratio in stages.items()}
                )
    return found


def _key(model: dict[str, Any], case: dict[str, Any]) -> tuple[str, str, bool, int]:
    return Path(model["path"]).name, case["runtime"].split()[0], case["delegate"], case["threads"]


def _bytes_of(models: Sequence[dict[str, Any]], wanted: dict[str, Any]) -> int:
    return next(int(model["bytes"]) for model in models if Path(model["path"]).name == Path(wanted["path"]).name)
