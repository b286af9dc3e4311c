"""Instructions that models take on ARM, counted exactly: the cost that is the same on every day and machine.

`python tests/arm/arm_counts.py` counts the shipped models again and writes instructions.json, against which the tests compare,
and its tables in docs/reference/arm.md and README.md; `arm_counts.py FILE...` prints the table of other exported models. A
count says nothing of cycles or cache misses: milliseconds on a board are estimates.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arm_figures import budget_table, instruction_table, put
from arm_pictures import lay_out, lay_out_model
from arm_userland import BUILD, CHECKOUT, HERE, PROCESSORS, Userland, open_userland

from edgecnn.artifacts import Artifact

RECORD = HERE / "instructions.json"
PAGE = CHECKOUT / "docs" / "reference" / "arm.md"
README = CHECKOUT / "README.md"
TASKS = ("neu", "mnist")
# Two counts of the same program differ by less than a thousandth; a newer LiteRT or NumPy may bring more.
TOLERANCE = 0.05
AGAIN = "count them again with: make count-arm"
_PACKAGES = ("ai-edge-litert", "numpy", "opencv-python-headless")
_LIMIT_S = 1800
Counts = dict[str, dict[str, dict[str, int]]]  # task -> processor -> step -> instructions


def count(userland: Userland, names: Sequence[str] = TASKS) -> Counts:
    """Count models on every processor; they and their frames must have been laid out in the userland."""
    counts: Counts = {name: {} for name in names}
    plugin = compile_plugin()
    for processor in PROCESSORS:
        for counted, number in count_on(userland, processor, plugin, names).items():
            name, step = counted.rsplit(" ", 1)
            counts[name].setdefault(processor, {})[step] = number
    return counts


def compile_plugin() -> Path:
    """Compile the emulator's plugin and return its path."""
    plugin = BUILD / "instructions.so"
    source = HERE / "instructions.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(plugin), str(source)], check=True)
    return plugin


def count_on(userland: Userland, processor: str, plugin: Path, names: Sequence[str]) -> dict[str, int]:
    """Run `inside/count.py` on one processor; return the instructions of each step, the median of its repetitions."""
    out = userland.exchange / "marks.json"
    out.with_suffix(".jsonl").unlink(missing_ok=True)  # the camera's lines: a file that is there is gone on with
    return marks_on(userland, processor, plugin, ("count.py", str(userland.exchange), *names, str(out)))


def marks_on(
    userland: Userland, processor: str, plugin: Path, program: tuple[str, ...], packages: Path | None = None
) -> dict[str, int]:
    """Run a program of `inside` on one processor; return the median of the instructions under each name that it marked.

    `program` is its name and its arguments, the last of which is the file that it writes its marks to. With `packages` it sees
    those before the userland's.
    """
    root = userland.root
    # Not in a chroot: the emulator with plugins is no static program. -L lets it look for the system's files in the root.
    (root / "proc").mkdir(exist_ok=True)
    shutil.copy(root / "etc" / "processors" / processor, root / "proc" / "cpuinfo")
    path = ":".join(map(str, filter(None, (packages, userland.site_packages))))
    environment = {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    emulator = ["qemu-aarch64", "-cpu", processor, "-L", str(root), "-plugin", str(plugin), str(root / "usr/bin/python3")]
    command = [*emulator, str(userland.exchange / "inside" / program[0]), *program[1:]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_LIMIT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"counting on {processor} failed: {done.stderr[-2000:]}")
    return read_marks(json.loads(Path(program[-1]).read_text()), done.stderr)


def read_marks(names: list[str], stderr: str) -> dict[str, int]:
    """Return the median of the instructions between each named mark and the one after it."""
    totals = [int(number) for number in re.findall(r"^executed (\d+)$", stderr, re.MULTILINE)]
    if len(totals) != len(names):
        raise ValueError(f"the program made {len(names)} marks, the emulator saw {len(totals)}")
    steps: dict[str, list[int]] = defaultdict(list)
    for name, before, after in zip(names, totals, totals[1:], strict=False):
        if name:
            steps[name].append(after - before)
    return {name: round(statistics.median(numbers)) for name, numbers in steps.items()}


def record(userland: Userland, counts: Counts) -> dict[str, Any]:
    """Return what is kept: the counts of each task with its model's digest, and the packages that they were counted with."""
    installed = userland.versions()
    models = {task: counted_digest(userland, task) for task in TASKS}
    return {
        "packages": {name: installed[name] for name in _PACKAGES},
        "models": {task: {"sha256": models[task], "instructions": counts[task]} for task in TASKS},
    }


def counted_digest(userland: Userland, task: str) -> str:
    """Return the SHA-256 of the model that was laid out to be counted, the shipped one of that moment."""
    return Artifact.open(userland.exchange / task / "model.tflite").contract.model_sha256


def count_files(paths: Sequence[Path]) -> str:
    """Return the table of exported models, each named as its file and folder."""
    artifacts = {f"{path.parent.name}-{path.stem}": Artifact.open(path) for path in paths}
    userland = open_userland("litert")
    for name, artifact in artifacts.items():
        lay_out_model(artifact, userland.exchange / name)
    counts = count(userland, list(artifacts))
    return instruction_table({"models": {name: {"instructions": counts[name]} for name in artifacts}})


def main() -> None:
    """Count the shipped models again, and write the record and its tables."""
    userland = open_userland("litert")
    for task in TASKS:
        lay_out(task, userland.exchange / task)
    counted = record(userland, count(userland))
    RECORD.write_text(json.dumps(counted, indent=2) + "\n", "utf-8")
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), counted), "utf-8")
    README.write_text(put(README.read_text("utf-8"), "budget", budget_table(counted)), "utf-8")
    for path in (RECORD, PAGE, README):
        print(f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path} is written", file=sys.stderr)


def with_tables(page: str, counted: dict[str, Any]) -> str:
    """Return the page with the tables of a record."""
    return put(put(page, "instructions", instruction_table(counted)), "budget", budget_table(counted))


if __name__ == "__main__":
    if files := sys.argv[1:]:
        print(count_files([Path(name) for name in files]), end="")
    else:
        main()
