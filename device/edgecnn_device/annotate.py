"""Draws on a frame what was seen in it, or why nothing was."""

from __future__ import annotations

import textwrap

import cv2
import numpy as np

from edgecnn_device.frames import Box, Image, Observation, RegionPrediction, State

_KNOWN_BGR, _UNKNOWN_BGR, _TROUBLE_BGR = (80, 220, 80), (160, 160, 160), (60, 60, 230)
_PLACARD_BGR = (90, 200, 250)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotate(observation: Observation) -> Image | None:
    """Return a copy of the frame `(h, w, 3)` with boxes, labels and state; None without a frame."""
    if observation.frame is None:
        return None
    image = observation.frame.image_bgr.copy()
    scale = max(0.4, min(image.shape[0], image.shape[1]) / 900)
    for prediction in observation.predictions:
        _draw(image, prediction, scale)
    if observation.state.name != "ok":
        text = f"{observation.state.name}: {observation.state.reason}"
        _write(image, text, (0, image.shape[0]), 1.2 * scale, _TROUBLE_BGR)
    return image


def draw_placard(state: State, size_wh: tuple[int, int]) -> Image:
    """Return a picture `(h, w, 3)` that stands for a frame that did not come: the state and its reason on dark stripes."""
    width, height = size_wh
    image = np.full((height, width, 3), 40, np.uint8)
    image[:: max(8, height // 24)] = 52
    scale = width / 640
    lines = [state.name.upper(), *textwrap.wrap(state.reason, 44)]
    for i, line in enumerate(lines):
        at = (round(24 * scale), round(height / 2 + (i - (len(lines) - 1) / 2) * 34 * scale))
        text = line.encode("ascii", "replace").decode()  # OpenCV's font knows ASCII only
        cv2.putText(image, text, at, _FONT, 0.75 * scale, _PLACARD_BGR, max(1, round(2 * scale)), cv2.LINE_AA)
    return image


def _draw(image: Image, prediction: RegionPrediction, scale: float) -> None:
    answer = prediction.smoothed
    color = _UNKNOWN_BGR if answer.label is None else _KNOWN_BGR
    x, y, w, h = prediction.region.box
    thickness = max(1, round(2 * scale))
    if not _covers(prediction.region.box, image):
        cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), color, thickness)
    text = "?" if answer.label is None else f"{answer.label} {100 * answer.probability:.0f}%"
    _write(image, text, (x, y), scale, color)


def _write(image: Image, text: str, at: tuple[int, int], scale: float, color: tuple[int, int, int]) -> None:
    """Write light-on-dark text that stays inside the picture, above `at` where there is room."""
    # OpenCV's font knows ASCII only.
    text = text.encode("ascii", "replace").decode()
    (width, height), below = cv2.getTextSize(text, _FONT, scale, 1)
    full = height + below + 2
    x = max(0, min(at[0], image.shape[1] - width - 4))
    top = at[1] - full if at[1] >= full else at[1]
    image[max(0, top) : top + full, x : x + width + 4] //= np.uint8(4)
    cv2.putText(image, text, (x + 2, top + height + 1), _FONT, scale, color, 1, cv2.LINE_AA)


def _covers(box: Box, image: Image) -> bool:
    return box == (0, 0, image.shape[1], image.shape[0])
