"""From the ink of handwritten digits to the form that MNIST has.

One function, `ink_forms`, makes the forms for the camera, for parity and for the training pictures that `simulation` draws:
of all digits of a frame at once, since a board spends more on calling than on computing. Only operations with the same bits
on x86 and ARM stand here: those of OpenCV that are, and sums of whole numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
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
# Of 2,000 MNIST pictures none is below, of as many as the training photographs them 3 %, of photographed digits cut out with a
# tenth of paper around them none.
_LEAST_ETA = 0.7
_CROSSING = 2.0  # the strangeness of a stroke from border to border
_MAX_SHEAR = 0.5
_CROSS, _LEVEL = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8), np.ones((1, 3), np.uint8)
# Blank pixels all round each ink of a strip: as far as the blur of what is enlarged reaches, and one more.
GAP = 3
_BLUR = 0.4
# Slots stand side by side with so much paper around each that no blur reaches from one into the next.
_SLOT, _APART = SIDE * _ZOOM, 4
_PITCH = _SLOT + 2 * _APART
_AT_ONCE = 64  # slots that stay in a small processor's cache


@dataclass(frozen=True)
class Form:
    """Which optional steps bring ink to the MNIST form: even stroke weight, and upright by a shear."""

    stroke_weight: bool = True
    deskew: bool = True


@dataclass(frozen=True, eq=False)
class InkStrip:
    """The ink of several digits, one below the other.

    `pixels` `(h, w)` uint8 is 0 on paper, 255 in ink, 128 at a stroke's edge; digit i has the rows `tops[i]` to `tops[i + 1]`,
    the first and last `GAP` of which, and as many columns at both sides, are paper.
    """

    pixels: NDArray[np.uint8]
    tops: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.tops) - 1

    @classmethod
    def of(cls, inks: Sequence[NDArray[np.uint8]]) -> InkStrip:
        """Put inks `(h, w)` uint8 of any size below each other."""
        tops = np.cumsum([0, *(len(ink) + 2 * GAP for ink in inks)])
        pixels = np.zeros((int(tops[-1]), 2 * GAP + max((ink.shape[1] for ink in inks), default=0)), np.uint8)
        for top, ink in zip(tops, inks, strict=False):
            pixels[top + GAP : top + GAP + len(ink), GAP : GAP + ink.shape[1]] = ink
        return cls(pixels, tops)


def mnist_form(image_gray: NDArray[np.uint8], form: Form = Form()) -> NDArray[np.uint8]:  # frozen
    """Map a gray picture `(h, w)` uint8 of one digit, dark on light or light on dark, to `(28, 28)`: light on black.

    Ink and paper are separated by Otsu's threshold, and the border tells which of the two is paper. A picture of one
    gray gives an empty (all black) form.
    """
    return ink_form(_ink(image_gray), form)


def ink_form(ink: NDArray[np.uint8], form: Form = Form()) -> NDArray[np.uint8]:  # frozen
    """Map ink `(h, w)` uint8 (0 paper, 255 ink, 128 the stroke's edge) of one digit to its MNIST form `(28, 28)` uint8."""
    return np.asarray(ink_forms(InkStrip.of([ink]), form)[0], np.uint8)


def ink_forms(strip: InkStrip, form: Form = Form(), turn_deg: float = 0.0) -> NDArray[np.uint8]:  # frozen
    """Map the inks of a strip to their MNIST forms `(n, 28, 28)` uint8, each turned by `turn_deg` counter-clockwise first.

    As the MNIST authors did (LeCun et al., 1998): an ink's box is scaled into 20 x 20 keeping its aspect, and its centre
    of mass is put at the centre of 28 x 28. Before that the digit is sheared upright by its second moments and its
    strokes are brought to the width that MNIST's have, so that pen and marker look alike. No ink gives an empty form.
    """
    forms = np.zeros((len(strip), SIDE, SIDE), np.uint8)
    plan = _plan(strip, form, turn_deg)
    soft = np.asarray(cv2.GaussianBlur(strip.pixels, (3, 3), _BLUR), np.uint8) if plan.inks.size else strip.pixels
    # As many pixels on either side as come nearest to the change; those of one radius together.
    radii = np.rint(np.abs(plan.change) / 2).astype(np.int64) * np.sign(plan.change).astype(np.int64)
    order = np.argsort(radii, kind="stable")
    for first in range(0, len(order), _AT_ONCE):
        numbers = order[first : first + _AT_ONCE]
        slots = np.zeros((_SLOT, len(numbers) * _PITCH), np.uint8)
        _draw(strip, soft, plan, numbers, slots)
        _reweigh(slots, radii[numbers])
        _shrink(slots, plan.inks[numbers], forms)
    return forms


def stroke_width(mask: NDArray[np.uint8]) -> float:
    """Return the mean width in pixels of the strokes of a mask `(h, w)` uint8 (0 or 255): 2 x area / length of its edge."""
    area = cv2.countNonZero(mask)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    edge = area - cv2.countNonZero(cv2.erode(padded, _CROSS))
    return 2.0 * area / edge if edge else 0.0


@dataclass(frozen=True, eq=False)
class _Plan:
    """How each ink of a strip that is not empty is to be drawn into a slot; `inks` `(m,)` are their numbers.

    `matrices` `(m, 2, 3)` map the pixels of an ink's part of the strip, enlarged by `scale` `(m,)`, to those of its window in
    the slot: `windows` `(m, 4)`, left, top, right, bottom of all that its ink can reach. Then its strokes become wider by
    `change` `(m,)` pixels.
    """

    inks: NDArray[np.int64]
    matrices: NDArray[np.float64]
    scale: NDArray[np.float64]
    windows: NDArray[np.int64]
    change: NDArray[np.float64]


def _plan(strip: InkStrip, form: Form, turn_deg: float) -> _Plan:
    width = strip.pixels.shape[1]
    mask = strip.pixels >= EDGE
    places = np.flatnonzero(mask)
    y, x = np.divmod(places, max(width, 1))
    starts = np.searchsorted(y, strip.tops)
    inks = np.flatnonzero(np.diff(starts))
    if inks.size == 0:
        return _Plan(inks, np.zeros((0, 2, 3)), np.zeros(0), np.zeros((0, 4), np.int64), np.zeros(0))
    first, area = starts[:-1][inks], np.diff(starts)[inks]
    y -= np.repeat(strip.tops[:-1][inks], area)
    linear = _upright(x, y, first, area, form, turn_deg)
    centre, size = _sheared_boxes(x, y, first, area, linear)
    eroded = cv2.erode(mask.view(np.uint8), _CROSS).ravel()[places]
    edge = area - np.add.reduceat(eroded, first, dtype=np.int64)
    scale, change = _scale(2.0 * area / np.maximum(edge, 1), size.max(axis=1), form)
    half = np.minimum(np.ceil(size * scale[:, None] / 2 + np.abs(change)[:, None]) + _ZOOM, _SLOT // 2).astype(np.int64)
    shift = (_SLOT - 1) / 2 - (_SLOT // 2 - half) - centre * scale[:, None]
    matrices = np.concatenate([linear * scale[:, None, None], shift[:, :, None]], axis=2)
    return _Plan(inks, matrices, scale, np.concatenate([_SLOT // 2 - half, _SLOT // 2 + half], axis=1), change)


def _upright(
    x: NDArray[np.int64], y: NDArray[np.int64], first: NDArray[np.int64], area: NDArray[np.int64], form: Form, turn_deg: float
) -> NDArray[np.float64]:
    """Return the maps `(m, 2, 2)` that turn each ink and set it upright, by the second central moments of its pixels."""
    sx, sy, sxx, sxy, syy = (np.add.reduceat(values, first) for values in (x, y, x * x, x * y, y * y))
    # Whole numbers, so exact: `area` times the central moments.
    mu20, mu11, mu02 = ((area * sab - sa * sb) / area for sab, sa, sb in ((sxx, sx, sx), (sxy, sx, sy), (syy, sy, sy)))
    c, s = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    if form.deskew:
        across = (c * c - s * s) * mu11 + s * c * (mu02 - mu20)
        down = s * s * mu20 - 2 * s * c * mu11 + c * c * mu02
        slant = np.clip(np.divide(across, down, out=np.zeros_like(down), where=down > 1e-6), -_MAX_SHEAR, _MAX_SHEAR)
    else:
        slant = np.zeros(len(area))
    rows = (np.column_stack([c + slant * s, s - slant * c]), np.tile([-s, c], (len(area), 1)))
    return np.stack(rows, axis=1)


def _sheared_boxes(
    x: NDArray[np.int64], y: NDArray[np.int64], first: NDArray[np.int64], area: NDArray[np.int64], linear: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return middles `(m, 2)` and sizes `(m, 2)`, x before y, of the inks' boxes after the maps `linear` `(m, 2, 2)`."""
    middle, size = np.empty((len(area), 2)), np.empty((len(area), 2))
    for axis in (0, 1):
        along, down = (np.repeat(linear[:, axis, i], area) for i in (0, 1))
        mapped = along * x + down * y
        low, high = np.minimum.reduceat(mapped, first), np.maximum.reduceat(mapped, first)
        middle[:, axis], size[:, axis] = (low + high) / 2, high - low + 1
    return middle, size


def _scale(
    stroke: NDArray[np.float64], longer_side: NDArray[np.float64], form: Form
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return by how much to enlarge each ink, and by how much its strokes are then too thin, in pixels of a slot."""
    wanted, target = float(BOX * _ZOOM), STROKE_WIDTH * _ZOOM
    scale = wanted / longer_side
    width = stroke * scale
    if not form.stroke_weight:
        return scale, np.zeros(len(scale))
    # The pen's width does not grow with the line it draws: what is scaled into the box is the line's extent.
    thin = width < wanted / 3  # a blot stays one
    by = np.where(thin, (wanted - target) / np.where(thin, wanted - width, 1.0), 1.0)
    return scale * by, np.where(thin, target - width * by, 0.0)


def _draw(strip: InkStrip, soft: NDArray[np.uint8], plan: _Plan, numbers: NDArray[np.int64], slots: NDArray[np.uint8]) -> None:
    """Draw inks into slots side by side `(112, m * 120)`, black and white.

    `soft` is the strip's pixels blurred.
    """
    tops = strip.tops.tolist()
    for slot, number in enumerate(numbers.tolist()):
        ink, matrix = int(plan.inks[number]), plan.matrices[number]
        source = soft[tops[ink] : tops[ink + 1]]
        if plan.scale[number] < 1:
            source, matrix = _blurred(strip.pixels[tops[ink] : tops[ink + 1]], matrix, float(plan.scale[number]))
        left, top, right, bottom = plan.windows[number].tolist()
        corner = slot * _PITCH + _APART
        window = slots[top:bottom, corner + left : corner + right]
        cv2.warpAffine(source, matrix, (right - left, bottom - top), dst=window, flags=cv2.INTER_LINEAR)
    cv2.threshold(slots, EDGE - 1, 255, cv2.THRESH_BINARY, dst=slots)


def _blurred(
    ink: NDArray[np.uint8], matrix: NDArray[np.float64], scale: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Blur an ink that will be shrunk, which would alias; return it with more paper round it, and its map `(2, 3)`.

    What is many times too large is halved before that, which averages 2 x 2 pixels.
    """
    while scale <= 0.5:
        even = cv2.copyMakeBorder(ink, 0, ink.shape[0] % 2, 0, ink.shape[1] % 2, cv2.BORDER_CONSTANT, value=0)
        half_wh = even.shape[1] // 2, even.shape[0] // 2
        ink = np.asarray(cv2.resize(even, half_wh, interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)
        # The middle of halved pixel x was at 2 x + 1/2.
        matrix = np.column_stack([2 * matrix[:, :2], matrix[:, 2] + 0.5 * (matrix[:, 0] + matrix[:, 1])])
        scale *= 2
    # Enlarging only needs a blur against the stairs of the source's pixels.
    sigma = max(_BLUR, 0.5 * math.sqrt(max(1 / scale**2 - 1, 0.0)))
    margin = math.ceil(3 * sigma)
    padded = cv2.copyMakeBorder(ink, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    matrix = np.column_stack([matrix[:, :2], matrix[:, 2] - margin * (matrix[:, 0] + matrix[:, 1])])
    return np.asarray(cv2.GaussianBlur(padded, (0, 0), sigma), np.uint8), matrix


@functools.cache
def _half_widths(radius: int) -> tuple[int, ...]:
    """Return how far OpenCV's disc reaches to either side in each of its rows, from the middle one down."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return tuple(int(np.count_nonzero(row)) // 2 for row in disc[radius:])


def _by_disc(strokes: NDArray[np.uint8], radius: int, *, wider: bool) -> NDArray[np.uint8]:
    """Dilate strokes `(h, w)` uint8 on blank paper (`wider`) or erode them by a disc, as OpenCV would with less speed.

    The disc is its rows: each is three pixels wide so many times over, and all of them are put together.
    """
    step, join = (cv2.dilate, cv2.max) if wider else (cv2.erode, cv2.min)
    rows = [strokes]
    for _ in range(radius):
        rows.append(np.asarray(step(rows[-1], _LEVEL), np.uint8))
    widths = _half_widths(radius)
    result = rows[widths[0]].copy()
    for down, width in enumerate(widths[1:], 1):
        join(result[down:], rows[width][:-down], dst=result[down:])
        join(result[:-down], rows[width][down:], dst=result[:-down])
    return result


def _reweigh(slots: NDArray[np.uint8], radii: NDArray[np.int64]) -> None:
    """Make strokes in slots side by side `(112, m * 120)` wider by `radii` `(m,)` pixels on either side, or narrower, in place.

    Slots of one radius stand together.
    """
    ends = np.append(np.flatnonzero(np.diff(radii)) + 1, len(radii)).tolist()
    for first, end in itertools.pairwise([0, *ends]):
        _reweigh_alike(slots[:, first * _PITCH : end * _PITCH], int(radii[first]))


def _reweigh_alike(strokes: NDArray[np.uint8], radius: int) -> None:
    if radius > 0:
        strokes[:] = _by_disc(strokes, radius, wider=True)
    elif radius < 0:
        # What is thinner than the rest would vanish: keep a thin line where erosion leaves nothing.
        eroded = _by_disc(strokes, -radius, wider=False)
        kept = cv2.subtract(cv2.erode(strokes, _CROSS), _by_disc(eroded, -radius, wider=True))
        strokes[:] = cv2.max(eroded, kept)


# Halving averages 2 x 2 pixels, a variance of 1/4; what is missing to the blur that shrinking by _ZOOM needs, in halved pixels.
_SHRINKING = math.sqrt((0.25 * (_ZOOM**2 - 1) - 0.25) / 4)


def _shrink(slots: NDArray[np.uint8], inks: NDArray[np.int64], forms: NDArray[np.uint8]) -> None:
    """Shrink slots side by side `(112, m * 120)` to the forms of `inks` `(m,)`, each with its centre of mass at MNIST's."""
    half = cv2.resize(slots, (slots.shape[1] // 2, _SLOT // 2), interpolation=cv2.INTER_LINEAR_EXACT)
    soft = np.asarray(cv2.GaussianBlur(half, (0, 0), _SHRINKING), np.uint8)
    by, side = 2 / _ZOOM, _PITCH // 2
    matrix = np.array([[by, 0, 0], [0, by, 0]])
    for slot, ink in enumerate(inks.tolist()):
        drawn, form = soft[:, slot * side : (slot + 1) * side], forms[ink]
        moments = cv2.moments(drawn)
        if moments["m00"] > 0:
            matrix[:, 2] = CENTRE - by * moments["m10"] / moments["m00"], CENTRE - by * moments["m01"] / moments["m00"]
            cv2.warpAffine(drawn, matrix, (SIDE, SIDE), dst=form, flags=cv2.INTER_LINEAR)
            cv2.convertScaleAbs(form, alpha=255.0 / max(int(form.max()), 1), dst=form)


def strangeness(image_gray: NDArray[np.uint8]) -> float:
    """Return how unlike one digit on even paper a gray picture `(h, w)` uint8 is, above 1 for what should not be read.

    The form keeps strokes alone: a scratch across brushed steel has that of a perfect 1. Asked are the share of the variance
    that ink and paper explain (Otsu's eta, IEEE Trans. SMC 9, 1979), and that the largest ink does not run from one border to
    the other beside much paper. A picture of one gray has a strangeness of 0: there is nothing to read in it.
    """
    cut, light = _parted(image_gray)
    if light.all() or not light.any():
        return 0.0
    levels = np.bincount(image_gray.ravel(), minlength=256).astype(np.float64)
    unexplained = (1 - _eta(levels, int(cut))) / (1 - _LEAST_ETA)
    return max(unexplained, _CROSSING if _crosses(light != _paper_is_light(image_gray, cut)) else 0.0)


def _eta(levels: NDArray[np.float64], cut: int) -> float:
    """Return between-class over total variance of a histogram `(256,)` cut above level `cut`."""
    gray, total = np.arange(256), levels.sum()
    mean = (levels * gray).sum() / total
    variance = (levels * (gray - mean) ** 2).sum() / total
    share = levels[: cut + 1].sum() / total
    low = (levels * gray)[: cut + 1].sum() / total
    return float((mean * share - low) ** 2 / (share * (1 - share)) / variance)


def _crosses(ink: NDArray[np.bool_]) -> bool:
    """Tell whether the largest piece of ink `(h, w)` reaches two opposite borders, in at most half of the other direction."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    _, _, width, height, _ = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())]
    rows, columns = ink.shape
    return bool((height == rows and 2 * width <= columns) or (width == columns and 2 * height <= rows))


def _parted(image_gray: NDArray[np.uint8]) -> tuple[float, NDArray[np.bool_]]:
    """Return Otsu's threshold and what lies above it."""
    cut, _ = cv2.threshold(image_gray, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return cut, image_gray > cut


def _paper_is_light(image_gray: NDArray[np.uint8], cut: float) -> bool:
    border = np.concatenate([image_gray[0], image_gray[-1], image_gray[:, 0], image_gray[:, -1]])
    return float(np.median(border)) > cut


def _ink(image_gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map a gray picture to ink: 0 paper, 255 the ink's own gray, 128 where Otsu's threshold cuts."""
    cut, light = _parted(image_gray)
    if light.all() or not light.any():
        return np.zeros_like(image_gray)
    low, high = float(np.median(image_gray[~light])), float(np.median(image_gray[light]))
    paper, ink = (high, low) if _paper_is_light(image_gray, cut) else (low, high)
    table = np.clip((np.arange(256) - paper) * (255.0 / (ink - paper)), 0, 255)
    return np.asarray(cv2.LUT(image_gray, np.round(table).astype(np.uint8)), np.uint8)
