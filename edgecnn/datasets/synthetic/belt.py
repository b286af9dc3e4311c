"""A belt under a camera: pictures of parts glide through the view, with gaps, off-centre and blurred by their speed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError

Direction = Literal["right", "left", "down", "up"]
Image = NDArray[np.uint8]
_RUBBER_BGR, _WEAVE, _NOISE = (48.0, 50.0, 46.0), 5.0, 2.0
_PATTERN = 509  # rows of belt before it repeats itself
_TURNS = {"left": cv2.ROTATE_180, "down": cv2.ROTATE_90_CLOCKWISE, "up": cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Belt:
    """How parts travel; all lengths are shares of a part's side along the belt, or across it for `off_centre`.

    `view` is how long the view is, `speed` the way from frame to frame, `gap` the mean space between two parts (drawn from
    half to one and a half of it), `off_centre` how far a part may lie from the middle, `exposure` the share of a frame's time
    in which it is exposed, and `lead` the seconds of empty belt before the first part, at 30 frames a second.
    """

    view: float = 3.0
    speed: float = 0.15
    gap: float = 0.6
    off_centre: float = 0.12
    exposure: float = 0.1
    direction: Direction = "right"
    lead: float = 1.0

    def __post_init__(self) -> None:
        if self.direction not in get_args(Direction):
            raise InputError(f"unknown direction {self.direction!r}; known: {', '.join(get_args(Direction))}")
        if not (self.view > 1 and self.speed > 0 and self.gap > 0 and self.off_centre >= 0 and 0 <= self.exposure <= 1):
            raise InputError("a belt needs a view longer than a part, a speed and a gap above 0, and an exposure of 0 to 1")


@dataclass(frozen=True, eq=False)
class BeltFrame:
    """A frame `(h, w, 3)` uint8 BGR, and the box (x, y, w, h) of each part in it by its number, also beyond the border."""

    image_bgr: Image
    boxes: dict[int, tuple[int, int, int, int]]


def play_belt(stills: NDArray[np.uint8], belt: Belt, seed: int = 0) -> Iterator[BeltFrame]:
    """Yield the frames in which `stills` `(n, h, w, c)` uint8, gray or RGB, pass one after the other."""
    rng = np.random.default_rng(seed)
    parts = [_upright(np.asarray(still), belt.direction) for still in stills]
    across, along = parts[0].shape[:2]
    size_wh = round(belt.view * along), round(across * (1 + 2 * belt.off_centre)) if belt.off_centre else across
    speed = belt.speed * along
    starts, end = _starts(len(parts), along, belt, rng)
    tops = (size_wh[1] - across) / 2 + rng.uniform(-1, 1, len(parts)) * belt.off_centre * across
    pattern = _rubber(size_wh[1], rng)
    for number in range(math.ceil((end + size_wh[0]) / speed)):
        shift = number * speed
        scene = np.take(pattern, (np.arange(size_wh[0]) - round(shift)) % _PATTERN, axis=1)
        places = {
            i: (shift - start - along, tops[i]) for i, start in enumerate(starts) if 0 <= shift - start < size_wh[0] + along
        }
        for i, (left, top) in places.items():
            _paste(scene, parts[i], left, top)
        image = _seen(scene, belt.exposure * speed, rng)
        boxes = {i: (round(left), round(top), along, across) for i, (left, top) in places.items()}
        yield BeltFrame(_turned(image, belt.direction), {i: _turned_box(b, size_wh, belt.direction) for i, b in boxes.items()})


def _starts(count: int, along: int, belt: Belt, rng: np.random.Generator) -> tuple[list[float], float]:
    """Return how far the belt has moved when the front of each part comes into view, and when the last one has left it."""
    gaps = belt.gap * along * rng.uniform(0.5, 1.5, count)
    starts = belt.lead * 30 * belt.speed * along + np.cumsum(gaps + along) - along
    return starts.tolist(), float(starts[-1] + along)


def _rubber(across: int, rng: np.random.Generator) -> NDArray[np.float32]:
    noise = rng.normal(0, 1, (across, _PATTERN)).astype(np.float32)
    weave = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.2), np.float32)
    return np.asarray(np.array(_RUBBER_BGR) + _WEAVE / weave.std() * weave[..., None], np.float32)


def _paste(image: NDArray[np.float32], part: Image, left: float, top: float) -> None:
    """Put a part at a place between pixels, as far as it is in view."""
    x, y = math.floor(left), math.floor(top)
    h, w = part.shape[:2]
    move = np.array([[1, 0, left - x], [0, 1, top - y]], np.float32)
    moved = cv2.warpAffine(part, move, (w + 1, h + 1), borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(np.ones((h, w), np.float32), move, (w + 1, h + 1))
    x0, y0, x1, y1 = max(0, x), max(0, y), min(image.shape[1], x + w + 1), min(image.shape[0], y + h + 1)
    if x0 >= x1 or y0 >= y1:
        return
    inside, share = moved[y0 - y : y1 - y, x0 - x : x1 - x], cover[y0 - y : y1 - y, x0 - x : x1 - x, None]
    image[y0:y1, x0:x1] += share * (inside - image[y0:y1, x0:x1])


def _seen(image: NDArray[np.float32], blur: float, rng: np.random.Generator) -> Image:
    """Smear a picture along the belt by `blur` pixels, and add a sensor's noise."""
    if blur > 1:
        smear = np.ones(2 * math.ceil((blur - 1) / 2) + 1, np.float32)
        smear[0] = smear[-1] = (blur - len(smear) + 2) / 2
        image = np.asarray(cv2.filter2D(image, -1, smear[None] / blur, borderType=cv2.BORDER_REPLICATE), np.float32)
    noise = _NOISE * rng.standard_normal((*image.shape[:2], 1), np.float32)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


def _upright(still: Image, direction: Direction) -> Image:
    """Return a still as BGR, turned so that it is upright in a view of a belt that was drawn to the right."""
    if still.ndim == 3 and still.shape[2] == 1:
        still = still[..., 0]
    bgr = cv2.cvtColor(still, cv2.COLOR_GRAY2BGR if still.ndim == 2 else cv2.COLOR_RGB2BGR)
    back = {"left": cv2.ROTATE_180, "down": cv2.ROTATE_90_COUNTERCLOCKWISE, "up": cv2.ROTATE_90_CLOCKWISE}
    return np.asarray(bgr if direction == "right" else cv2.rotate(bgr, back[direction]), np.uint8)


def _turned(image: Image, direction: Direction) -> Image:
    return image if direction == "right" else np.asarray(cv2.rotate(image, _TURNS[direction]), np.uint8)


def _turned_box(box: tuple[int, int, int, int], size_wh: tuple[int, int], direction: Direction) -> tuple[int, int, int, int]:
    x, y, w, h = box
    width, height = size_wh
    if direction == "left":
        return width - x - w, height - y - h, w, h
    if direction == "down":
        return height - y - h, x, h, w
    return (y, width - x - w, h, w) if direction == "up" else box
