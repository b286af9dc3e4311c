"""Looking at a sheet from afar: how large its writing is, whether it is chalk or ink, and how the sheet lies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.components import SMALLEST_HEIGHT, WIDEST, Component, Hand, joined_box, medians, slants
from edgecnn.handwriting.guesses import Guess, Guesser
from edgecnn.handwriting.ink import Paper, find_paper
from edgecnn.handwriting.regions import (
    LOW_WRITING,
    MOST_ENLARGED,
    WORKING_SIDE,
    Box,
    Setting,
    Sheet,
    take_apart,
    writing_height,
)
from edgecnn.handwriting.steps import Steps

# From afar the longer side has at most so many pixels. What is higher than so many of them may be writing, and when all but a
# tenth of that is high enough it needs no closer look.
_AFAR, _LOWEST, _LOW_SHARE, _HIGH_ENOUGH = 400, 5, 10, 20.0
# Where nothing stands out at so many of the picture's pixels a pixel, there is no digit: the lowest are four pixels high there.
_BLANK = 2
# Low writing is enlarged to so many working pixels: thresholds cut between pixels then, and touching strokes come apart.
_ENLARGED_TO = 36.0
# Where most of the likeliest places are no digits, only what is round those that are is enlarged: with a margin of so many
# times their height, and in steps of so many pixels. What reads as digits all over the frame then, rather than in so small a
# share of it, is texture.
_MARGIN, _STEP, _LARGEST_WINDOW = 4.0, 16, 0.25
# A sheet is untidy when less than so much of its ink is of candidates; when only what is round its digits is looked at closely,
# with margins of so many times their height: a neighbour that touches another has room, and so has one drawn twice as high.
# Digits so many times as high as the lowest candidate are all candidates, however uneven the hand.
_TIDY, _ASIDE, _BELOW, _ALL_SEEN = 0.85, 1.5, 0.8, 1.5
# Of a tidy sheet the window round all that stands out is enlarged, unless that is more of the frame than this share.
_MOST_WINDOW = 0.5
# Chalk on a board and ink on paper are told apart by which stands out more, but for so near a draw: then by how many of so
# many likely places read well. Where ink stands out more and any of it reads, chalk is not tried: keys and screens read too.
# Chalk that stands out surely must read for half of them: the cells of a bright sheet on a dark desk stand out as chalk does.
_SURELY_DARK, _SURELY_LIGHT = 0.55, 4.5
_READ, _TRIED = 0.8, 8
# More candidates than few are guessed at in turn: so many of the likeliest first, then so many for each sure one. Likely is
# what stands on bright paper, to a lesser degree what has strong contrast, and not what is wide.
_FEW, _FIRST, _EACH = 16, 12, 8
_CONTRAST, _WIDE = 0.64, 0.5
# A sheet that lies askew is one whose strokes (so many are looked at) lean otherwise than those of upright sheets do, in
# columns per row, and do not read well enough; it is turned back by so many degrees for each column per row, up to a limit.
_LEAST_TURNED, _MOST_TURNED = 5, 12
_LEANS, _USUAL_LEAN, _DEGREES, _FURTHEST = (-0.24, 0.12), -0.08, 95.0, 45.0
_UPRIGHT, _TURN_MARGIN = 0.9, 0.05


def survey(image_gray: NDArray[np.uint8], guess: Guesser, steps: Steps) -> tuple[Sheet, list[Guess]]:
    """Take a gray picture `(h, w)` uint8 apart at its writing's own scale, and guess at all that may be a digit."""
    base = max(1.0, max(image_gray.shape) / WORKING_SIDE)
    afar = base
    while max(image_gray.shape) / afar > _AFAR and steps.scale:
        afar *= 2
    paper = find_paper(image_gray, flatten=steps.illumination)
    sheet = _from_afar(image_gray, paper, afar, guess, steps)
    while sheet.is_blank and afar > _BLANK * base:
        afar /= 2
        sheet = _from_afar(image_gray, paper, afar, guess, steps)
    if sheet.is_blank:
        return sheet, []
    if steps.scale:
        for setting in (_closer, _enlarged):
            wanted = setting(sheet, base, guess)
            if wanted != sheet.setting:
                sheet = take_apart(image_gray, paper, wanted, steps)
    guesses = _guess_in_turn(sheet, guess)
    return _upright(sheet, guesses, guess) if steps.turning else (sheet, guesses)


