"""How a source's pictures are turned, mirrored, resized and cropped before anybody looks at them."""

from __future__ import annotations

import math
from typing import Literal, get_args

import cv2
import numpy as np

from edgecnn.errors import InputError
from edgecnn.numbers import whole_number
from edgecnn.preprocessing import resize
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.frames import Image

Flip = Literal["none", "horizontal", "vertical", "both"]
_MOST_SIDE = 16384
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FLIPS = {"horizontal": 1, "vertical": 0, "both": -1}


@dataclass(frozen=True)
class Roi:
    """A region of interest: pixels, or fractions of the picture when `fractions` says so."""

    x: float
    y: float
    width: float
    height: float
    fractions: bool

    @classmethod
    def parse(cls, text: str) -> Roi:
        """Read `x,y,w,h`: pixels when all four are integers, fractions of the picture when they have a decimal point."""
        parts = [part.strip() for part in text.split(",")]
        try:
            x, y, width, height = (float(part) for part in parts)
        except ValueError:
            raise InputError(
                f"--roi {text!r}: give x,y,width,height in pixels or as fractions such as 0.1,0.2,0.5,0.5"
            ) from None
        fractions = any("." in part for part in parts)
        if not (x >= 0 and y >= 0 and width > 0 and height > 0 and math.isfinite(x + y + width + height)):
            raise InputError(f"--roi {text}: x and y must not be negative, width and height must be above 0")
        if fractions and (x + width > 1 + 1e-9 or y + height > 1 + 1e-9):
            raise InputError(f"--roi {text}: as fractions x + width and y + height must not exceed 1")
        return cls(x, y, width, height, fractions)

    def crop(self, image: Image) -> Image:
        """Return the part of `(h, w, 3)` as a view; InputError when it does not lie inside."""
        left, top, right, bottom = self.check(image.shape[1], image.shape[0])
        return image[top:bottom, left:right]

    def check(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom in a picture of this size; InputError when they do not lie inside."""
        scale_x, scale_y = (width, height) if self.fractions else (1, 1)
        left, top = round(self.x * scale_x), round(self.y * scale_y)
        right, bottom = round((self.x + self.width) * scale_x), round((self.y + self.height) * scale_y)
        if right > width or bottom > height or right <= left or bottom <= top:
            raise InputError(
                f"--roi {self.x:g},{self.y:g},{self.width:g},{self.height:g} is not inside the picture of {width}x{height}"
            )
        return left, top, right, bottom


@dataclass(frozen=True)
class Transform:
    """Resize to `size_wh`, then turn clockwise by `rotation` degrees, then mirror, then crop to `roi`."""

    size_wh: tuple[int, int] | None = None
    rotation: int = 0
    flip: Flip = "none"
    roi: Roi | None = None

    def __post_init__(self) -> None:
        if self.rotation not in (0, *_TURNS):
            raise InputError(f"--rotate {self.rotation}: give 0, 90, 180 or 270 degrees")
        if self.flip not in get_args(Flip):
            raise InputError(f"--flip {self.flip!r}: give one of {', '.join(get_args(Flip))}")

    def __call__(self, image: Image) -> Image:
        """Return the transformed `(h, w, 3)` uint8; the very same array, or a view of it, where nothing has to move."""
        if self.size_wh is not None and image.shape[1::-1] != self.size_wh:
            image = resize(image, (self.size_wh[1], self.size_wh[0]))
        if self.rotation:
            image = np.asarray(cv2.rotate(image, _TURNS[self.rotation]), np.uint8)
        if self.flip != "none":
            image = np.asarray(cv2.flip(image, _FLIPS[self.flip]), np.uint8)
        return image if self.roi is None else self.roi.crop(image)


def parse_size(text: str) -> tuple[int, int]:
    """Read `WIDTHxHEIGHT` in pixels."""
    width, _, height = text.lower().partition("x")
    size_wh = whole_number(width, at_most=_MOST_SIDE), whole_number(height, at_most=_MOST_SIDE)
    if not (size_wh[0] and size_wh[1]):
        raise InputError(f"--size {text!r}: give WIDTHxHEIGHT in pixels up to {_MOST_SIDE}, such as 640x480")
    return size_wh[0], size_wh[1]
