"""Joining what is one digit in several pieces, and cutting apart what is several digits in one."""

from __future__ import annotations

import itertools

import numpy as np

from edgecnn.handwriting.components import WIDEST, Component, Hand, is_digit_shaped, joined, pairs
from edgecnn.handwriting.cuts import Slices, parted, slices
from edgecnn.handwriting.guesses import ONE, SURE, UNSURE, Guess, Guesser
from edgecnn.handwriting.regions import Sheet

# A reading in n pieces must be better than the one in a piece by this factor to the power of n - 1.
_PIECE_PRIOR = 0.85
_MOST_SLICES_A_DIGIT = 4
# What stands apart is joined only if it reads so much better, where two of the parts are high enough for digits of their own.
_JOIN_MARGIN, _OWN_HEIGHT, _WHOLE = 0.25, 0.4, 0.9
# Digits of one number stand side by side: so much of the lower one's height, so little of the narrower one's width in common.
_LEAST_COMMON_HEIGHT, _MOST_COMMON_WIDTH = 0.4, 0.5
# What is joined or cut apart is of the hand that wrote what is read surely: within this factor. Where so few digits are known
# that there is no hand, no more than so many are tried.
_OF_HAND, _KNOWN, _MOST_UNKNOWN = 2.2, 3, 8
# Of a main stroke's neighbours so many are tried one by one, and all together where they are so few.
_MOST_PAIRS, _MOST_PIECES = 6, 4
# On simulated sheets nothing that is surer than this, or narrower than so much of its height, is ever two digits.
_NOT_SEVERAL, _NARROWEST_TO_SPLIT = 0.85, 0.5


def with_joins(sheet: Sheet, guesses: list[Guess], guess: Guesser) -> list[Guess]:
    """Replace guesses whose pieces read better as one digit."""
    # What reads surely as a digit is no piece of another, but for a 1: that is any upright stroke.
    loose = [one for one in guesses if one.sureness < _WHOLE or one.class_id == ONE]
    apart = {id(one.component): one for one in loose}
    hopeful = [(_needed(group, union, apart), group, union) for group, union in _unions(sheet, guesses, loose)]
    together = guess(sheet, [union for _, _, union in hopeful])
    used: set[int] = set()
    kept = []
    gains = [one.sureness - need for one, (need, _, _) in zip(together, hopeful, strict=True)]
    for index in sorted(range(len(hopeful)), key=lambda i: -gains[i]):
        members = {id(part) for part in hopeful[index][1]}
        if gains[index] > 0 and together[index].sureness >= UNSURE and not members & used:
            used |= members
            kept.append(together[index])
    return [one for one in guesses if id(one.component) not in used] + kept


def _unions(sheet: Sheet, guesses: list[Guess], loose: list[Guess]) -> list[tuple[list[Component], Component]]:
    """Return what may be one digit in pieces, each of which reads badly: the pieces, and all of them as one component."""
    mains = [one.component for one in loose]
    pieces = mains + sheet.fragments
    unions = []
    for index, near in enumerate(pairs(mains, pieces)):
        others = [pieces[i] for i in np.flatnonzero(near) if i != index]
        groups = [[mains[index], part] for part in others[:_MOST_PAIRS]]
        if 1 < len(others) <= _MOST_PIECES:
            groups.append([mains[index], *others])
        unions += [(group, joined(group)) for group in groups]
    unions = [(group, union) for group, union in unions if is_digit_shaped(union)]
    hand = _hand(guesses)
    return [pair for pair in unions if hand.wrote(pair[1], _OF_HAND)] if hand else unions[:_MOST_UNKNOWN]


def _hand(guesses: list[Guess]) -> Hand | None:
    """Return the hand that wrote what is read surely; None where that is too little to know it."""
    sure = [one.component for one in guesses if one.sureness >= SURE]
    return Hand.of(sure) if len(sure) >= _KNOWN else None


