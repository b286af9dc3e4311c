"""Fuzzes what reaches native code, in a process that has to come to its end.

`python fuzzing.py KIND FOLDER SEED CASES LIMIT_S` prints how often each outcome was seen, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.errors import EdgecnnError, InputError

SAME, OTHER = "opened as the very same", "opened as something else"
Outcome = Callable[[bytes], str]


def damaged(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Yield files in which a few bytes or a block are others, or whose end is missing."""
    while True:
        altered = bytearray(data)
        match rng.randrange(5):
            case 0:
                del altered[rng.randrange(len(altered)) :]
            case 1:
                at = rng.randrange(len(altered))
                altered[at : at + 64] = rng.randbytes(64)
            case 2:
                # The end, where a ZIP keeps its directory.
                for _ in range(rng.randrange(1, 4)):
                    altered[-1 - rng.randrange(min(len(altered), 2000))] ^= 1 << rng.randrange(8)
            case _:
                for _ in range(rng.randrange(1, 4)):
                    altered[rng.randrange(len(altered))] ^= 1 << rng.randrange(8)
        yield bytes(altered)


def keras_case(folder: Path) -> tuple[bytes, Outcome]:
    """Open damaged `.keras` files as `edgecnn export` does."""
    import edgecnn
    from edgecnn_export.models import open_reference
    from edgecnn_export.reference import Reference

    source = Path(edgecnn.__file__).parent / "shipped" / "mnist-compact.keras"
    whole = open_reference(source)

    def about(reference: Reference) -> Any:
        return reference.task.to_json(), reference.training, reference.calibration, reference.reject_threshold, reference.name

    def outcome(data: bytes) -> str:
        path = folder / "damaged.keras"
        path.write_bytes(data)
        try:
            opened = open_reference(path)
        except InputError:
            return "refused"
        weights = zip(opened.model.get_weights(), whole.model.get_weights(), strict=True)
        same = about(opened) == about(whole) and all(np.array_equal(ours, theirs) for ours, theirs in weights)
        return SAME if same else OTHER

    return source.read_bytes(), outcome


def checkpoint_case(folder: Path) -> tuple[bytes, Outcome]:
    """Open damaged checkpoints as `edgecnn train --resume` does."""
    from edgecnn_export.training.checkpoints import Checkpoint

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(40, 50)).astype(np.float32) for _ in range(6)]
    whole = Checkpoint({"task": "neu", "seed": 0}, [{"loss": 0.5}] * 3, arrays[:2], arrays[2:4], arrays[4:])
    path = folder / "checkpoint.npz"
    whole.save(path)

    def lists(checkpoint: Checkpoint) -> list[Any]:
        return [*checkpoint.weights, *checkpoint.best_weights, *checkpoint.optimizer]

    def outcome(data: bytes) -> str:
        path.write_bytes(data)
        try:
            opened = Checkpoint.open(path)
        except InputError:
            return "refused"
        about = (opened.settings, opened.history) == (whole.settings, whole.history)
        same = about and len(lists(opened)) == len(arrays)
        return SAME if same and all(map(np.array_equal, lists(opened), lists(whole))) else OTHER

    return path.read_bytes(), outcome


def foreign_case(folder: Path) -> tuple[bytes, Outcome]:
    """Do with damaged TFLite bytes what the probe does, and then, where that went well, what follows it, on other pictures."""
    from edgecnn.artifacts.artifact import split
    from edgecnn.runtimes import probe as child
    from edgecnn.runtimes.select import open_tflite

    model, _ = split(Path(child.__file__).parents[1] / "shipped" / "mnist-int8.tflite")

    def probe(data: bytes) -> None:
        child.run_pictures(data, runtime=None, output=None, size_hw=None)

    def follow(data: bytes) -> None:
        tflite = open_tflite(data)
        shape = (8, *(side or 1 for side in tflite.input.shape[1:]))
        tflite.run(np.random.default_rng(1).integers(0, 256, shape, np.uint8))

    def outcome(data: bytes) -> str:
        code = in_child(lambda: probe(data))
        if code < 0:
            return "crashed in the child and nowhere else" if code != -signal.SIGKILL else "hung in the child and was ended"
        if code > 0:
            return "refused"
        return "crashed after the probe" if in_child(lambda: follow(data)) < 0 else "ran"

    assert outcome(model) == "ran"  # else what is refused says nothing
    return model, outcome


def in_child(work: Callable[[], None], limit_s: float = 20.0) -> int:
    """Run `work` in a forked child; return 0, 1 for an error of Python's, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(round(limit_s))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        try:
            work()
        except (EdgecnnError, MemoryError, ValueError, TypeError, KeyError, IndexError, OSError, OverflowError):
            os._exit(1)
        except BaseException:
            os._exit(2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return -signal.SIGKILL if code == -signal.SIGALRM else code


def main() -> None:
    """Run one kind until its cases or its time are used up."""
    kind, folder, seed, cases, limit_s = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
    make = {"keras": keras_case, "checkpoint": checkpoint_case, "foreign": foreign_case}[kind]
    data, outcome = make(folder)
    counts, ends_s = Counter[str](), time.monotonic() + limit_s
    for altered in damaged(data, random.Random(f"{seed} {kind}")):
        if counts.total() == cases or time.monotonic() > ends_s:
            break
        if altered != data:
            counts[outcome(altered)] += 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
