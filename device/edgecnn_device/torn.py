"""Whether a picture was only decoded in part: rows that repeat over a gap, blocks that stayed gray or green."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn_device.frames import Image

_SAMPLE_WH, _MIN_SIDE = (48, 60), 96
# A decoder of video fills a gap with the last row before it. Two rows of a scene are never quite the same, since sensors have
# noise; those of the gap are, but for the half of them that H.264 smooths afterwards by a level or two. Where all moves
# lengthwise (a belt in a long exposure) rows are alike too: all over the picture, and slowly changing.
_MIN_PART, _MAX_PART, _MIN_ROWS = 0.1, 0.9, 24
_ALIKE_LEVELS, _DRIFT_LEVELS, _OTHER_LEVELS, _MIN_SAME = 1.5, 0.5, 3.0, 0.4
_MIN_DEVIATION, _MIN_CHANGING, _DARK, _BRIGHT = 4.0, 0.25, 5, 250
# Blocks of no data are zero: 128 in JPEG, which limited video stretches to 130. Scenes have that gray too, but not in whole
# blocks with an edge around them and nothing of it beside, in a picture that has few other blocks of one colour.
_GRAYS, _BLOCK = (128, 130), 8
_IS_GRAY = bytes(level in _GRAYS for level in range(256))
_FEW = 8
_MIN_GRAY, _MAX_STRAY, _MAX_CONSTANT, _MIN_EDGE_LEVELS = 0.02, 0.05, 0.1, 3
# Video: zero in all three planes, which BT.601 and BT.709 make these greens of in full and limited range, to the rounding.
# Nothing that reflects light is without any red and blue.
_GREENS = tuple(g for green in (77, 84, 135, 136) for g in (green - 1, green, green + 1))
_MIN_GREEN = 0.01
_GREEN_RANGE = np.array([[0, green, 0] for green in (min(_GREENS), max(_GREENS))], np.uint8)


def coarse_sample(image: Image) -> Image:
    """Return a grid of the picture's own pixels, `(60, 48, 3)` or fewer."""
    size_wh = min(image.shape[1], _SAMPLE_WH[0]), min(image.shape[0], _SAMPLE_WH[1])
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_NEAREST), np.uint8)


def torn(image_bgr: Image, sample: Image | None = None) -> str:
    """Return the reason for which `(h, w, 3)` uint8 that was not decoded whole cannot be believed, or an empty text."""
    return torn_by(tear(image_bgr, sample))


def tear(image_bgr: Image, sample: Image | None = None) -> str:
    """Return what of `(h, w, 3)` uint8 was not decoded, or an empty text.

    The picture must be as its decoder gave it: neither turned nor resized. Its `coarse_sample` is looked at, and the whole
    only when that is suspicious. Pictures of less than 96 pixels a side are not judged.
    """
    if min(image_bgr.shape[:2]) < _MIN_SIDE:
        return ""
    sample = coarse_sample(image_bgr) if sample is None else sample
    return _repeated_rows(image_bgr, sample) or _gray_blocks(image_bgr, sample) or _green_blocks(image_bgr, sample)


def torn_by(damage: str) -> str:
    """Return the reason for which a picture with this damage cannot be believed, an empty text without damage."""
    return damage and f"torn picture: {damage}"


