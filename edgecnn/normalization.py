"""How another tool's model wants its pixels, where that is not as raw RGB of 0 to 255."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.quick_dataclass import dataclass

InputColor = Literal["rgb", "bgr", "gray"]


@dataclass(frozen=True)
class Normalization:
    """What a model takes instead of raw pixels: `pixel * scale + offset`, then with `bgr` the channels turned round.

    `scale` and `offset` hold one number for all channels, or one each in the order red, green, blue, whatever order the model
    takes them in. InputError when they hold another count of numbers, or one that is not a number.
    """

    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    bgr: bool = False

    def __post_init__(self) -> None:
        for name, numbers in (("scale", self.scale), ("offset", self.offset)):
            if len(numbers) not in (1, 3) or not all(math.isfinite(number) for number in numbers):
                raise InputError(f"a pixel {name} is one number, or one each for red, green and blue, got {numbers}")
        if 0 in self.scale:
            raise InputError("a pixel scale of 0 would make all pictures the same")

    @property
    def name(self) -> str:
        """How it is called on the command line, or its numbers."""
        for name, normalization in NORMALIZATIONS.items():
            if normalization.scale == self.scale and normalization.offset == self.offset:
                return name + (" BGR" if self.bgr and not normalization.bgr else "")
        numbers = [", ".join(f"{number:g}" for number in numbers) for numbers in (self.scale, self.offset)]
        return f"pixel * ({numbers[0]}) + ({numbers[1]})" + (" BGR" if self.bgr else "")

    def check(self, channels: int) -> None:
        """Raise InputError unless a model of this many channels, 1 or 3, can take its pixels that way."""
        if channels == 1 and (self.bgr or len(self.scale) > 1 or len(self.offset) > 1):
            raise InputError(f"{self.name} is for pictures in colour, this model takes gray ones")

    def table(self, channels: int) -> NDArray[np.float64]:
        """Return what each of the 256 pixel values becomes in each channel, `(256, channels)` in the order R, G, B."""
        values = np.arange(256)[:, None] * np.asarray(self.scale) + np.asarray(self.offset)
        return np.broadcast_to(values, (256, channels))


RAW = Normalization()
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet on 0..1, R G B: torchvision's and timm's
NORMALIZATIONS = {
    "0..255": RAW,
    "0..1": Normalization((1 / 255,)),
    "-1..1": Normalization((1 / 127.5,), (-1.0,)),
    "imagenet": Normalization(
        tuple(1 / (255 * deviation) for deviation in _DEVIATION),
        tuple(-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)),
    ),
    # What preprocess_input of keras.applications' VGG and ResNet (not V2) does, as Caffe did.
    "caffe": Normalization((1.0,), (-123.68, -116.779, -103.939), bgr=True),
}


@dataclass(frozen=True)
class InputConvention:
    """What a user stated of how another tool's model wants its pictures; None where nothing was."""

    pixels: Normalization | None = None
    color: InputColor | None = None
    size_hw: tuple[int, int] | None = None

    @property
    def stated(self) -> bool:
        """True when anything was stated."""
        return any(each is not None for each in (self.pixels, self.color, self.size_hw))

    def normalization(self, channels: int, otherwise: Normalization = RAW) -> Normalization:
        """Return the normalization of a model of this many channels; `otherwise` is what it is where no range was stated.

        Raises InputError for a colour that does not fit the channels, or a normalization that does not.
        """
        if self.color is not None and (self.color == "gray") != (channels == 1):
            raise InputError(f"--color {self.color} does not fit a model whose pictures have {channels} channel(s)")
        chosen = otherwise if self.pixels is None else self.pixels
        if self.color is not None:
            chosen = Normalization(chosen.scale, chosen.offset, self.color == "bgr")
        chosen.check(channels)
        return chosen

    @classmethod
    def parse(
        cls,
        *,
        pixel_range: str | None,
        scale: str | None,
        offset: str | None,
        color: str | None,
        size: str | None = None,
    ) -> InputConvention:
        """Read --pixel-range, --pixel-scale, --pixel-offset, --color and --size; InputError when they contradict."""
        if pixel_range is not None and (scale is not None or offset is not None):
            raise InputError("--pixel-range already says what --pixel-scale and --pixel-offset would; give one or the other")
        if pixel_range is not None and pixel_range not in NORMALIZATIONS:
            raise InputError(f"unknown --pixel-range {pixel_range!r}; known: {', '.join(NORMALIZATIONS)}")
        if color is not None and color not in get_args(InputColor):
            raise InputError(f"unknown --color {color!r}; known: {', '.join(get_args(InputColor))}")
        pixels = NORMALIZATIONS.get(pixel_range or "")
        if scale is not None or offset is not None:
            pixels = Normalization(_numbers("--pixel-scale", scale or "1"), _numbers("--pixel-offset", offset or "0"))
        return cls(pixels, color, None if size is None else _size(size))  # type: ignore[arg-type]  # checked above


UNSTATED = InputConvention()


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text}: expected a number, or three such as 0.017,0.0175,0.0174") from error


def _size(text: str) -> tuple[int, int]:
    """Read `HEIGHTxWIDTH`, or one number for a square."""
    try:
        sides = [int(side) for side in text.lower().split("x")]
        height, width = sides if len(sides) > 1 else sides * 2
    except ValueError as error:
        raise InputError(f"--size {text}: expected HEIGHTxWIDTH, such as 224x224") from error
    if not (0 < height <= 4096 and 0 < width <= 4096):
        raise InputError(f"--size {text}: expected 1 to 4096 pixels per side")
    return height, width
