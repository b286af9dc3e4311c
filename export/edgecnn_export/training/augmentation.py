"""What a camera does to a picture, drawn again for each training picture: geometry, optics, light, sensor, JPEG.

NumPy and OpenCV only, so that it is the same on every Keras backend and never part of a saved model. The order is the
physical one: the object moves, the lens blurs, the light and its unevenness scale, the sensor adds noise and clips, the
encoder packs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.tasks import Task


@dataclass(frozen=True)
class Augmentation:
    """How far training pictures stray from the original; each value is the far end of what is drawn, and 0 is off.

    Lengths are shares of the picture's shorter side, so that one setting fits every size.
    """

    rotation_deg: float = 0.0
    scale_octaves: float = 0.0  # zoom 2^u
    slant: float = 0.0  # horizontal shear, pixels per row
    shift: float = 0.0
    bend: float = 0.0  # smooth displacement that differs from place to place
    flips: bool = False  # mirrored about either axis, or both
    turns: float = 0.0  # share of square pictures that are turned by a quarter besides, either way
    stroke: float = 0.0  # 1: as much as a 3 x 3 dilation or erosion
    defocus: float = 0.0  # sigma of a Gaussian
    motion: float = 0.0  # length of the smear
    exposure_stops: float = 0.0  # gain 2^u
    contrast_stops: float = 0.0  # contrast about the picture's mean, factor 2^u
    erasing: float = 0.0  # sides of a rectangle that hides what is there (Zhong et al., arXiv:1708.04896)
    gradient: float = 0.0  # relative change of the light from the centre to the border
    banding: float = 0.0  # relative swing of the light from row to row, or from column to column
    glare: float = 0.0  # size of a lamp's reflection, the sigmas of a spot that saturates
    read_noise: float = 0.0  # standard deviation in gray levels
    shot_noise: float = 0.0  # standard deviation in gray levels at level 255; it falls with the square root of the level
    jpeg: float = 0.0  # 0: none; 1: down to quality 5
    share: float = 0.5  # of the pictures that each effect touches: low, so that most show one or two at a time
    light_share: float = 0.5  # the same for exposure and contrast, which vary most from camera to camera
    black_border: bool = False  # what lies beyond the border: black (digits), else the mirrored picture

    def scaled(self, severity: float) -> Augmentation:
        """Return the same effects at `severity` times their strength: 0 leaves every picture as it is."""
        if severity < 0:
            raise InputError(f"severity must not be negative, got {severity}")
        strengths = {name: getattr(self, name) * severity for name in _STRENGTHS}
        return replace(self, **strengths, flips=self.flips and severity > 0)

    @property
    def geometry(self) -> Augmentation:
        """The part that moves what is seen from place to place."""
        off: dict[str, Any] = {name: 0.0 for name in _STRENGTHS if name not in _GEOMETRY}
        return replace(self, **off)

    @property
    def appearance(self) -> Augmentation:
        """The part that changes how it looks where it is. A picture that goes through both has gone through all."""
        off: dict[str, Any] = dict.fromkeys(_GEOMETRY, 0.0)
        return replace(self, **off, flips=False)


_CACHED_PIXELS = 2**16  # as many float32 pixels as fit a core's cache: three times as fast as a whole batch
_GLARE = (128, 640)  # gray levels in the middle of a reflection
_STRENGTHS = (
    "turns", "rotation_deg", "scale_octaves", "slant", "shift", "bend", "stroke", "defocus", "motion", "erasing",
    "exposure_stops", "contrast_stops", "gradient", "banding", "glare", "read_noise", "shot_noise", "jpeg",
)  # fmt: skip
_GEOMETRY = ("turns", "rotation_deg", "scale_octaves", "slant", "shift", "bend")
_WARPS = ("rotation_deg", "scale_octaves", "slant", "shift")

# Surfaces under an industrial camera: strong, since blur and noise are what broke a net trained without them.
SURFACE = Augmentation(
    rotation_deg=8, scale_octaves=0.45, shift=0.06, defocus=0.012, motion=0.08, erasing=0.25, exposure_stops=0.9,
    contrast_stops=1.0, gradient=0.5, banding=0.35, read_noise=25, shot_noise=12, jpeg=0.9, share=0.25, light_share=0.5,
)  # fmt: skip
# What a network that was pretrained on photographs takes for another surface; trained from random weights it does not.
LITE_GLARE = 0.12
# Where a surface may be mirrored, it is turned by a quarter as often as not: direction is a hint (crazing and rolled-in scale
# differ in little else under noise), but no law (NEU has inclusions across the strip, and cameras stand as they can).
_TURNED = 0.5
# Digits that were already found and centred: mild, a 4 must not become a 9.
DIGIT = Augmentation(
    rotation_deg=12, scale_octaves=0.2, slant=0.2, shift=0.08, bend=0.05, stroke=0.7, defocus=0.04, motion=0.08,
    exposure_stops=0.7, contrast_stops=0.7, gradient=0.4, read_noise=20, shot_noise=12, jpeg=0.8, share=0.25, light_share=0.25,
    black_border=True,
)  # fmt: skip


def default_augmentation(task: Task) -> Augmentation:
    """Return the setting for a task: digits have a black border and keep their orientation, surfaces flip if the task says."""
    if task.preprocessing.fit == "digit":
        return DIGIT
    return replace(SURFACE, flips=True, turns=_TURNED) if task.flips else SURFACE


def augment(images: NDArray[np.uint8], augmentation: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return the pictures `(n, h, w, c)` uint8 as a camera might have seen them; the same generator state, the same result."""
    if augmentation.scaled(0) == augmentation or len(images) == 0:
        return images.copy()
    seen = np.stack([_move(image, augmentation, random) for image in images])
    at_once = max(1, _CACHED_PIXELS // images[0].size)
    for start in range(0, len(seen), at_once):
        seen[start : start + at_once] = _expose(seen[start : start + at_once], augmentation, random)
    if augmentation.jpeg > 0:
        for i in np.flatnonzero(random.random(len(seen)) < augmentation.share):
            seen[i] = _jpeg(seen[i], augmentation.jpeg, random)
    return seen


def _move(image: NDArray[np.uint8], strengths: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    """Flip, warp, thicken or thin, and blur one picture `(h, w, c)`."""
    shape = image.shape
    image = _mirror(image, strengths, random)
    # Half of the pictures keep their pixel grid, since resampling itself blurs.
    if any(getattr(strengths, name) for name in _WARPS) and random.random() < max(strengths.share, 0.5):
        image = _warp(image, strengths, random)
    if strengths.bend > 0 and random.random() < strengths.share:
        image = _bend(image, strengths, random)
    if strengths.stroke > 0 and random.random() < strengths.share:
        image = _stroke(image, strengths.stroke, random)
    if strengths.defocus > 0 and random.random() < strengths.share:
        sigma = random.uniform(0, strengths.defocus) * min(shape[:2])
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), max(sigma, 1e-3)), np.uint8)
    if strengths.motion > 0 and random.random() < strengths.share / 2:
        length = random.uniform(0, strengths.motion) * min(shape[:2])
        image = np.asarray(cv2.filter2D(image, -1, _smear(length, random.uniform(0, math.pi))), np.uint8)
    image = image.reshape(shape)
    if strengths.erasing > 0 and random.random() < strengths.share:
        image = _erase(image, strengths.erasing, random)
    return image


