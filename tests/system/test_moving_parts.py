"""Parts on a belt in a film as FFmpeg makes it: each is answered once, in every output, with the picture it was judged by."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from running import need

from edgecnn.classifier import Classifier
from edgecnn.datasets.synthetic.belt import Belt, Direction, play_belt
from edgecnn.shipped import find_task


def film(path: Path, stills: np.ndarray, belt: Belt) -> None:
    """Write the belt as H.264 at 30 frames a second."""
    frames = [each.image_bgr for each in play_belt(stills, belt, 5)]
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    raw = b"".join(np.ascontiguousarray(frame[:height, :width]).tobytes() for frame in frames)
    form = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{width}x{height}", "-r", "30", "-i", "-"]
    command = [need("ffmpeg"), "-v", "error", *form, "-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, input=raw, check=True)


@pytest.mark.parametrize("direction", ["right", "up"])
@pytest.mark.parametrize("trigger", ["motion", "line"])
def test_each_part_of_a_film_is_answered_once_as_its_picture_is(direction: Direction, trigger: str, tmp_path: Path) -> None:
    task = find_task("neu")
    assert task.synthesize is not None
    stills = task.synthesize(3, 11).images
    film(tmp_path / "belt.mp4", stills, Belt(direction=direction))
    outputs = ["--jsonl", "out.jsonl", "--csv", "out.csv", "--keep", "samples", "--keep-below", "1", "--keep-every", "0.001"]
    command = [sys.executable, "-m", "edgecnn", "camera", "neu", "--source", "belt.mp4", "--trigger", trigger, *outputs]
    done = subprocess.run(command, cwd=tmp_path, check=True, timeout=300, capture_output=True, text=True)

    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    events = [line for line in lines if "event" in line]
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["event"]]
    kept = [json.loads(path.read_text()) for path in sorted((tmp_path / "samples").glob("*Z-*.json"))]
    expected = [answer.class_id for answer in Classifier.open("neu").classify([still[..., 0] for still in stills])]
    found = [event["regions"][0]["smoothed"]["class_id"] for event in events]
    assert len(events) == len(rows) == len(kept) == done.stdout.count(f"moved {direction}") == len(stills)
    assert found == expected
    assert {body["event"]["id"] for body in kept} == {event["event"]["id"] for event in events}
