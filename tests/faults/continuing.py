"""Kills a training that goes on from a run at random moments: `python continuing.py FOLDER SEED KILLS`.

Each time a forked child goes on, with what the one before it left; the parent kills it (SIGKILL) and looks at what lies there.
Prints the counts as JSON; an AssertionError says what was touched or half-written.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from edgecnn.pictures import read_picture
from edgecnn_export.reference import ENTRY, MODEL_FILE, read_entry
from edgecnn_export.run_folder import CHECKPOINT_FILE, is_finished, is_unfinished
from edgecnn_export.training.checkpoints import Checkpoint

LEVELS = {"bright": 200, "dark": 40, "gray": 120}


def draw(folder: Path, label: str, count: int) -> None:
    """Draw noise of a class's brightness."""
    (folder / label).mkdir(parents=True)
    noise = np.random.default_rng(len(label))
    for number in range(count):
        grain = np.clip(noise.normal(LEVELS[label], 20, (32, 32)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / label / f"{number}.png"), grain)


def train(folder: Path) -> None:
    """Train the run that is gone on from."""
    from edgecnn.datasets.folder import task_from_folder
    from edgecnn.datasets.load import load_splits
    from edgecnn_export.training import train as run_training

    task = task_from_folder(folder / "parts")
    run_training(task, load_splits(task, folder / "parts", 0), out=folder / "old", epochs=1)


def go_on(folder: Path, out: Path) -> None:
    """Go on from the run, or from what a child before left in `out`."""
    from edgecnn_export.training.continuation import continue_training, open_start

    start = open_start(folder / "old", new_classes=["gray"])
    continue_training(start, [folder / "more"], out=out, epochs=3, resume=is_unfinished(out))


def content(folder: Path) -> dict[str, str]:
    """Return the digest of each file."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def look(out: Path) -> int:
    """Demand that each file is whole, and return how many there are."""
    found = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
    for path in found:
        if path.name == MODEL_FILE:
            assert read_entry(path) is not None, f"{path} lacks {ENTRY}"
        elif path.name == CHECKPOINT_FILE:
            Checkpoint.open(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            assert all(None not in row and None not in row.values() for row in csv.DictReader(path.open()))
        else:
            read_picture(path)
    return len(found)


def forked(work: object, *arguments: object) -> int:
    """Do something in a child of this process, and return the child's id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(*arguments)  # type: ignore[operator]
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def main() -> None:
    """Kill as often as is asked for."""
    folder, rng, kills, counts = Path(sys.argv[1]), random.Random(sys.argv[2]), int(sys.argv[3]), Counter[str]()
    for label in ("bright", "dark"):
        draw(folder / "parts", label, 40)
    draw(folder / "more", "gray", 30)
    assert os.waitpid(forked(train, folder), 0)[1] == 0
    began_s = time.monotonic()
    assert os.waitpid(forked(go_on, folder, folder / "straight"), 0)[1] == 0
    usual_s, before, out = time.monotonic() - began_s, content(folder / "old"), folder / "new 0"
    while counts["kills"] < kills:
        child, began_s = forked(go_on, folder, out), time.monotonic()
        wait_s, ended = rng.uniform(0, usual_s), (0, 0)
        while ended[0] == 0 and time.monotonic() - began_s < wait_s:
            time.sleep(0.005)
            ended = os.waitpid(child, os.WNOHANG)
        if ended[0] == 0:
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
        counts["files"] += look(out)
        assert content(folder / "old") == before, "the old run was touched"
        if os.WIFSIGNALED(ended[1]):
            counts["kills"] += 1
        else:
            assert ended[1] == 0, "it did not go on from what a killed one had left"
            counts["complete"] += 1
            assert weights(out) == weights(folder / "straight"), "it went on to another result"
        if is_finished(out):
            out = folder / f"new {counts['kills'] + counts['complete']}"
    print(json.dumps(counts))


def weights(run: Path) -> list[str]:
    """Return the digests of the weights file in a model: archives of equal content differ in their times."""
    import zipfile

    with zipfile.ZipFile(run / MODEL_FILE) as archive:
        return [hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist() if name.endswith(".h5")]


if __name__ == "__main__":
    main()
