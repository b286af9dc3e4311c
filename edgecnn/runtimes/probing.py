"""Trying a model file of unknown origin in a child process first, since a runtime can crash on bytes nobody vouches for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgecnn.errors import InferenceError

TIMEOUT_S = 120


def probe_tflite(path: Path, runtime: str | None) -> None:
    """Load a `.tflite` and run it once in a child process; InferenceError when that fails, crashes or hangs."""
    command = [sys.executable, "-m", "edgecnn.runtimes.probing", str(path), runtime or ""]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise InferenceError(f"{path} did not load and run within {TIMEOUT_S} s: not a model to be used") from error
    if child.returncode < 0:
        raise InferenceError(f"{path} crashes the runtime (signal {-child.returncode}): a damaged file or no TFLite model")
    if child.returncode > 0:
        reason = child.stderr.strip().splitlines()[-1] if child.stderr.strip() else f"exit code {child.returncode}"
        raise InferenceError(f"{path} is no usable TFLite model: {reason}")


def _run_once(path: Path, runtime: str | None) -> None:
    import numpy as np

    from edgecnn.runtimes.opening import open_tflite

    tflite = open_tflite(path.read_bytes(), runtime=runtime)
    tflite.run(np.zeros((1, *(side or 1 for side in tflite.input.shape[1:])), np.uint8))


if __name__ == "__main__":
    from edgecnn.errors import EdgecnnError

    try:
        _run_once(Path(sys.argv[1]), sys.argv[2] or None)
    except (EdgecnnError, OSError, ValueError, TypeError) as problem:
        sys.exit(str(problem).strip())