def _guess_in_turn(sheet: Sheet, guess: Guesser) -> list[Guess]:
    """Guess at all candidates where most of the likeliest are digits, else at what is like those that are.

    On an untidy desk only a few of a hundred candidates are digits, and each guess costs as much as any other.
    """
    parts = sheet.candidates
    if len(parts) <= _FEW:
        return guess(sheet, parts)
    order = np.argsort(-likelihood(sheet, parts), kind="stable")
    first, rest = [parts[i] for i in order[:_FIRST]], [parts[i] for i in order[_FIRST:]]
    guesses = guess(sheet, first)
    sure = [one.component for one in guesses if one.sureness >= _READ]
    if 2 * len(sure) < len(guesses):
        rest = _like(sure, rest)[: _EACH * len(sure)]
    return guesses + guess(sheet, rest)


def likelihood(sheet: Sheet, components: list[Component]) -> NDArray[np.float64]:
    """Return which components are likelier to be digits: strong ink on bright paper, or with chalk on a dark board."""
    contrast = np.array([part.contrast for part in components])
    boxes = np.array([part.box for part in components], np.float64) * sheet.setting.scale
    small = sheet.paper.small
    shares = np.array(small.shape) / np.array(sheet.frame_hw)
    y, x = (sheet.setting.corner[axis] + boxes[:, axis] + boxes[:, axis + 2] / 2 for axis in (1, 0))
    y, x = (np.minimum((at * share).astype(int), side - 1) for at, share, side in zip((y, x), shares, small.shape, strict=True))
    brightness = (255.0 - small if sheet.setting.light else small * 1.0)[y, x]
    wide = np.maximum(boxes[:, 2] / boxes[:, 3] - 0.8, 0)
    return np.asarray(
        _CONTRAST * contrast / max(contrast.max(), 1e-6) + brightness / max(brightness.max(), 1.0) - _WIDE * wide, np.float64
    )


def _like(known: list[Component], others: list[Component]) -> list[Component]:
    """Return those of others that may be of the same hand as the known ones, the nearest first."""
    same = [part for part in others if Hand.of(known).wrote(part)] if known else []
    middles = [
        np.array([(p.box[0] + p.box[2] / 2, p.box[1] + p.box[3] / 2) for p in parts]).reshape(-1, 2) for parts in (known, same)
    ]
    away = np.abs(middles[1][:, None] - middles[0]).sum(axis=2).min(axis=1, initial=np.inf)
    return [same[i] for i in np.argsort(away, kind="stable")]


def _from_afar(image_gray: NDArray[np.uint8], paper: Paper, scale: float, guess: Guesser, steps: Steps) -> Sheet:
    """Take a picture apart as ink on paper or chalk on a board, whichever stands out or, in doubt, reads better."""
    ratio = paper.light_over_dark
    likelier = take_apart(image_gray, paper, Setting(scale, ratio >= 1), steps)
    if ratio <= _SURELY_DARK:
        return likelier
    read = _count_read(likelier, guess)
    if (read and ratio < 1) or (2 * read >= _TRIED and ratio >= _SURELY_LIGHT):
        return likelier
    other = take_apart(image_gray, paper, Setting(scale, ratio < 1), steps)
    return other if likelier.is_blank or _count_read(other, guess) > read else likelier


def _count_read(sheet: Sheet, guess: Guesser) -> int:
    """Return how many of the likeliest candidates read well."""
    return sum(one.sureness >= _READ for one in guess(sheet, _likeliest(sheet, _TRIED)))


def _likeliest(sheet: Sheet, count: int) -> list[Component]:
    slim = [part for part in sheet.candidates if part.aspect <= WIDEST]
    return [slim[i] for i in np.argsort(-likelihood(sheet, slim), kind="stable")[:count]] if slim else []


def _closer(sheet: Sheet, base: float, guess: Guesser) -> Setting:
    """Return how to work a sheet seen from afar: so that even its low strokes are high enough, as the picture is at most."""
    scale = sheet.setting.scale
    if not sheet.candidates:
        return replace(sheet.setting, scale=base)
    strong = 0.5 * float(medians(np.array([part.contrast for part in sheet.candidates])))
    parts = [part for part in sheet.candidates + sheet.fragments if part.height >= _LOWEST and part.contrast >= strong]
    low = _low_height(parts) * scale
    while scale > base and low < _HIGH_ENOUGH * scale:
        scale /= 2
    if scale == sheet.setting.scale:
        return sheet.setting
    scale = _enlarging(sheet, base) if scale == base else scale
    return replace(sheet.setting, scale=scale, windows=_windows(sheet, guess))


def _low_height(parts: list[Component]) -> float:
    """Return the height under which a tenth of the parts are, between two of them in proportion."""
    heights = sorted(part.height for part in parts)
    at = (len(heights) - 1) / _LOW_SHARE
    below = heights[int(at)]
    return below + (at - int(at)) * (heights[min(int(at) + 1, len(heights) - 1)] - below)