def _repeated_rows(image_bgr: Image, sample: Image) -> str:
    if _count_alike(sample) < _MIN_PART * (len(sample) - 1):
        return ""
    differences = _row_differences(sample)
    start, stop = _longest_run(differences <= _ALIKE_LEVELS)
    height, scale = image_bgr.shape[0], image_bgr.shape[0] / len(sample)
    part = (stop - start) / len(differences)
    if not (_MIN_PART <= part <= _MAX_PART and (stop - start) * scale >= _MIN_ROWS):
        return ""
    if np.median(np.delete(differences, np.s_[start:stop])) < _OTHER_LEVELS:
        return ""
    rows = sample[start : stop + 1].astype(np.float32)
    drift = np.abs(rows - np.median(rows, axis=0)).mean(axis=(1, 2))
    if not _is_textured(rows[len(rows) // 2]) or drift.max() > _ALIKE_LEVELS or np.median(drift) > _DRIFT_LEVELS:
        return ""
    top, bottom = int((start + 1) * scale), min(height, int(stop * scale))
    if np.mean(_row_differences(image_bgr[top:bottom]) == 0) < _MIN_SAME:
        return ""
    return f"rows {top} to {bottom} of {height} repeat"


def _row_differences(image: Image) -> NDArray[np.float32]:
    """Return the mean difference between each row and the next in levels, `(h - 1,)`."""
    rows = image.reshape(len(image), -1)
    sums = np.add.reduce(cv2.absdiff(rows[1:], rows[:-1]), axis=1, dtype=np.uint32)
    return np.asarray(sums / np.float32(rows.shape[1]), np.float32)


def _count_alike(sample: Image) -> int:
    """Return how many rows of a sample are like the next: every frame asks, so in half the time of `_row_differences`."""
    rows = sample.reshape(len(sample), -1)
    most = _ALIKE_LEVELS * rows.shape[1]
    ends = cv2.integral(cv2.absdiff(rows[1:], rows[:-1]))[:, -1].tolist()
    return sum([after - before <= most for before, after in pairwise(ends)])


def _longest_run(flags: NDArray[np.bool_]) -> tuple[int, int]:
    """Return start and stop of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])


def _is_textured(row: NDArray[np.float32]) -> bool:
    """Say whether a row `(w, 3)` shows something; a plain one, or one that is mostly black or flooded, repeats by nature."""
    gray = row.mean(axis=-1)
    changing = np.mean(np.abs(np.diff(gray)) >= 1)
    exposed = np.mean((gray > _DARK) & (gray < _BRIGHT))
    return bool(gray.std() >= _MIN_DEVIATION and changing >= _MIN_CHANGING and exposed > 0.5)


def _gray_blocks(image_bgr: Image, sample: Image) -> str:
    for gray in _candidates(image_bgr, sample):
        if _are_undecoded(image_bgr, gray):
            part = float((image_bgr == gray).all(axis=-1).mean())
            return f"{100 * part:.0f} % of the picture stayed gray"
    return ""


def _candidates(image_bgr: Image, sample: Image) -> list[int]:
    """Return the grays of which enough blocks could be made; nearly always none, which must cost nearly nothing."""
    marks = sample.tobytes()[1::3].translate(_IS_GRAY)  # of each pixel's green, in a third of the time of NumPy's comparison
    count = marks.count(1)
    # A coarse grid that misses some of the blocks still meets half of them.
    if count < _MIN_GRAY / 2 * len(marks):
        return []
    (at,) = np.frombuffer(marks, np.uint8).nonzero()
    if not _lie_in_blocks(image_bgr, at[:: count // _FEW].tolist()):
        return []
    return [gray for gray in _GRAYS if _could_be_blocks(image_bgr, gray)]


def _lie_in_blocks(image_bgr: Image, places: list[int]) -> bool:
    """Tell whether half of some gray places of the sample are in blocks of that gray; in a torn picture nearly all do."""
    (height, width), (columns, rows) = image_bgr.shape[:2], _SAMPLE_WH
    allowed = len(places) // 2
    for place in places:
        y = min(place // columns * height // rows // _BLOCK * _BLOCK, height - _BLOCK)
        x = min(place % columns * width // columns // _BLOCK * _BLOCK, width - _BLOCK)
        gray = image_bgr.item(y + 1, x + 1, 1)
        if gray not in _GRAYS or gray != image_bgr.item(y + _BLOCK - 2, x + _BLOCK - 2, 1):
            allowed -= 1
            if allowed < 0:
                return False
    return True


def _could_be_blocks(image_bgr: Image, gray: int) -> bool:
    one, other = (_pixel_of_each_block(image_bgr, at, at) for at in (1, _BLOCK - 2))
    return np.count_nonzero((one == gray) & (other == gray)) >= _MIN_GRAY * one.size


def _pixel_of_each_block(image_bgr: Image, y: int, x: int) -> NDArray[np.uint8]:
    """Return the green of the pixel at `y`, `x` of each whole block, `(h // 8, w // 8)`."""
    height, width = (side // _BLOCK * _BLOCK for side in image_bgr.shape[:2])
    return image_bgr[y:height:_BLOCK, x:width:_BLOCK, 1]


def _undecoded_blocks(image_bgr: Image, gray: int) -> NDArray[np.bool_]:
    """Return which blocks are all gray but for their rim, which the colour beside them reaches, `(h // 8, w // 8)`."""
    first, last = 1, _BLOCK - 2
    found = _pixel_of_each_block(image_bgr, first, first) == gray
    for y, x in ((last, last), (first, last), (last, first)):
        found &= _pixel_of_each_block(image_bgr, y, x) == gray
    at = np.argwhere(found) * _BLOCK
    inner = np.arange(first, last + 1)
    rows, columns = at[:, 0, None, None] + inner[:, None], at[:, 1, None, None] + inner
    found[found] = (image_bgr[rows, columns] == gray).all(axis=(1, 2, 3))
    return np.asarray(found, np.bool_)


def _are_undecoded(image_bgr: Image, gray: int) -> bool:
    """Say whether the gray of `(h, w, 3)` is made of whole blocks that stand out from the rest."""
    undecoded = _undecoded_blocks(image_bgr, gray)
    if not _MIN_GRAY <= undecoded.mean() <= _MAX_PART or _is_border(undecoded):
        return False
    height, width = undecoded.shape
    blocks = image_bgr[: height * _BLOCK, : width * _BLOCK].reshape(height, _BLOCK, width, _BLOCK, 3)
    inner = blocks[:, 1:-1, :, 1:-1]
    constant = (inner == inner[:, :1, :, :1]).all(axis=(1, 3, 4))
    pixels = (blocks == gray).all(axis=-1)
    stray = np.count_nonzero(pixels & ~undecoded[:, None, :, None]) / max(1, int(np.count_nonzero(pixels)))
    others = np.count_nonzero(constant & ~undecoded) / max(1, int(np.count_nonzero(~undecoded)))
    return bool(stray <= _MAX_STRAY and others <= _MAX_CONSTANT and _edge_levels(blocks, undecoded, gray) >= _MIN_EDGE_LEVELS)


def _is_border(undecoded: NDArray[np.bool_]) -> bool:
    """Say whether the gray lies at two opposite sides of the picture: that is how pictures are made to fit a shape."""
    return bool((undecoded[0].all() and undecoded[-1].all()) or (undecoded[:, 0].all() and undecoded[:, -1].all()))


def _edge_levels(blocks: Image, undecoded: NDArray[np.bool_], gray: int) -> float:
    """Return by how many levels the blocks beside undecoded ones differ from the gray, in the middle of all."""
    rim = np.abs(blocks.astype(np.int16) - gray).max(axis=-1)
    beside = [
        rim[1:, 0][undecoded[:-1] & ~undecoded[1:]],
        rim[:-1, -1][undecoded[1:] & ~undecoded[:-1]],
        rim[:, :, 1:, 0].transpose(0, 2, 1)[undecoded[:, :-1] & ~undecoded[:, 1:]],
        rim[:, :, :-1, -1].transpose(0, 2, 1)[undecoded[:, 1:] & ~undecoded[:, :-1]],
    ]
    levels = np.concatenate([part.ravel() for part in beside])
    return float(np.median(levels)) if len(levels) else 0.0


def _green_blocks(image_bgr: Image, sample: Image) -> str:
    if 0 not in sample.tobytes() or not cv2.countNonZero(cv2.inRange(sample, *_GREEN_RANGE)):
        return ""
    blue, green, red = cv2.split(image_bgr)
    part = float(np.mean(np.isin(green, _GREENS) & (blue == 0) & (red == 0)))
    return f"{100 * part:.0f} % of the picture stayed green" if part >= _MIN_GREEN else ""
