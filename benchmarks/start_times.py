"""From the start of a process to its first answer: `edgecnn classify` and `edgecnn camera`, beside a bare script.

`python -m benchmarks.start_times [MODEL] [ROUNDS]` prints a table. The bare script imports OpenCV and the interpreter and
classifies the same picture; it knows no contract and checks nothing. The commands take turns, and the best of the rounds
counts, since what else runs on a machine only ever adds. Processor time is that of the whole process, its end included.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

import edgecnn
import edgecnn_device
from edgecnn.classifier import artifact_path
from edgecnn.errors import InputError

ROUNDS = 25
TARGETS = {"classify": 1.25, "camera": 1.35}
_BARE = """
import sys
import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
_, height, width, channels = given["shape"]
image = cv2.imread(sys.argv[2], cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
pixels = cv2.resize(image, (int(width), int(height)), interpolation=cv2.INTER_AREA).reshape(given["shape"])
interpreter.set_tensor(given["index"], (pixels ^ np.uint8(0x80)).view(np.int8))
interpreter.invoke()
print(int(interpreter.get_tensor(answer["index"])[0].argmax()), flush=True)
"""


def compare_starts(model: str = "neu", rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Return milliseconds to the first answer (`first_ms`) and of processor time (`cpu_ms`) of each way, `bare` among them.

    InputError when one fails.
    """
    for package in (edgecnn, edgecnn_device):  # what is installed has been compiled
        compileall.compile_dir(package.__path__[0], quiet=2)
    with tempfile.TemporaryDirectory() as folder:
        picture = str(Path(folder, "picture.png"))
        cv2.imwrite(picture, np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8))
        commands = {
            "bare": ["-c", _BARE, str(artifact_path(model)), picture],
            "classify": ["-m", "edgecnn", "classify", model, picture],
            "camera": ["-m", "edgecnn", "camera", model, "--source", picture, "--frames", "1"],
        }
        found = [{name: _start_ms(command) for name, command in commands.items()} for _ in range(rounds)]
    return {name: {what: min(each[name][what] for each in found) for what in ("first_ms", "cpu_ms")} for name in commands}


def _start_ms(command: list[str]) -> dict[str, float]:
    """Run a Python process to its end and return what it took to its first line on stdout; InputError when it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    whole = [sys.executable, "-P", *command]
    with tempfile.TemporaryFile() as errors:
        began_s = time.perf_counter()
        with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=errors, env=environment) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            took_s = time.perf_counter() - began_s
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode != 0 or not first:
            raise InputError(f"{' '.join(command)} ended with {process.returncode}: {errors.read().decode().strip()}")
    return {"first_ms": 1000 * took_s, "cpu_ms": 1000 * (used.ru_utime + used.ru_stime)}


def lines(found: dict[str, dict[str, float]]) -> list[str]:
    """Return the comparison as a table in Markdown."""
    bare = found["bare"]
    table = ["| | first answer ms | over bare | processor ms | over bare | target |", "|---|---|---|---|---|---|"]
    for name, row in found.items():
        first, processor = row["first_ms"] / bare["first_ms"], row["cpu_ms"] / bare["cpu_ms"]
        target = TARGETS.get(name)
        said = "" if target is None else f"at most {target}: {'met' if first <= target else '**missed**'}"
        title = "bare script" if target is None else f"`edgecnn {name}`"
        table.append(f"| {title} | {row['first_ms']:.0f} | {first:.2f} | {row['cpu_ms']:.0f} | {processor:.2f} | {said} |")
    return table


def main() -> None:
    """Print the comparison."""
    model, rounds = [*sys.argv[1:], *("neu", str(ROUNDS))[len(sys.argv) - 1 :]][:2]
    print("\n".join(lines(compare_starts(model, int(rounds)))))


if __name__ == "__main__":
    main()