def _windows(sheet: Sheet, guess: Guesser) -> tuple[Box, ...]:
    """Return where an untidy sheet seen from afar is worth a closer look: round what reads as digits; none where all of it is.

    What is low from afar may be digits too low to be candidates, and more than the likeliest may be digits: all of it is then.
    """
    if not _is_untidy(sheet):
        return ()
    first = guess(sheet, _likeliest(sheet, _FIRST))
    read = [one.component for one in first if one.sureness >= _READ]
    lowest = min((part.height for part in read), default=0)
    if lowest < _ALL_SEEN * SMALLEST_HEIGHT or (len(first) == _FIRST and 2 * len(read) >= len(first)):
        return ()
    touching = _like(read, [part for part in sheet.candidates if part.aspect > WIDEST])
    return tuple(_window_round([part], sheet, _ASIDE, _BELOW) for part in read + touching)


def _written_on(sheet: Sheet) -> tuple[Box, ...]:
    """Return the window round all that stands out of a tidy sheet; none where it is most of the frame."""
    window = _window_round(sheet.candidates + sheet.fragments, sheet, _MARGIN, _MARGIN)
    return (window,) if window[2] * window[3] <= _MOST_WINDOW * sheet.frame_hw[0] * sheet.frame_hw[1] else ()


def _is_untidy(sheet: Sheet) -> bool:
    """Tell whether too little of the ink is of what may be a digit, or too low to tell."""
    low = [part for part in sheet.fragments if part.height < SMALLEST_HEIGHT]
    return sum(part.area for part in sheet.candidates + low) < _TIDY * sheet.ink


def _enlarged(sheet: Sheet, base: float, guess: Guesser) -> Setting:
    """Return how to work a sheet after a closer look: larger than the picture is where the writing is low."""
    scale = _enlarging(sheet, base) if sheet.setting.scale == base else sheet.setting.scale
    if scale >= base:
        return replace(sheet.setting, scale=scale)
    first = guess(sheet, _likeliest(sheet, _FIRST))
    read = [one.component for one in first if one.sureness >= _READ]
    if 2 * len(read) >= len(first):
        windows = sheet.setting.windows or _written_on(sheet)
        return replace(sheet.setting, scale=scale, windows=windows)
    if not read:
        return sheet.setting
    window = _window_round(read, sheet, _MARGIN, _MARGIN)
    spread = window[2] * window[3] > _LARGEST_WINDOW * sheet.frame_hw[0] * sheet.frame_hw[1]
    return sheet.setting if spread else replace(sheet.setting, scale=scale, windows=(window,))


def _window_round(components: list[Component], sheet: Sheet, aside: float, below: float) -> Box:
    """Return the part of the frame `(x, y, width, height)` where components stand and others of their size may.

    So many times the height of the highest lie between them and its sides, and above and below them.
    """
    scale = sheet.setting.scale
    left, top, width, height = (scale * side for side in joined_box(components))
    left, top = left + sheet.setting.corner[0], top + sheet.setting.corner[1]
    highest = scale * max(part.height for part in components)
    frame_height, frame_width = sheet.frame_hw
    # In steps, so that it stays where it is when the ink's outline flickers.
    x, y = (max(int(at // _STEP) * _STEP, 0) for at in (left - aside * highest, top - below * highest))
    right = min(int((left + width + aside * highest) // _STEP + 1) * _STEP, frame_width)
    bottom = min(int((top + height + below * highest) // _STEP + 1) * _STEP, frame_height)
    return x, y, right - x, bottom - y


def _enlarging(sheet: Sheet, base: float) -> float:
    height = writing_height(sheet)
    return base if height >= LOW_WRITING * base else max(height / _ENLARGED_TO, base / MOST_ENLARGED)


def _upright(sheet: Sheet, guesses: list[Guess], guess: Guesser) -> tuple[Sheet, list[Guess]]:
    """Turn a sheet that lies askew, as its strokes lean, when its candidates read clearly better then."""
    slim = [one for one in guesses if one.component.aspect <= WIDEST]
    if len(slim) < _LEAST_TURNED:
        return sheet, guesses
    sample = [slim[i] for i in np.linspace(0, len(slim) - 1, min(len(slim), _MOST_TURNED)).astype(int)]
    parts = [one.component for one in sample]
    lean = float(medians(slants(parts, sheet.width)))
    as_it_lies = _mean_sureness(sample)
    if _LEANS[0] <= lean <= _LEANS[1] or as_it_lies >= _UPRIGHT:
        return sheet, guesses
    turned = sheet.turned(round(min(max(_DEGREES * (_USUAL_LEAN - lean), -_FURTHEST), _FURTHEST)))
    if _mean_sureness(guess(turned, parts)) <= as_it_lies + _TURN_MARGIN:
        return sheet, guesses
    return turned, guess(turned, [one.component for one in guesses])


def _mean_sureness(guesses: list[Guess]) -> float:
    return float(np.mean([one.sureness for one in guesses]))
