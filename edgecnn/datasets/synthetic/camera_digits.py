"""What a camera makes of a digit: training pictures as the finder will hand them to the model.

A model trained on MNIST alone has seen one scanner and one kind of pen. Here MNIST's digits are written again with
another pen, on paper in uneven light, photographed from small to large, and brought back by the very function that the
camera uses (`edgecnn.mnist_form.ink_form`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.school_digits import draw_handwritten
from edgecnn.mnist_form import BOX, SIDE, Form, mnist_form, stroke_width

Rng = np.random.Generator
_CANVAS = 160
_ZOOM = 4
_MOST_INK = 0.45 * 255
# How far strokes are displaced at most, as a share of the digit's height.
_BENT = 0.06
_ROWS, _COLUMNS = np.mgrid[:_CANVAS, :_CANVAS].astype(np.float32) - np.float32(_CANVAS / 2)
# How often each class is drawn: most those that schools teach differently.
_DRAWN_CHANCES = (1, 4, 1, 1, 4, 2, 1, 4, 1, 4)
# Letters that nobody can tell from a digit without the word they stand in are not outliers.
_LETTERS = "AEFGHKMNPQRTUVWXYadefhkmnprtuwxy#%&$?!*+=<>@~"
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
)


def simulate_camera_digit(image: NDArray[np.uint8], rng: Rng, form: Form = Form()) -> NDArray[np.uint8]:  # noqa: B008
    """Return the digit `image` `(s, s)` uint8, light on black, as the camera would see it: `(28, 28)` uint8.

    Turned up to 12 degrees, slanted, stretched, bent, perhaps with a long tail, with a pen half as wide to 1.6 times as wide
    as MNIST's, 10 to 90 pixels high on the sensor, in uneven light, out of focus, noisy, perhaps JPEG-compressed. `image`
    is a digit of MNIST, or a larger drawing such as `school_digits.draw_handwritten` makes: that knows the crossed 7 and the 1
    with flag and foot, which MNIST's American writers hardly used.
    """
    seen = mnist_form(_photographed(_scratched(_spurred(redraw(image, rng), rng), rng), rng), form)
    # No ink at all, or nothing but noise: the pen was too faint for this paper.
    return seen if 0 < float(seen.mean()) < _MOST_INK else mnist_form(image, form)


def simulate_non_digit(images: NDArray[np.uint8], rng: Rng, form: Form = Form()) -> NDArray[np.uint8]:  # noqa: B008
    """Return the form `(28, 28)` of something that is not a digit: letters, parts and pairs of digits, rules, smudges.

    `images` `(n, s, s)` uint8 are the digits to take parts and pairs from. A model that is trained to give all classes
    the same probability here ("outlier exposure", Hendrycks, Mazeika and Dietterich, 2019) can be asked to reject.
    """
    kinds: tuple[Callable[[NDArray[np.uint8], Rng], NDArray[np.uint8]], ...]
    kinds = (_letter, _letter, _letter, _part, _pair, _pair, _pair, _rules, _scribble, _smudge)
    canvas = kinds[int(rng.integers(len(kinds)))](images, rng)
    return mnist_form(_photographed(canvas, rng), form)


def simulate_training_set(
    images: NDArray[np.uint8], class_ids: NDArray[np.int64], seed: int, *, drawn: float = 0.4, non_digits: float = 0.25
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return what to train a camera's digit model on besides MNIST itself: pictures and target probabilities.

    Each of `images` `(n, 28, 28)` uint8 (of the training split) is seen once by the camera; to these come `drawn` x n digits
    in other handwritings and `non_digits` x n of what is not a digit, whose target is 0.1 for each class. The pictures are
    `(m, 28, 28, 1)` uint8, the targets `(m, 10)` float32, both in shuffled order.
    """
    rng = np.random.default_rng(seed)
    chances = np.array([_DRAWN_CHANCES[class_id] for class_id in range(10)], np.float64)
    extra = rng.choice(10, round(drawn * len(images)), p=chances / chances.sum())
    pictures = [simulate_camera_digit(image, rng) for image in images]
    pictures += [simulate_camera_digit(draw_handwritten(int(class_id), rng), rng) for class_id in extra]
    others = [simulate_non_digit(images, rng) for _ in range(round(non_digits * len(images)))]
    one_hot = np.eye(10, dtype=np.float32)
    uniform = np.full((len(others), 10), 0.1, np.float32)
    targets = np.concatenate([one_hot[class_ids], one_hot[extra], uniform])
    order = rng.permutation(len(targets))
    return np.stack([*pictures, *others])[order, ..., None], targets[order]


