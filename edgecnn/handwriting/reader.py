"""Reading a sheet: every place is classified, and the classifier decides what joining, splitting and shape cannot."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.components import WIDEST, Component, is_digit_shaped, joined
from edgecnn.handwriting.cuts import slices
from edgecnn.handwriting.regions import DigitRegion, Sheet, joinable, take_apart
from edgecnn.handwriting.steps import ALL_STEPS, Steps
from edgecnn.runtimes.runtime import Runtime

# A reading in n pieces must be better than the one in a piece by this factor to the power of n - 1.
_PIECE_PRIOR = 0.85
# Above this probability nobody looks for a better reading; under the other one a better reading is none.
_SURE, _UNSURE = 0.95, 0.5
_MOST_SLICES_A_DIGIT = 4
# A tilted sheet is tried at these angles, if it has this many candidates (this many of them are tried, all over the sheet)
# and their mean sureness tells that they are writing, but not upright.
_TURNS_DEG = (-45.0, -30.0, -15.0, 15.0, 30.0, 45.0)
_LEAST_TURNED, _MOST_TURNED = 5, 32
_LEGIBLE, _UPRIGHT, _TURN_MARGIN = 0.4, 0.9, 0.05
# What stands apart is joined only if it reads so much better, where two of the parts are high enough for digits of their own.
_JOIN_MARGIN, _OWN_HEIGHT, _WHOLE = 0.25, 0.4, 0.9
# Digits of one number stand side by side: so much of the lower one's height, so little of the narrower one's width in common.
_LEAST_COMMON_HEIGHT, _MOST_COMMON_WIDTH = 0.4, 0.5
# What is cut apart is at least half as high as the sheet's writing.
_LOWEST_TO_SPLIT = 0.5
# Where this many readings reach the threshold, others need only this share of it: it was chosen for marks that stand alone.
_WITNESSES, _AMONG_WITNESSES = 3, 0.5
# Digits stand among digits: the least mean sureness, and with how many readings' weight the eight nearest speak.
_DIGITS, _PRIOR, _AROUND, _CUT_APART = 0.7, 2.0, 8, 0.8
# Letters with and without ascenders differ by less than this factor in height.
_ALIKE = 1.7
# Letters of a word stand nearer to each other than this share of their height.
_WORD_GAP = 0.4
# This share of a digit's box may overlap that of a larger digit (a 7 reaches over a 0).
_MOST_COVERED = 0.7
# Ink fainter than this share of the sheet's ink is the paper's texture.
_FAINTEST = 0.35
# Any stroke looks like a 1: it must have something of the pen and the size of the digits nearest to it.
_ONE, _NEIGHBOURS, _THINNEST_ONE, _LOWEST_ONE = 1, 5, 0.45, 0.4


@dataclass(frozen=True, eq=False)
class DigitReading:
    """What was read in a region: `class_id` is None when it was rejected as no digit.

    `probabilities` `(10,)` float32 are the model's, `probability` the largest of them.
    """

    region: DigitRegion
    probabilities: NDArray[np.float32]
    class_id: int | None

    @property
    def box(self) -> tuple[int, int, int, int]:
        """`(x, y, width, height)` in pixels of the frame."""
        return self.region.box

    @property
    def probability(self) -> float:
        """The largest of the probabilities."""
        return float(self.probabilities.max())


@dataclass(frozen=True, eq=False)
class _Guess:
    component: Component
    region: DigitRegion
    probabilities: NDArray[np.float32]
    origin: int = -1  # the component that it was cut from, if it was

    @property
    def class_id(self) -> int:
        """The class of the largest probability."""
        return int(self.probabilities.argmax())

    @property
    def sureness(self) -> float:
        """The probability, or 0 for what is wider than any digit."""
        return float(self.probabilities.max()) if self.component.aspect <= WIDEST else 0.0


def read_digits(
    image_bgr: NDArray[np.uint8], runtime: Runtime, reject_threshold: float, steps: Steps = ALL_STEPS
) -> list[DigitReading]:
    """Find and read the handwritten digits of a picture `(h, w, 3)` uint8 BGR, from top to bottom.

    `runtime` is an MNIST model. What it gives less than `reject_threshold` to (among other digits: less than half of it), and
    what stands in a word, is returned with `class_id` None. Raises ShapeError for another array.
    """
    sheet = take_apart(image_bgr, steps)
    if steps.turning:
        sheet = _upright(sheet, runtime)
    guesses = _guesses(sheet, sheet.candidates, runtime)
    if steps.joining:
        guesses = _with_joins(sheet, guesses, runtime)
    if steps.splitting:
        guesses = _with_splits(sheet, guesses, runtime)
    guesses.sort(key=lambda guess: (guess.region.box[1], guess.region.box[0]))
    accepted = _sure_enough(guesses, reject_threshold if steps.reject else 1e-6)
    if steps.reject and guesses:
        accepted &= _among_digits(guesses)
        accepted &= _credible_ones(guesses, accepted)
        accepted &= _uncovered(guesses, accepted)
        accepted &= _inked(guesses, accepted)
    return [
        DigitReading(guess.region, guess.probabilities, guess.class_id if ok else None)
        for guess, ok in zip(guesses, accepted, strict=True)
    ]


def _sure_enough(guesses: list[_Guess], reject_threshold: float) -> NDArray[np.bool_]:
    sureness = np.array([guess.sureness for guess in guesses])
    alone = sureness >= reject_threshold
    if np.count_nonzero(alone) < _WITNESSES:
        return alone
    return sureness >= _AMONG_WITNESSES * reject_threshold


def _upright(sheet: Sheet, runtime: Runtime) -> Sheet:
    """Turn a sheet by the angle at which its candidates read best, when that is clearly better than unturned."""
    candidates = [part for part in sheet.candidates if part.aspect <= WIDEST]
    if len(candidates) < _LEAST_TURNED:
        return sheet
    spread = np.linspace(0, len(candidates) - 1, min(len(candidates), _MOST_TURNED)).astype(int)
    sample = [candidates[i] for i in spread]
    as_it_lies = _mean_sureness(sheet, sample, runtime)
    if not _LEGIBLE <= as_it_lies < _UPRIGHT:
        return sheet
    turned = [replace(sheet, turn_deg=degrees) for degrees in _TURNS_DEG]
    sureness = [_mean_sureness(other, sample, runtime) for other in turned]
    best = max(range(len(turned)), key=lambda i: sureness[i])
    return turned[best] if sureness[best] > as_it_lies + _TURN_MARGIN else sheet


def _mean_sureness(sheet: Sheet, components: list[Component], runtime: Runtime) -> float:
    return float(np.mean([guess.sureness for guess in _guesses(sheet, components, runtime)]))


def _guesses(sheet: Sheet, components: list[Component], runtime: Runtime) -> list[_Guess]:
    if not components:
        return []
    regions = [sheet.region(component) for component in components]
    probabilities = runtime.run(np.stack([region.form for region in regions])[..., None])
    return [_Guess(*parts) for parts in zip(components, regions, probabilities, strict=True)]


def _with_joins(sheet: Sheet, guesses: list[_Guess], runtime: Runtime) -> list[_Guess]:
    """Replace guesses whose pieces read better as one digit."""
    unions = joinable(sheet)
    together = _guesses(sheet, [union for _, union in unions], runtime)
    apart = {id(guess.component): guess for guess in guesses}
    gains = []
    for (group, union), guess in zip(unions, together, strict=True):
        explained = sum(apart[id(part)].sureness * part.area for part in group if id(part) in apart)
        several = sum(part.height >= _OWN_HEIGHT * union.height and id(part) in apart for part in group) > 1
        gain = guess.sureness - explained / union.area - several * _JOIN_MARGIN
        # What reads surely as a digit is not a piece of another, but for a 1: that is any upright stroke.
        parts = [apart[id(part)] for part in group if id(part) in apart]
        whole = any(part.sureness >= _WHOLE and part.class_id != _ONE for part in parts)
        gains.append(-1.0 if whole else gain)
    used: set[int] = set()
    kept = []
    for index in sorted(range(len(unions)), key=lambda i: -gains[i]):
        members = {id(part) for part in unions[index][0]}
        if gains[index] > 0 and together[index].sureness >= _UNSURE and not members & used:
            used |= members
            kept.append(together[index])
    return [guess for guess in guesses if id(guess.component) not in used] + kept


def _with_splits(sheet: Sheet, guesses: list[_Guess], runtime: Runtime) -> list[_Guess]:
    """Replace unsure guesses by the digits that their slices read as, where that is better."""
    heights = [guess.component.height for guess in guesses if guess.sureness >= _SURE]
    lowest = _LOWEST_TO_SPLIT * float(np.median(heights)) if heights else 0.0
    doubtful = [guess for guess in guesses if guess.sureness < _SURE and guess.component.height >= lowest]
    runs = [_runs(slices(guess.component)) for guess in doubtful]
    parts = iter(_guesses(sheet, [part for pieces in runs for part in pieces.values()], runtime))
    result = [guess for guess in guesses if guess.sureness >= _SURE or guess.component.height < lowest]
    for origin, (guess, pieces) in enumerate(zip(doubtful, runs, strict=True)):
        read = {ends: replace(next(parts), origin=origin) for ends in pieces}
        value, best = _best_path(read, guess.component.area)
        better = len(best) > 1 and value > guess.sureness and _side_by_side(best)
        result += best if better else [guess]
    return result


def _runs(parts: list[Component]) -> dict[tuple[int, int], Component]:
    """Return every run of neighbouring slices that may be one digit, by its first and last border."""
    runs = {}
    for start in range(len(parts)):
        for end in range(start + 1, min(start + _MOST_SLICES_A_DIGIT, len(parts)) + 1):
            run = joined(parts[start:end])
            if end - start < len(parts) and is_digit_shaped(run) and run.aspect <= WIDEST:
                runs[start, end] = run
    return runs


def _best_path(read: dict[tuple[int, int], _Guess], area: int) -> tuple[float, list[_Guess]]:
    """Return the value of the best way through the slices, and its digits.

    The value is the share of the ink that is read, each digit's ink weighted with its probability.
    """
    last = max((end for _, end in read), default=0)
    best: list[tuple[float, list[_Guess]]] = [(0.0, [])]
    for border in range(1, last + 1):
        options = [best[border - 1]]  # the slice before this border is not part of a digit
        for (start, end), guess in read.items():
            if end == border and guess.sureness >= _UNSURE:
                value, path = best[start]
                prior = _PIECE_PRIOR if path else 1.0
                options.append((value * prior + guess.sureness * guess.component.area / area, [*path, guess]))
        best.append(max(options, key=lambda option: option[0]))
    return best[-1]


def _side_by_side(guesses: list[_Guess]) -> bool:
    for left, right in itertools.pairwise(guesses):
        (lx, ly, lw, lh), (rx, ry, rw, rh) = left.component.box, right.component.box
        common_height = min(ly + lh, ry + rh) - max(ly, ry)
        common_width = min(lx + lw, rx + rw) - max(lx, rx)
        if common_height < _LEAST_COMMON_HEIGHT * min(lh, rh) or common_width > _MOST_COMMON_WIDTH * min(lw, rw):
            return False
    return True


def _among_digits(guesses: list[_Guess]) -> NDArray[np.bool_]:
    """Tell for each guess that it stands among digits: not in a word, nor in a texture.

    The mean sureness of its line, drawn towards that of its nearest neighbours of like height: the fewer stand in the line,
    the more. What had to be cut apart to be read speaks less for digits.
    """
    boxes = np.array([guess.region.box for guess in guesses], np.float64).reshape(-1, 4)
    sure = np.array([guess.sureness * (1.0 if guess.origin < 0 else _CUT_APART) for guess in guesses])
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    result = np.ones(len(guesses), bool)
    for line in _lines(boxes):
        for index in line:
            alike = np.maximum(boxes[:, 3], boxes[index, 3]) < _ALIKE * np.minimum(boxes[:, 3], boxes[index, 3])
            alike[index] = False
            others = np.flatnonzero(alike)
            nearest = others[np.argsort(np.abs(centres[others] - centres[index]).sum(axis=1), kind="stable")[:_AROUND]]
            weight = _PRIOR * len(nearest) / _AROUND
            prior = float(sure[nearest].mean()) if nearest.size else 0.0
            result[index] = (float(sure[line].sum()) + weight * prior) / (len(line) + weight) >= _DIGITS
    return result


def _lines(boxes: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Group boxes `(n, 4)` that stand beside each other like the letters of a word; return the indices of each group."""
    left, top, width, height = boxes.T
    gap = np.maximum(left[:, None], left) - np.minimum((left + width)[:, None], left + width)
    common = np.minimum((top + height)[:, None], top + height) - np.maximum(top[:, None], top)
    low, high = np.minimum(height[:, None], height), np.maximum(height[:, None], height)
    beside = (gap < _WORD_GAP * low) & (common > 0.4 * low) & (high < _ALIKE * low)
    waiting, groups = set(range(len(boxes))), []
    while waiting:
        members, front = set(), {waiting.pop()}
        while front:
            members |= front
            front = {int(i) for i in np.flatnonzero(beside[sorted(front)].any(axis=0))} - members
        waiting -= members
        groups.append(np.array(sorted(members), np.int64))
    return groups