def _mirror(image: NDArray[np.uint8], strengths: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    """Flip and turn one picture `(h, w, c)` as far as the augmentation allows, which loses nothing."""
    if strengths.flips:
        image = _flip(image, random)
    if strengths.turns > 0 and image.shape[0] == image.shape[1] and random.random() < strengths.turns:
        image = np.ascontiguousarray(np.rot90(image))
    return image


def _flip(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    for axis in (0, 1):
        if random.integers(2):
            image = np.flip(image, axis)
    return np.ascontiguousarray(image)


def _warp(image: NDArray[np.uint8], strengths: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    angle = math.radians(_signed(strengths.rotation_deg, random))
    zoom = 2.0 ** _signed(strengths.scale_octaves, random)
    slant = _signed(strengths.slant, random)
    reach = strengths.shift * min(height, width)
    cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, slant], [0, 1]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre - linear @ centre + np.array([_signed(reach, random), _signed(reach, random)])
    border = cv2.BORDER_CONSTANT if strengths.black_border else cv2.BORDER_REFLECT_101
    matrix = np.column_stack([linear, offset])
    warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border, borderValue=0)
    return np.asarray(warped, np.uint8).reshape(image.shape)


def _bend(image: NDArray[np.uint8], strengths: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    """Distort a picture like rubber (Simard, Steinkraus and Platt, 2003), by displacements at 4 x 4 places."""
    height, width = image.shape[:2]
    reach = random.uniform(0, strengths.bend) * min(height, width)
    field = random.uniform(-reach, reach, (4, 4, 2)).astype(np.float32)
    field = np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    border = cv2.BORDER_CONSTANT if strengths.black_border else cv2.BORDER_REFLECT_101
    bent = cv2.remap(image, columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR, borderMode=border, borderValue=0)
    return np.asarray(bent, np.uint8).reshape(image.shape)


def _stroke(image: NDArray[np.uint8], strength: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Blend a picture with its dilation (thicker light strokes) or its erosion (thinner)."""
    change = _signed(min(strength, 1.0), random)
    kernel = np.ones((3, 3), np.uint8)
    other = cv2.dilate(image, kernel) if change > 0 else cv2.erode(image, kernel)
    return np.asarray(cv2.addWeighted(image, 1 - abs(change), other.reshape(image.shape), abs(change), 0), np.uint8)


def _smear(length: float, angle: float) -> NDArray[np.float32]:
    """Return the normalised kernel of a straight motion of `length` pixels at `angle` radians."""
    side = 2 * math.ceil(length / 2) + 1
    centre = side // 2
    kernel = np.zeros((side, side), np.float32)
    for step in np.linspace(-length / 2, length / 2, 4 * side):
        kernel[round(centre + step * math.sin(angle)), round(centre + step * math.cos(angle))] += 1
    return np.asarray(kernel / kernel.sum(), np.float32)


def _erase(image: NDArray[np.uint8], reach: float, random: np.random.Generator) -> NDArray[np.uint8]:
    """Hide a rectangle of up to `reach` of the shorter side under one gray level."""
    shorter = min(image.shape[:2])
    height, width = (round(side) for side in random.uniform(0, min(reach, 1.0), 2) * shorter)
    top, left = random.integers(image.shape[0] - height + 1), random.integers(image.shape[1] - width + 1)
    hidden = image.copy()
    hidden[top : top + height, left : left + width] = random.integers(256)
    return hidden


def _expose(images: NDArray[np.uint8], strengths: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    """Apply contrast, light and sensor noise to pictures `(n, h, w, c)` at once, and clip to 0..255."""
    count, height, width = images.shape[:3]
    gain = 2.0 ** _some(strengths.exposure_stops, count, strengths.light_share, random)
    contrast = 2.0 ** _some(strengths.contrast_stops, count, strengths.light_share, random)
    mean = images.mean(axis=(1, 2, 3), keepdims=True, dtype=np.float32)
    # (mean + (level - mean) * contrast) * gain, in two passes over the pixels
    levels = np.asarray(images * (contrast * gain), np.float32)
    levels += mean * (1 - contrast) * gain
    if strengths.gradient > 0:
        levels *= _light(count, height, width, strengths, random)
    if strengths.banding > 0:
        for i in np.flatnonzero(random.random(count) < strengths.share):
            levels[i] *= _bands(height, width, strengths.banding, random)
    if strengths.glare > 0:
        for i in np.flatnonzero(random.random(count) < strengths.share):
            levels[i] += _reflection(height, width, strengths.glare, random)
    read = _some(strengths.read_noise, count, strengths.share, random)
    shot = _some(strengths.shot_noise, count, strengths.share, random)
    for i in np.flatnonzero((read != 0) | (shot != 0)):
        # Read noise does not know the light, the variance of shot noise grows with it: their variances add.
        deviation = np.maximum(levels[i], 0)
        deviation *= shot[i] ** 2 / 255
        deviation += read[i] ** 2
        np.sqrt(deviation, out=deviation)
        deviation *= random.standard_normal(deviation.shape, np.float32)
        levels[i] += deviation
    np.rint(levels, out=levels)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)


def _light(count: int, height: int, width: int, strengths: Augmentation, random: np.random.Generator) -> NDArray[np.float32]:
    """Return planes of light `(n, h, w, 1)` with mean 1, rising in a random direction."""
    slope = _some(strengths.gradient, count, strengths.share, random)
    angle = random.uniform(0, 2 * math.pi, (count, 1, 1, 1)).astype(np.float32)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[None, :, None, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)[None, None, :, None]
    return np.asarray(1 + slope * (np.sin(angle) * rows + np.cos(angle) * columns), np.float32)


def _bands(height: int, width: int, depth: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Return light `(h, 1, 1)` or `(1, w, 1)` about 1 that swings by up to `depth` between a few to many knots."""
    across = bool(random.integers(2))
    knots = int(random.integers(4, 25))
    swings = random.uniform(-1, 1, knots) * random.uniform(0, depth)
    light = 1 + np.interp(np.linspace(0, knots - 1, width if across else height), np.arange(knots), swings)
    light_32 = np.asarray(light, np.float32)
    return light_32[None, :, None] if across else light_32[:, None, None]


def _reflection(height: int, width: int, size: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Return the light `(h, w, 1)`, in gray levels, of a lamp or a tube that shines back from a random place."""
    sigmas = np.maximum(random.uniform(0, size, 2) * min(height, width), 0.5)
    rows, columns = (
        np.exp(-(((np.arange(side) - random.uniform(0, side)) / sigma) ** 2) / 2)
        for side, sigma in zip((height, width), sigmas, strict=True)
    )
    return np.asarray(random.uniform(*_GLARE) * rows[:, None, None] * columns[None, :, None], np.float32)


def _jpeg(image: NDArray[np.uint8], strength: float, random: np.random.Generator) -> NDArray[np.uint8]:
    quality = max(5, round(100 - 95 * random.uniform(0, min(strength, 1.0))))
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED), np.uint8).reshape(image.shape)


def _signed(reach: float, random: np.random.Generator) -> float:
    return float(random.uniform(-reach, reach))


def _some(reach: float, count: int, share: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Draw `(n, 1, 1, 1)` values within ± `reach`; 0 for all but `share` of them."""
    drawn = random.uniform(-reach, reach, count) * (random.random(count) < share)
    return drawn.astype(np.float32)[:, None, None, None]