def redraw(image: NDArray[np.uint8], rng: Rng, *, pen: float | None = None) -> NDArray[np.uint8]:
    """Draw a digit `(s, s)` uint8 four times larger than MNIST's `(160, 160)`: a little turned, slanted, stretched and bent.

    `pen` is the width of its strokes in pixels of MNIST's scale; by default one is drawn between 1.2 and 4.5.
    """
    angle, slant = math.radians(rng.uniform(-12, 12)), rng.uniform(-0.15, 0.15)
    kind = rng.random()
    stretch = math.exp(rng.uniform(-0.15, 0.25) if kind < 0.8 else rng.uniform(0.25, 0.55) if kind < 0.9 else 0.0)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    size = image.shape[0]
    linear = _ZOOM * SIDE / size * turn @ np.array([[1 / stretch, slant], [0.0, stretch]])
    columns, rows = _bent(rng) if kind < 0.9 else _lengthened(rng)
    back, middle = np.linalg.inv(linear).astype(np.float32), np.float32(size / 2)
    map_x = back[0, 0] * columns + back[0, 1] * rows + middle
    map_y = back[1, 0] * columns + back[1, 1] * rows + middle
    drawn = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR)
    large = cv2.GaussianBlur(drawn, (0, 0), 1.5)
    return _with_other_pen(np.where(large > 100, 255, 0).astype(np.uint8), rng.uniform(1.2, 4.5) if pen is None else pen)


def _bent(rng: Rng) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where each pixel of the canvas comes from, as columns and rows about its middle: smoothly displaced.

    Elastic distortion as in Simard, Steinkraus and Platt (2003): no two hands write alike.
    """
    reach = rng.uniform(0, _BENT) * _ZOOM * BOX
    field = rng.uniform(-reach, reach, (5, 5, 2)).astype(np.float32)
    field = np.asarray(cv2.resize(field, (_CANVAS, _CANVAS), interpolation=cv2.INTER_CUBIC), np.float32)
    return _COLUMNS + field[..., 0], _ROWS + field[..., 1]


def _lengthened(rng: Rng) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where each pixel comes from when the lower (or seldom the upper) half is drawn out: the long tail of a 9 or 7."""
    factor = np.float32(rng.uniform(1.2, 2.4))
    pivot = np.float32(rng.uniform(-0.15, 0.1) * _ZOOM * BOX)
    below = np.float32(_ZOOM * BOX / 2) - pivot
    rows = _ROWS + (factor - 1) * below / 2  # the drawn digit stays in the middle
    rows = np.where(rows > pivot, pivot + (rows - pivot) / factor, rows)
    return (_COLUMNS, rows) if rng.random() < 0.8 else (_COLUMNS, -rows[::-1])


def _scratched(strokes: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Take a rule out of some digits, as the finder does: a thin gap straight across."""
    if rng.random() < 0.85:
        return strokes
    at, width = int(rng.integers(_CANVAS // 4, 3 * _CANVAS // 4)), int(rng.integers(2, 6))
    scratched = strokes.copy()
    if rng.random() < 0.5:
        scratched[at : at + width] = 0
    else:
        scratched[:, at : at + width] = 0
    return scratched


def _spurred(strokes: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Leave a bit of the neighbour's stroke at the side of some digits, as cutting them apart does."""
    if rng.random() < 0.9:
        return strokes
    _, top, _, height = cv2.boundingRect(strokes)
    row = int(rng.integers(top, top + max(height, 1)))
    inked = np.flatnonzero(strokes[row])
    if inked.size == 0:
        return strokes
    side = 1 if rng.random() < 0.5 else -1
    length, slope = height * rng.uniform(0.05, 0.25), rng.uniform(-1.5, 1.5)
    start = (int(inked[-1 if side > 0 else 0]), row)
    end = (round(start[0] + side * length / math.hypot(1, slope)), round(row + length * slope / math.hypot(1, slope)))
    return np.asarray(cv2.line(strokes.copy(), start, end, 255, max(1, round(stroke_width(strokes)))), np.uint8)


def _with_other_pen(strokes: NDArray[np.uint8], pen: float) -> NDArray[np.uint8]:
    """Draw strokes with a pen so many pixels wide at MNIST's scale, however wide they were before."""
    radius = round((_ZOOM * pen - stroke_width(strokes)) / 2)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(radius) + 1, 2 * abs(radius) + 1))
    if radius > 0:
        return np.asarray(cv2.dilate(strokes, kernel), np.uint8)
    thin = np.asarray(cv2.erode(strokes, kernel), np.uint8)
    # A pen must not leave gaps: most of the digit must remain.
    return thin if cv2.countNonZero(thin) > 0.35 * cv2.countNonZero(strokes) else strokes


