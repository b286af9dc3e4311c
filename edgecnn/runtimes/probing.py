"""Trying a model file of unknown origin in a child process first, since a runtime can crash on bytes nobody vouches for."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from edgecnn.errors import InferenceError

TIMEOUT_S = 120
# A tensor of an absurd shape is to fail here and not to push everything else out of the machine's memory.
_MOST_BYTES = 2**33


def probe_tflite(
    model: bytes,
    path: Path,
    runtime: str | None,
    *,
    output: str | None = None,
    size_hw: tuple[int, int] | None = None,
) -> None:
    """Load the bytes of a `.tflite` and run them in a child process; InferenceError when that fails, crashes or hangs.

    `output` and `size_hw` are what the user states of a model that has several outputs or takes any size. `path` names the
    bytes in the message. They are handed over rather than read again, since a file may change meanwhile.
    """
    stated = [runtime or "", output or "", "x".join(map(str, size_hw or ()))]
    command = [sys.executable, "-P", "-m", "edgecnn.runtimes.probing", *stated]
    try:
        child = subprocess.run(command, input=model, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise InferenceError(f"{path} did not load and run within {TIMEOUT_S} s: not a model to be used") from error
    if child.returncode < 0:
        raise InferenceError(f"{path} crashes the runtime (signal {-child.returncode}): a damaged file or no TFLite model")
    if child.returncode > 0:
        said = child.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InferenceError(f"{path} is no usable TFLite model: {said[-1] if said else f'exit code {child.returncode}'}")


def _run(model: bytes, runtime: str | None, output: str | None, size_hw: tuple[int, int] | None) -> None:
    """Run black, white and noise: an index that is read from the picture can crash on one and not on the other."""
    import numpy as np

    from edgecnn.runtimes.opening import open_tflite

    tflite = open_tflite(model, runtime=runtime, output=output, size_hw=size_hw)
    shape = tuple(side or 1 for side in tflite.input.shape[1:])
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for image in (np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), noise):
        tflite.run(image[None])


if __name__ == "__main__":
    from edgecnn.errors import EdgecnnError

    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is an answer, not worth a file
    try:
        sides = [int(side) for side in sys.argv[3].split("x") if side]
        _run(sys.stdin.buffer.read(), sys.argv[1] or None, sys.argv[2] or None, (sides[0], sides[1]) if sides else None)
    except MemoryError:
        sys.exit("it wants more memory than a model may have")
    except (EdgecnnError, OSError, ValueError, TypeError, KeyError, IndexError, OverflowError) as problem:
        sys.exit(" ".join(str(problem).split()) or type(problem).__name__)