def _needed(group: list[Component], union: Component, apart: dict[int, Guess]) -> float:
    """Return how sure a union must be to be better than its pieces as they were read."""
    parts = [apart[id(part)] for part in group if id(part) in apart]
    several = sum(part.component.height >= _OWN_HEIGHT * union.height for part in parts) > 1
    return sum(part.sureness * part.component.area for part in parts) / union.area + several * _JOIN_MARGIN


def with_splits(sheet: Sheet, guesses: list[Guess], guess: Guesser) -> list[Guess]:
    """Replace unsure guesses by the digits that their slices read as, where that is better."""
    doubtful = _doubtful(guesses)
    if not doubtful:
        return guesses
    components = [one.component for one in doubtful]
    ways = [[cut] for cut in slices(components, sheet.width)]
    for part, own in zip(components, ways, strict=True):
        if (other := parted(part, sheet.width)) is not None:
            own.append(other)
    runs = [[_runs(cut, sheet.width) for cut in own] for own in ways]
    parts = iter(guess(sheet, [part for own in runs for pieces in own for part in pieces.values()], cut=True))
    replaced: dict[int, list[Guess]] = {}
    for whole, found in zip(doubtful, runs, strict=True):
        paths = [_best_path({ends: next(parts) for ends in pieces}, whole.component.area) for pieces in found]
        value, best = max(paths, key=lambda path: path[0])
        if len(best) > 1 and value > whole.sureness and _side_by_side(best):
            replaced[id(whole)] = best
    return [one for whole in guesses for one in replaced.get(id(whole), [whole])]


def _doubtful(guesses: list[Guess]) -> list[Guess]:
    """Return the guesses that may be several digits: the wider, the less sure they must be to be left alone."""
    unsure = [
        one
        for one in guesses
        if one.sureness < _NOT_SEVERAL and one.component.aspect >= _NARROWEST_TO_SPLIT * (1 + one.sureness)
    ]
    hand = _hand(guesses)
    if hand:
        return [one for one in unsure if hand.wrote(one.component, _OF_HAND)]
    # Where few digits are known, their pens are.
    hands = [Hand.of([one.component]) for one in guesses if one.sureness >= SURE]
    alike = [one for one in unsure if any(hand.wrote(one.component, _OF_HAND) for hand in hands)] if hands else unsure
    return alike[:_MOST_UNKNOWN]


def _runs(cut: Slices, width: int) -> dict[tuple[int, int], Component]:
    """Return every run of neighbouring slices that may be one digit, by its first and last border."""
    runs = {}
    for start in range(cut.count if cut.count > 1 else 0):
        for end in range(start + 1, min(start + _MOST_SLICES_A_DIGIT, cut.count) + 1):
            run = cut.part(start, end, width) if end - start < cut.count else None
            if run is not None and is_digit_shaped(run) and run.aspect <= WIDEST:
                runs[start, end] = run
    return runs


def _best_path(read: dict[tuple[int, int], Guess], area: int) -> tuple[float, list[Guess]]:
    """Return the value of the best way through the slices, and its digits.

    The value is the share of the ink that is read, each digit's ink weighted with its probability.
    """
    last = max((end for _, end in read), default=0)
    best: list[tuple[float, list[Guess]]] = [(0.0, [])]
    for border in range(1, last + 1):
        options = [best[border - 1]]  # the slice before this border is no part of a digit
        for (start, end), one in read.items():
            if end == border and one.sureness >= UNSURE:
                value, path = best[start]
                prior = _PIECE_PRIOR if path else 1.0
                options.append((value * prior + one.sureness * one.component.area / area, [*path, one]))
        best.append(max(options, key=lambda option: option[0]))
    return best[-1]


def _side_by_side(guesses: list[Guess]) -> bool:
    for left, right in itertools.pairwise(guesses):
        (lx, ly, lw, lh), (rx, ry, rw, rh) = left.component.box, right.component.box
        common_height = min(ly + lh, ry + rh) - max(ly, ry)
        common_width = min(lx + lw, rx + rw) - max(lx, rx)
        if common_height < _LEAST_COMMON_HEIGHT * min(lh, rh) or common_width > _MOST_COMMON_WIDTH * min(lw, rw):
            return False
    return True