def _credible_ones(guesses: list[_Guess], accepted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for each guess that it is not a stray stroke that reads as a 1."""
    result = np.ones(len(guesses), bool)
    centres = np.array([[g.region.box[0] + g.region.box[2] / 2, g.region.box[1] + g.region.box[3] / 2] for g in guesses])
    others = [i for i, guess in enumerate(guesses) if accepted[i] and guess.class_id != _ONE]
    if not others:
        return result
    for index, guess in enumerate(guesses):
        if guess.class_id == _ONE:
            away = np.abs(centres[others] - centres[index]).sum(axis=1)
            nearest = [guesses[others[int(i)]].component for i in np.argsort(away, kind="stable")[:_NEIGHBOURS]]
            stroke, height = (float(np.median([getattr(part, name) for part in nearest])) for name in ("stroke", "height"))
            part = guess.component
            result[index] = part.stroke >= _THINNEST_ONE * stroke and part.height >= _LOWEST_ONE * height
    return result


def _uncovered(guesses: list[_Guess], accepted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for each guess that it does not lie for the most part in the box of a larger one: digits stand side by side."""
    left, top, width, height = np.array([guess.region.box for guess in guesses], np.float64).T
    right, bottom, area = left + width, top + height, width * height
    common_x = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    common_y = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    covered = np.maximum(common_x, 0) * np.maximum(common_y, 0) > _MOST_COVERED * area[:, None]
    return np.asarray(~(covered & accepted & (area > area[:, None])).any(axis=1), np.bool_)


def _inked(guesses: list[_Guess], accepted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for each guess that its contrast is something like that of the sheet's ink, the median by area of what was read."""
    contrasts = np.array([guess.region.contrast for guess in guesses])
    areas = np.where(accepted, [guess.component.area for guess in guesses], 0)
    order = np.argsort(contrasts, kind="stable")
    middle = order[int(np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2))]
    return np.asarray(contrasts >= _FAINTEST * contrasts[middle], np.bool_)
