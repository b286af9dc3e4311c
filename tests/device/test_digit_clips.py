"""The clips that the reading of digits over time is measured on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import digit_clips
from edgecnn.handwriting.evaluation import TrueBox
from edgecnn_device.digit_video import read_labels


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(digit_clips, "SECONDS", 2.0)
    photo = np.full((300, 400, 3), 200, np.uint8)
    photo[100:140, 250:280] = 20
    return digit_clips.write_clip(photo, [TrueBox(250, 100, 30, 40, "8", "digit")], tmp_path / "clip", seed=0)


def test_the_table_says_where_the_digit_is_in_each_frame(clip: tuple[Path, Path]) -> None:
    (digit,), frames = read_labels(clip[1]), cv2.VideoCapture(str(clip[0]))

    away = []
    for number in digit.frames:
        dark = np.argwhere(frames.read()[1][..., 0] < 100)
        box = digit.at(number)
        assert box is not None
        away.append(np.abs(dark.mean(axis=0) - (box.y + box.h / 2, box.x + box.w / 2)).max())

    assert len(away) == 2 * digit_clips.FPS
    assert max(away) < 2


def test_the_camera_jerks_and_sways(clip: tuple[Path, Path]) -> None:
    (digit,) = read_labels(clip[1])

    moved = np.abs(np.diff(np.array(digit.boxes)[:, 0]))

    assert np.median(moved) >= 1
    assert moved.max() >= 5
