"""An emulated ARM64 machine with 512 MB, a kernel of its own and a V4L2 loopback camera: `make test-vm`."""

from __future__ import annotations

import json
import statistics
import subprocess
from typing import Any

import cv2
import numpy as np
import pytest
from arm_figures import Page
from arm_userland import BUILD, HERE, Userland

from edgecnn.classifier import Classifier
from edgecnn.datasets.synthetic import generate_steel

pytestmark = pytest.mark.timeout(3600)
_LIMIT_S = 2400
_LIMIT_MB = 256
# An emulated processor that shares two cores with others needs seconds for what takes a board a tenth of one.
_PATIENCE = "--max-age-ms 8000 --open-timeout 60 --read-timeout 10"


@pytest.fixture(scope="module")
def shown(board: Userland) -> list[str]:
    """Lay out two frames of different defects for the second program; return their labels."""
    classifier = Classifier.open("neu")
    found: dict[str, np.ndarray[Any, np.dtype[np.uint8]]] = {}
    steel = generate_steel(4, seed=1)
    for image in steel.images:
        frame = np.asarray(cv2.resize(image[:, :, 0], (640, 480), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
        (prediction,) = classifier.classify([np.clip(frame, 20, 230) + np.uint8(2)])
        if prediction.label is not None and prediction.probability > 0.9:
            found.setdefault(prediction.label, frame)
    assert len(found) >= 2, "the shipped model is sure of fewer than two kinds of synthetic steel"
    labels = sorted(found)[:2]
    folder = board.exchange / "machine"
    folder.mkdir(exist_ok=True)
    np.save(folder / "frames.npy", np.stack([found[label] for label in labels]))
    return labels


@pytest.fixture(scope="module")
def life(board: Userland, shown: list[str]) -> dict[str, Any]:
    """Boot the machine, let a camera live in it, and return what `machine/watch.py` says about that."""
    work = BUILD / "machine"
    subprocess.run([str(HERE / "machine" / "build.sh"), str(board.root), str(work)], check=True)
    for name in ("watch.py", "write_frames.py"):
        (board.exchange / "machine" / name).write_bytes((HERE / "machine" / name).read_bytes())
    command = [str(HERE / "machine" / "boot.sh"), str(board.root), str(work), f"python /exchange/machine/watch.py {_PATIENCE}"]
    with (work / "console.log").open("w+") as console:
        subprocess.run(command, stdout=console, stderr=subprocess.STDOUT, timeout=_LIMIT_S, check=True)
        console.seek(0)
        said = console.read()
    results = [line.partition("RESULT ")[2] for line in said.splitlines() if "RESULT " in line]
    assert len(results) == 1, said[-3000:]
    return dict(json.loads(results[0]))


def test_the_camera_classifies_what_a_second_program_shows(life: dict[str, Any], shown: list[str], page: Page) -> None:
    header = ("machine", "figure")
    page.add("machine", header, "memory", f"{life['memory_total_mb']:.0f} MB, kernel {life['kernel']}")
    page.add("machine", header, "frames with an answer", life["answers"])
    page.add(
        "machine",
        header,
        "age of a frame when its answer was published, median",
        f"{statistics.median(life['ages_ms']):.0f} ms",
    )

    assert "failure" not in life, life
    assert life["labels"] == shown
    assert life["frame_size"] == [640, 480]


def test_a_camera_that_stops_is_said_and_no_class_with_it(life: dict[str, Any], page: Page) -> None:
    lost = life["lost"]
    page.add("machine", ("machine", "figure"), "the writer is killed: reported after", f"{lost['said_after_s']:.1f} s")

    assert lost["answers_meanwhile"] == 0
    assert "ok" not in lost["states"]


def test_it_goes_on_when_the_camera_is_back(life: dict[str, Any], page: Page) -> None:
    page.add("machine", ("machine", "figure"), "the writer comes back: first answer after", f"{life['recovered_s']:.1f} s")

    assert life["recovered_s"] < 120


def test_it_fits_into_256_mb_with_its_page(life: dict[str, Any], page: Page) -> None:
    header = ("machine", "figure")
    for name, megabytes in life["peak_rss_mb"].items():
        page.add("machine", header, f"largest resident memory of the {name} process", f"{megabytes:.0f} MB")
    page.add("machine", header, f"memory group of {_LIMIT_MB} MB: without file cache", f"{life['group_anonymous_mb']:.0f} MB")
    page.add("machine", header, "memory that the machine had left", f"{life['memory_available_mb']:.0f} MB")

    assert life["oom_kills"] == 0
    assert set(life["peak_rss_mb"]) == {"camera", "reader"}
    assert life["page"]["page_bytes"] > 1000
    assert life["page"]["stream_bytes"] > 100_000


def test_it_ends_cleanly(life: dict[str, Any]) -> None:
    assert life["exit_code"] == 0, life["stderr"]
