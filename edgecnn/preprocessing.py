"""The one way from a picture to a model's input, shared by training, calibration, parity and the camera.

Only OpenCV operations that give the same bits on x86 and ARM stand here (GaussianBlur, INTER_LINEAR_EXACT, warpAffine,
thresholds, gray conversion), so that the board sees exactly the pixels that the workstation saw.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError, ShapeError
from edgecnn.quick_dataclass import dataclass

Color = Literal["gray", "rgb"]
Fit = Literal["squash", "crop", "pad", "digit"]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture of any size becomes the `(height, width, channels)` uint8 input of a model.

    `color` is the channel order of the model. `fit` says what happens to another aspect ratio: `squash` stretches,
    `crop` takes the largest centred part, `pad` adds black bars, `digit` finds one handwritten digit and centres it the
    way MNIST does. A picture that already has the model's size passes unchanged.
    """

    height: int
    width: int
    color: Color = "gray"
    fit: Fit = "squash"

    def __post_init__(self) -> None:
        if not (0 < self.height <= 4096 and 0 < self.width <= 4096):
            raise InputError(f"input size must be 1..4096 pixels per side, got {self.height} x {self.width}")
        if self.color not in get_args(Color):
            raise InputError(f"unknown color {self.color!r}; known: {', '.join(get_args(Color))}")
        if self.fit not in get_args(Fit):
            raise InputError(f"unknown fit {self.fit!r}; known: {', '.join(get_args(Fit))}")
        if self.fit == "digit" and (self.height, self.width, self.color) != (28, 28, "gray"):
            raise InputError(f"fit 'digit' makes (28, 28, 1), not {self.shape}")

    @property
    def channels(self) -> int:
        """1 for gray, 3 for rgb."""
        return 1 if self.color == "gray" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """The model's input shape `(height, width, channels)`."""
        return self.height, self.width, self.channels

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Map a picture, gray `(h, w)` or `(h, w, 1)` or BGR `(h, w, 3)` uint8, to `(height, width, channels)` uint8."""
        image = _convert_color(_checked(image), self.color)
        if image.shape[:2] != (self.height, self.width):
            image = self._fitted(image)
        return np.ascontiguousarray(image.reshape(self.shape))

    def strangeness(self, image: NDArray[np.uint8]) -> float:
        """Return how unlike what this way takes a picture is, of any size: above 1 where a digit is asked for and none shown.

        0 for other ways, which keep all of a picture, so that the model itself can tell; and for what has the input's size.
        """
        if self.fit != "digit" or image.shape[:2] == (self.height, self.width):
            return 0.0
        from edgecnn.mnist_form import strangeness  # for digits alone

        return strangeness(_convert_color(_checked(image), self.color))

    def source_box(self, size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return which part (x, y, width, height) of a picture of `size_wh` the model's input shows; padding lies outside."""
        width, height = size_wh
        across, down = width / self.width, height / self.height
        if self.fit not in ("crop", "pad"):
            return 0.0, 0.0, float(width), float(height)
        scale = min(across, down) if self.fit == "crop" else max(across, down)
        seen_w, seen_h = scale * self.width, scale * self.height
        return (width - seen_w) / 2, (height - seen_h) / 2, seen_w, seen_h

    def _fitted(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size_hw = (self.height, self.width)
        match self.fit:
            case "squash":
                return resize(image, size_hw)
            case "crop":
                return resize(_centre_crop(image, size_hw), size_hw)
            case "pad":
                return _padded(image, size_hw)
            case "digit":
                from edgecnn.mnist_form import mnist_form

                return mnist_form(image)


def as_bgr(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a model's input, gray `(h, w, 1)` or RGB `(h, w, 3)`, as OpenCV has pictures: BGR, gray stays as it is."""
    return np.ascontiguousarray(image[..., ::-1]) if image.shape[-1] == 3 else image


def resize(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize `(h, w)` or `(h, w, 3)` uint8 to `size_hw`, the same bits on every processor.

    Shrinking blurs first (sigma = 0.5 * sqrt(factor^2 - 1), the width at which a Gaussian of the source grid equals one of
    the target grid), since INTER_LINEAR_EXACT alone skips pixels and aliases. A picture many times too large is halved
    before that, which averages 2 x 2 pixels and costs a fraction of the wide blur.
    """
    image = _halved(image, size_hw)
    factor_y, factor_x = image.shape[0] / size_hw[0], image.shape[1] / size_hw[1]
    sigma_y, sigma_x = (0.5 * math.sqrt(max(f * f - 1.0, 0.0)) for f in (factor_y, factor_x))
    if sigma_x > 0 or sigma_y > 0:
        # OpenCV takes sigmaY = 0 for "same as sigmaX": a tiny kernel of one pixel is how to say "not along this axis".
        kernel_xy = (_kernel_width(sigma_x), _kernel_width(sigma_y))
        image = np.asarray(cv2.GaussianBlur(image, kernel_xy, max(sigma_x, 1e-3), sigmaY=max(sigma_y, 1e-3)), np.uint8)
    return _interpolated(image, size_hw)


def _halved(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Halve each side for as long as it stays at least twice the wanted one."""
    while image.shape[0] >= 4 * size_hw[0] or image.shape[1] >= 4 * size_hw[1]:
        halved_hw = [side // 2 if side >= 4 * wanted else side for side, wanted in zip(image.shape[:2], size_hw, strict=True)]
        image = _interpolated(image, (halved_hw[0], halved_hw[1]))
    return image


def _interpolated(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


def _kernel_width(sigma: float) -> int:
    return 2 * math.ceil(3 * sigma) + 1 if sigma > 0 else 1


def _checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    is_picture = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    if image.dtype != np.uint8 or not is_picture or image.size == 0:
        raise ShapeError(f"expected a picture (h, w), (h, w, 1) or (h, w, 3) uint8, got {image.shape} {image.dtype}")
    return image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image


def _convert_color(image: NDArray[np.uint8], color: Color) -> NDArray[np.uint8]:
    if color == "gray":
        return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    code = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def _centre_crop(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = min(height / size_hw[0], width / size_hw[1])
    crop_h, crop_w = max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))
    top, left = (height - crop_h) // 2, (width - crop_w) // 2
    return np.ascontiguousarray(image[top : top + crop_h, left : left + crop_w])


def _padded(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = min(size_hw[0] / height, size_hw[1] / width)
    inner_hw = max(1, round(height * scale)), max(1, round(width * scale))
    padded = np.zeros((*size_hw, *image.shape[2:]), np.uint8)
    top, left = (size_hw[0] - inner_hw[0]) // 2, (size_hw[1] - inner_hw[1]) // 2
    padded[top : top + inner_hw[0], left : left + inner_hw[1]] = resize(image, inner_hw)
    return padded
