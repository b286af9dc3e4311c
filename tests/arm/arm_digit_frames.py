"""Instructions that reading the digits of a whole frame takes on ARM, beside the reader of commit d5a7022.

`python tests/arm/arm_digit_frames.py` counts again and writes digit_frames.json, against which the tests compare, and its table
in docs/reference/arm.md. That reader's counts are kept as long as the frames and the packages are the same: with its seconds of
work per frame it takes most of the time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from arm_counts import PAGE, compile_plugin, marks_on
from arm_figures import put, table
from arm_userland import BUILD, CHECKOUT, HERE, USUAL_PROCESSOR, Userland, open_userland

from benchmarks.digit_frames import SEEDS, TARGETS
from edgecnn_device.bench.digits import SCENES, SIZES_WH, draw_scene

RECORD = HERE / "digit_frames.json"
BEFORE = "d5a7022"
_PACKAGES = ("ai-edge-litert", "numpy", "opencv-python-headless")
Counts = dict[str, list[int]]  # scene and size -> instructions of each seed's frame


def lay_out(folder: Path) -> str:
    """Write all frames as .npy into a folder and return their SHA-256."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    digest = hashlib.sha256()
    for scene in SCENES:
        for size_wh in SIZES_WH:
            for seed in SEEDS:
                image = draw_scene(scene, size_wh, seed)
                digest.update(image.tobytes())
                np.save(folder / f"{name_of(scene, size_wh)} {seed}.npy", image)
    return digest.hexdigest()


def name_of(scene: str, size_wh: tuple[int, int]) -> str:
    """Return the name of a kind of frame in the record."""
    return f"{scene}, {size_wh[0]}x{size_wh[1]}"


def count(userland: Userland, packages: Path | None = None) -> Counts:
    """Count the frames that are laid out in the userland, with edgecnn from other `packages` where they are given."""
    folder, out = userland.exchange / "digits", userland.exchange / "digit_marks.json"
    marked = marks_on(userland, USUAL_PROCESSOR, compile_plugin(), ("count_digits.py", str(folder), str(out)), packages)
    counts: Counts = {}
    for name, number in sorted(marked.items()):
        counts.setdefault(name.rsplit(" ", 1)[0], []).append(number)
    return counts


def unpack_before() -> Path:
    """Return the folder with the package of the commit that is compared with, made of this repository's history."""
    folder = BUILD / f"reader_{BEFORE}"
    if not folder.exists():
        with tempfile.TemporaryDirectory() as text:
            archive = subprocess.run(["git", "-C", str(CHECKOUT), "archive", BEFORE], capture_output=True, check=True).stdout
            subprocess.run(["tar", "-x", "-C", text], input=archive, check=True)
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
            subprocess.run([*pip, "--wheel-dir", text, text], check=True)
            (wheel,) = Path(text).glob("*.whl")
            with zipfile.ZipFile(wheel) as file:
                file.extractall(folder)
    return folder


def record(userland: Userland) -> dict[str, Any]:
    """Count and return what is kept."""
    frames, installed = lay_out(userland.exchange / "digits"), userland.versions()
    made_of = {"frames": frames, "packages": {name: installed[name] for name in _PACKAGES}}
    old = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
    known = all(old.get(name) == value for name, value in made_of.items())
    before = old["before"] if known else count(userland, unpack_before())
    return made_of | {"before": before, "instructions": count(userland)}


def frame_table(counted: dict[str, Any]) -> str:
    """Return the table of a record: means over the seeds' frames."""
    return table(("frame", "instructions", f"{BEFORE}", "times fewer", "target"), [_row(counted, name) for name in _names()])


def _names() -> list[str]:
    return [name_of(scene, size_wh) for size_wh in SIZES_WH for scene in SCENES]


def _row(counted: dict[str, Any], name: str) -> tuple[Any, ...]:
    now, before = (round(float(np.mean(counted[which][name]))) for which in ("instructions", "before"))
    fewer = before / now
    wanted = TARGETS.get(name.rsplit(", ", 1)[0]) if name in map(name_of, SCENES, [SIZES_WH[0]] * len(SCENES)) else None
    target = "" if wanted is None else f"{wanted:g}: {'met' if fewer >= wanted else '**missed**'}"
    return name, now, before, f"{fewer:.1f}", target


def main() -> None:
    """Count again and write the record and its table."""
    counted = record(open_userland("litert"))
    RECORD.write_text(json.dumps(counted, indent=2) + "\n", "utf-8")
    PAGE.write_text(put(PAGE.read_text("utf-8"), "digit frames", frame_table(counted)), "utf-8")
    for path in (RECORD, PAGE):
        print(f"{path.relative_to(CHECKOUT)} is written", file=sys.stderr)


if __name__ == "__main__":
    main()
