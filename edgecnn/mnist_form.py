"""From the ink of one handwritten digit to the form that MNIST has.

One function, `ink_form`, makes the form for the camera, for parity and for the training pictures that `simulation`
draws. Only OpenCV operations with the same bits on x86 and ARM stand here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 28
BOX = 20
# Measured on the MNIST training pictures (first 3,000): the strokes' median width in pixels (5 % to 95 %: 1.8 to 4.4), and
# the mean of the centres of mass, which is pixel (14, 14) and not the middle between the four central ones.
STROKE_WIDTH = 2.8
CENTRE = 14.0
# The form is drawn this much larger, so that a stroke can be made wider or narrower by parts of a pixel.
_ZOOM = 4
EDGE = 128
_MAX_SHEAR = 0.5
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True)
class Form:
    """Which optional steps bring ink to the MNIST form: even stroke weight, and upright by a shear."""

    stroke_weight: bool = True
    deskew: bool = True


def mnist_form(image_gray: NDArray[np.uint8], form: Form = Form()) -> NDArray[np.uint8]:  # frozen
    """Map a gray picture `(h, w)` uint8 of one digit, dark on light or light on dark, to `(28, 28)`: light on black.

    Ink and paper are separated by Otsu's threshold, and the border tells which of the two is paper. A picture of one
    gray gives an empty (all black) form.
    """
    return ink_form(_ink(image_gray), form)


def ink_form(ink: NDArray[np.uint8], form: Form = Form()) -> NDArray[np.uint8]:  # frozen
    """Map ink `(h, w)` uint8 (0 paper, 255 ink, 128 the stroke's edge) of one digit to its MNIST form `(28, 28)` uint8.

    As the MNIST authors did (LeCun et al., 1998): the ink's box is scaled into 20 x 20 keeping its aspect, and its centre
    of mass is put at the centre of 28 x 28. Before that the digit is sheared upright by its second moments and its
    strokes are brought to the width that MNIST's have, so that pen and marker look alike. No ink gives an empty form.
    """
    mask = _cut(ink)
    if not mask.any():
        return np.zeros((SIDE, SIDE), np.uint8)
    upright = np.array([[1.0, -_shear(mask) if form.deskew else 0.0], [0.0, 1.0]])
    corner, size = _sheared_box(mask, upright)
    wanted = BOX * _ZOOM
    scale = wanted / max(size)
    strokes = _cut(_drawn(ink, upright * scale, corner))
    target, width = STROKE_WIDTH * _ZOOM, stroke_width(strokes)
    if form.stroke_weight and width < wanted / 3:  # a blot stays one
        # The pen's width does not grow with the line it draws: what is scaled into the box is the line's extent.
        line = wanted - width
        scale *= (wanted - target) / line
        strokes = _cut(_drawn(ink, upright * scale, corner))
        strokes = _reweighted(strokes, target - width * (wanted - target) / line)
    return _shrunk(strokes)


def stroke_width(mask: NDArray[np.uint8]) -> float:
    """Return the mean width in pixels of the strokes of a mask `(h, w)` uint8 (0 or 255): 2 x area / length of its edge."""
    area = cv2.countNonZero(mask)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    edge = area - cv2.countNonZero(cv2.erode(padded, _CROSS))
    return 2.0 * area / edge if edge else 0.0


def _cut(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.threshold(ink, EDGE - 1, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _shear(mask: NDArray[np.uint8]) -> float:
    """Return the slant of a mask as columns per row, from its second central moments."""
    moments = cv2.moments(mask, binaryImage=True)
    if moments["mu02"] < 1e-6:
        return 0.0
    slant = moments["mu11"] / moments["mu02"]
    return max(-_MAX_SHEAR, min(_MAX_SHEAR, slant))


def _sheared_box(mask: NDArray[np.uint8], linear: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return the mean corner `(x, y)` and the size `(w, h)` of the mask's box after the map `linear` (2, 2)."""
    rows, columns = np.nonzero(mask)
    xs = linear[0, 0] * columns + linear[0, 1] * rows
    left, right, top, bottom = float(xs.min()), float(xs.max()), float(rows.min()), float(rows.max())
    return np.array([(left + right) / 2, (top + bottom) / 2]), (right - left + 1, bottom - top + 1)


def _drawn(ink: NDArray[np.uint8], linear: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Draw the ink through the map `linear`, its sheared box's `centre` in the middle of a zoomed form."""
    scale = float(linear[1, 1])
    # Shrinking needs a blur of the source against aliasing, enlarging one against the stairs of its pixels.
    sigma = 0.5 * math.sqrt(1 / scale**2 - 1) if scale < 1 else 0.4
    margin = math.ceil(3 * sigma) + 1
    padded = cv2.copyMakeBorder(ink, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    blurred = cv2.GaussianBlur(padded, (0, 0), sigma) if sigma > 0.2 else padded
    middle = (SIDE * _ZOOM - 1) / 2
    shift = middle - scale * centre - linear @ np.array([margin, margin])
    matrix = np.column_stack([linear, shift])
    canvas = (SIDE * _ZOOM, SIDE * _ZOOM)
    return np.asarray(cv2.warpAffine(np.asarray(blurred, np.uint8), matrix, canvas, flags=cv2.INTER_LINEAR), np.uint8)


def _reweighted(strokes: NDArray[np.uint8], change: float) -> NDArray[np.uint8]:
    """Make strokes wider (or narrower) by `change` pixels, as far as whole pixels on either side allow."""
    radius = round(abs(change) / 2)
    if radius == 0:
        return strokes
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    if change > 0:
        return np.asarray(cv2.dilate(strokes, kernel), np.uint8)
    # What is thinner than the rest would vanish: keep a thin line where erosion leaves nothing.
    eroded = cv2.erode(strokes, kernel)
    kept = cv2.subtract(cv2.erode(strokes, _CROSS), cv2.dilate(eroded, kernel))
    return np.asarray(cv2.max(eroded, kept), np.uint8)


def _shrunk(strokes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a zoomed form to 28 x 28 with its centre of mass at MNIST's."""
    blurred = np.asarray(cv2.GaussianBlur(strokes, (0, 0), 0.5 * math.sqrt(_ZOOM**2 - 1)), np.uint8)
    moments = cv2.moments(blurred)
    if moments["m00"] == 0:
        return np.zeros((SIDE, SIDE), np.uint8)
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    matrix = np.array([[1 / _ZOOM, 0, CENTRE - x / _ZOOM], [0, 1 / _ZOOM, CENTRE - y / _ZOOM]])
    small = np.asarray(cv2.warpAffine(blurred, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR), np.uint8)
    peak = int(small.max())
    return small if peak == 0 else np.asarray(cv2.convertScaleAbs(small, alpha=255.0 / peak), np.uint8)


def _ink(image_gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map a gray picture to ink: 0 paper, 255 the ink's own gray, 128 where Otsu's threshold cuts."""
    border = np.concatenate([image_gray[0], image_gray[-1], image_gray[:, 0], image_gray[:, -1]])
    cut, _ = cv2.threshold(image_gray, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    light = image_gray > cut
    if light.all() or not light.any():
        return np.zeros_like(image_gray)
    low, high = float(np.median(image_gray[~light])), float(np.median(image_gray[light]))
    dark_ink = float(np.median(border)) > cut
    paper, ink = (high, low) if dark_ink else (low, high)
    table = np.clip((np.arange(256) - paper) * (255.0 / (ink - paper)), 0, 255)
    return np.asarray(cv2.LUT(image_gray, np.round(table).astype(np.uint8)), np.uint8)