def _photographed(strokes: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Photograph a drawing `(h, w)`, ink 255: gray `(h', w')`, its ink 10 to 90 pixels high."""
    left, top, width, height = cv2.boundingRect(strokes)
    pixels = math.exp(rng.uniform(math.log(10), math.log(90)))
    scale = pixels / max(height, 1)
    side = math.ceil(1.3 * scale * max(width, height)) + 6
    sigma = 0.5 * math.sqrt(max(1 / scale**2 - 1, 0.04))
    margin = math.ceil(3 * sigma) + 2
    cropped = cv2.copyMakeBorder(
        strokes[top : top + height, left : left + width], margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0
    )
    middle = margin + np.array([(width - 1) / 2, (height - 1) / 2])
    shift = (side - 1) / 2 - scale * middle + rng.uniform(-0.5, 0.5, 2)
    matrix = np.column_stack([np.eye(2) * scale, shift])
    ink = cv2.warpAffine(cv2.GaussianBlur(cropped, (0, 0), sigma), matrix, (side, side)).astype(np.float32) / np.float32(255)
    along = (np.arange(side, dtype=np.float32) / side - 0.5) * rng.uniform(-0.05, 0.05, (2, 1)).astype(np.float32)
    paper = np.float32(rng.uniform(100, 245)) * (1 + along[0][:, None] + along[1])
    uneven = cv2.GaussianBlur(rng.standard_normal((side, side), np.float32), (0, 0), max(1.0, side / 30))
    strength = rng.uniform(0.4, 0.9)
    drawn = strength * np.clip(1 + rng.uniform(0, 2) * uneven, 0.6, 1.2) * ink
    # Out of focus by a share of the digit's height: the lens does not know how large anybody writes.
    gray = cv2.GaussianBlur(paper * (1 - drawn), (0, 0), rng.uniform(0.3, min(max(0.06 * pixels, 0.6), 2.5)))
    # More noise than a twelfth of the contrast, and the finder sees no ink at all.
    noise = rng.uniform(0, min(7.0, strength * float(paper.mean()) / 12))
    noisy = gray + np.float32(noise) * rng.standard_normal((side, side), np.float32)
    return _compressed(np.clip(noisy, 0, 255).astype(np.uint8), rng)


def _compressed(gray: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    if rng.random() < 0.5:
        return gray
    _, data = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _letter(_: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    text = "".join(rng.choice(list(_LETTERS), 1 if rng.random() < 0.7 else 2))
    font, thickness = _FONTS[int(rng.integers(len(_FONTS)))], int(rng.integers(3, 14))
    scale = 3.0 if len(text) == 1 else 1.8
    (width, height), _baseline = cv2.getTextSize(text, font, scale, thickness)
    cv2.putText(canvas, text, ((_CANVAS - width) // 2, (_CANVAS + height) // 2), font, scale, 255, thickness)
    return canvas


def _part(images: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Return the left or right part of a digit, unless that is as narrow as a 1."""
    strokes = redraw(images[int(rng.integers(len(images)))], rng)
    columns = np.flatnonzero(strokes.any(axis=0))
    cut = int(columns[0] + rng.uniform(0.35, 0.65) * np.ptp(columns))
    part = strokes.copy()
    part[:, slice(None, cut) if rng.random() < 0.5 else slice(cut, None)] = 0
    width, height = (np.ptp(np.flatnonzero(part.any(axis=axis))) for axis in (0, 1))
    return part if width > 0.35 * height else _pair(images, rng)


def _pair(images: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Return two touching digits, or one with a slice of its neighbour."""
    left, right = (redraw(images[int(i)], rng) for i in rng.integers(len(images), size=2))
    columns = np.flatnonzero(left.any(axis=0))
    first = np.flatnonzero(right.any(axis=0))
    shift = int(columns[-1] - first[0]) - int(rng.integers(0, 8))
    canvas = np.zeros((2 * _CANVAS, 2 * _CANVAS), np.uint8)
    half = _CANVAS // 2
    canvas[half : half + _CANVAS, :_CANVAS] = left
    target = canvas[half : half + _CANVAS, shift : shift + _CANVAS]
    np.maximum(target, right[:, : target.shape[1]], out=target)
    if rng.random() < 0.5:
        start = int(columns[0] + rng.uniform(0.35, 0.7) * np.ptp(columns))
        canvas[:, :start] = 0
    return canvas


def _rules(_: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Return crossing rules: corners, tees, crosses and frames of a grid."""
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    low, high = 35, _CANVAS - 35
    for _line in range(int(rng.integers(2, 5))):
        at, thickness = int(rng.choice([low, (low + high) // 2, high])), int(rng.integers(2, 10))
        ends = ((low, at), (high, at)) if rng.random() < 0.5 else ((at, low), (at, high))
        cv2.line(canvas, *ends, 255, thickness)
    if np.ptp(np.flatnonzero(canvas.any(axis=0))) < 20:
        cv2.line(canvas, (low, high), (high, high), 255, 5)
    return canvas


def _scribble(_: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
    points = rng.uniform(30, _CANVAS - 30, (int(rng.integers(5, 12)), 2)).astype(np.int32)
    cv2.polylines(canvas, [points], bool(rng.random() < 0.3), 255, int(rng.integers(3, 14)))
    return canvas


def _smudge(_: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    field = cv2.GaussianBlur(rng.normal(0, 1, (_CANVAS, _CANVAS)), (0, 0), rng.uniform(5, 18))
    rows, columns = np.mgrid[:_CANVAS, :_CANVAS] - _CANVAS / 2
    reach = np.exp(-(rows**2 + columns**2) / (2 * rng.uniform(18, 32) ** 2))
    blot = reach + rng.uniform(0.1, 0.5) * field / max(float(np.abs(field).max()), 1e-9)
    return np.where(blot > 0.5, 255, 0).astype(np.uint8)
