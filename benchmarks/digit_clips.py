"""Clips of a camera over photographed sheets of digits, and how steadily they are read.

`python -m benchmarks.digit_clips PHOTOS OUT`: PHOTOS is a folder as `edgecnn data photos` reads it; those of its photographs
with digits alone become OUT/NAME.avi with OUT/NAME.csv, which `edgecnn study digits` takes. A hand holds the camera: it sways
and turns, jerks to the side once, with the blur of its exposure, and the sensor is noisy. An arm passes over the sheet; what it
covers counts as not read.
"""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.handwriting.evaluation import TrueBox, read_labels
from edgecnn.pictures import read_picture
from edgecnn.text import percent
from edgecnn_device.digit_video import COLUMNS, VideoFigures, study_digits
from edgecnn_device.digit_video import read_labels as read_video_labels

SIZE_WH, FPS, SECONDS = (640, 480), 15, 6.0
# The sheet fills so much of the frame; the camera sways by such shares of the frame's width, degrees and shares of its zoom.
FILLED, SWAY, TURN_DEG, ZOOM = 0.85, 0.02, 2.0, 0.03
# When it jerks, how far as a share of the width, and for how long; how long the shutter is open, in so many steps.
JERK_AT_S, JERK, JERK_S, EXPOSURE_S, STEPS = 1.5, 0.05, 0.3, 1 / 50, 4
ARM_AT_S, ARM_S, ARM_WIDTH, ARM_BGR = 3.5, 1.0, 70, (110, 140, 190)
NOISE, FLICKER = 3.0, 0.02
Image = NDArray[np.uint8]
HEAD = (
    "| clip | digits | frames | read right | changes per digit and minute | digits with one id | false reports |",
    "|---|---:|---:|---|---:|---:|---:|",
)


def view(image_bgr: Image, time_s: float) -> NDArray[np.float64]:
    """Return the map `(2, 3)` from a photograph's pixels to those of the frame at a time."""
    height, width = image_bgr.shape[:2]
    fit = FILLED * min(SIZE_WH[0] / width, SIZE_WH[1] / height)
    turn, zoom = TURN_DEG * math.sin(2.1 * time_s), 1 + ZOOM * math.sin(1.3 * time_s)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, fit * zoom)
    since = min(max((time_s - JERK_AT_S) / JERK_S, 0.0), 1.0)
    jerk = JERK * (1 - math.cos(math.pi * since)) / 2
    matrix[0, 2] += SIZE_WH[0] * (0.5 + SWAY * math.sin(1.7 * time_s) + jerk) - width / 2
    matrix[1, 2] += SIZE_WH[1] / 2 + SIZE_WH[0] * SWAY * math.sin(2.3 * time_s) - height / 2
    return np.asarray(matrix, np.float64)


def film(image_bgr: Image, time_s: float, rng: np.random.Generator) -> Image:
    """Return the frame `(h, w, 3)` that the camera takes of a photograph at a time."""
    ground = np.median(np.concatenate([image_bgr[0], image_bgr[-1]]), axis=0).tolist()
    maps = [view(image_bgr, time_s + EXPOSURE_S * step / STEPS) for step in range(STEPS)]
    frame = np.mean([cv2.warpAffine(image_bgr, each, SIZE_WH, borderValue=ground) for each in maps], axis=0, dtype=np.float32)
    since = (time_s - ARM_AT_S) / ARM_S
    if 0 <= since <= 1:
        tip = round(-ARM_WIDTH + since * (SIZE_WH[0] + 2 * ARM_WIDTH)), round(0.15 * SIZE_WH[1])
        cv2.line(frame, tip, (tip[0] - 100, SIZE_WH[1] + ARM_WIDTH), ARM_BGR, ARM_WIDTH, cv2.LINE_AA)
    frame *= 1 + FLICKER * math.sin(9.1 * time_s)
    return np.clip(frame + rng.normal(0, NOISE, frame.shape), 0, 255).astype(np.uint8)


def place(box: TrueBox, matrix: NDArray[np.float64]) -> tuple[int, int, int, int]:
    """Return the box `(x, y, w, h)` in the frame round a box of the photograph."""
    corners = np.array([(box.x + i * box.w, box.y + j * box.h, 1) for i in (0, 1) for j in (0, 1)]) @ matrix.T
    left, top, right, bottom = (round(float(value)) for value in (*corners.min(axis=0), *corners.max(axis=0)))
    return left, top, right - left, bottom - top


def write_clip(image_bgr: Image, boxes: list[TrueBox], stem: Path, seed: int) -> tuple[Path, Path]:
    """Write a clip of a photograph and its table; return both paths."""
    video, table = stem.with_suffix(".avi"), stem.with_suffix(".csv")
    rng, middle_s = np.random.default_rng(seed), EXPOSURE_S * (STEPS - 1) / STEPS / 2
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE_WH)
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for frame in range(round(FPS * SECONDS)):
            writer.write(film(image_bgr, frame / FPS, rng))
            matrix = view(image_bgr, frame / FPS + middle_s)
            rows.writerows((frame, number, *place(box, matrix), box.label) for number, box in enumerate(boxes))
    writer.release()
    return video, table


def line(name: str, figures: VideoFigures) -> str:
    """Return a clip's line of the table."""
    cells = (name, len(figures.digits), figures.frames, percent(figures.accuracy, figures.interval))
    return f"| {' | '.join(map(str, cells))} | {figures.changes_per_minute:.1f} | {figures.kept} | {figures.false_reports} |"


def together(clips: list[VideoFigures]) -> VideoFigures:
    """Return the figures of all clips as if they were one."""
    digits = tuple(digit for clip in clips for digit in clip.digits)
    return VideoFigures(FPS, sum(clip.frames for clip in clips), digits, (), sum(clip.false_reports for clip in clips))


def main(photos: Path, out: Path) -> None:
    """Make the clips and print how each is read."""
    out.mkdir(parents=True, exist_ok=True)
    classifier, clips = Classifier.open("mnist"), []
    print("\n".join(HEAD), flush=True)
    for seed, (name, boxes) in enumerate(read_labels(photos).items()):
        if all(box.kind == "digit" for box in boxes):
            video, table = write_clip(read_picture(photos / name), boxes, out / Path(name).stem, seed)
            clips.append(study_digits(str(video), read_video_labels(table), classifier))
            print(line(Path(name).stem, clips[-1]), flush=True)
    print(line("all", together(clips)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
