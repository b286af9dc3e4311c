"""Which readings are credible: digits stand among digits, are written alike and with one pen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.components import medians
from edgecnn.handwriting.guesses import ONE, Guess

# What each piece of evidence is worth, in natural logarithms of the odds: a logistic regression on simulated sheets
# (`python -m benchmarks.fit_credibility` of 28 November 2026), without the constant.
EVIDENCE = {
    "probability": 0.79,  # the log odds of its largest probability, over those of the reject threshold
    "neighbours": 3.74,  # the mean sureness of the nearest guesses of like height
    "contrast": 1.89,  # its contrast, as a share of that of the sheet's ink
    "thinner": 2.13,  # the log of its pen's width over that of the nearest sure digits, where that is below 0
    "height": -1.15,  # how far the log of its height over theirs is from 0
    "one": -2.05,  # it reads as a 1, as any stroke does
    "holds": -0.53,  # how many other guesses stand within its box, 2 at most
    "sure": 4.66,  # the share of the sheet's guesses that are sure
    "digits": 0.53,  # the log of their number and one
}
# The constant: chosen so that three false reports come to two hundred digits of those sheets.
CONSTANT = -7.19
# Who is sure, who counts as another guess within a box, and who of the sure ones is asked.
_SURE, _INSIDE = 0.8, 0.5
_AROUND, _ASKED = 8, 5
# Letters with and without ascenders differ by less than this factor in height.
_ALIKE = 1.7
# Letters of a word stand nearer to each other than this share of their height.
_WORD_GAP = 0.4
# So many of them are a word, if their mean sureness is less than this.
_SHORTEST_WORD, _NO_WORD = 4, 0.4
# So much of a digit's box may lie in that of a larger digit (a 7 reaches over a 0).
_MOST_COVERED = 0.7
# Where so many readings reach the threshold, others need only this share of it: it was chosen for marks that stand alone.
_WITNESSES, _AMONG_WITNESSES = 3, 0.5


def credible(guesses: list[Guess], reject_threshold: float) -> NDArray[np.bool_]:
    """Tell for each guess that it is sure enough, and that nothing around it speaks against it."""
    accepted = sure_enough(guesses, reject_threshold)
    if accepted.any():
        evidence = weigh(guesses, reject_threshold)
        accepted &= sum(worth * evidence[name] for name, worth in EVIDENCE.items()) + CONSTANT > 0
        accepted &= _in_no_word(guesses)
        accepted &= _uncovered(guesses, accepted)
    return accepted


def sure_enough(guesses: list[Guess], reject_threshold: float) -> NDArray[np.bool_]:
    """Tell for each guess that it reaches the threshold: the whole of it alone, less of it among others that do."""
    sureness = np.array([one.sureness for one in guesses])
    alone = sureness >= reject_threshold
    if np.count_nonzero(alone) < _WITNESSES:
        return alone
    return sureness >= _AMONG_WITNESSES * reject_threshold


def weigh(guesses: list[Guess], reject_threshold: float) -> dict[str, NDArray[np.float64]]:
    """Return for each of one or more guesses what speaks for it, by the names of `EVIDENCE`."""
    boxes = np.array([one.region.box for one in guesses], np.float64)
    sureness = np.array([one.sureness for one in guesses])
    ones = np.array([one.class_id == ONE for one in guesses])
    log_height = np.log(boxes[:, 3])
    log_stroke = np.log(np.maximum([one.region.stroke for one in guesses], 0.1))
    sure = sureness >= _SURE
    away = _away(boxes)
    alike = np.abs(log_height[:, None] - log_height) < np.log(_ALIKE)
    digits = np.flatnonzero(sure & ~ones)
    asked = digits[np.argsort(away[:, digits], axis=1, kind="stable")[:, : min(_ASKED, max(len(digits) - 1, 1))]]
    return {
        "probability": _log_odds(sureness) - float(_log_odds(np.array(reject_threshold))),
        "neighbours": _mean_of_nearest(np.where(alike, away, np.inf), sureness),
        "contrast": np.minimum(_contrast_shares(guesses, sure), 1.0),
        "thinner": np.minimum(_over_median(log_stroke, asked), 0.0),
        "height": np.abs(_over_median(log_height, asked)),
        "one": ones.astype(np.float64),
        "holds": np.minimum(_held(boxes, sureness >= _INSIDE), 2).astype(np.float64),
        "sure": np.full(len(guesses), float(sure.mean())),
        "digits": np.full(len(guesses), float(np.log1p(np.count_nonzero(sure)))),
    }


def _log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(probability, 0.005, 0.995)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float64)


def _away(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the middles of boxes `(n, 4)` are from each other, along both axes, `(n, n)`; infinite from themselves."""
    middles = boxes[:, :2] + boxes[:, 2:] / 2
    away = np.abs(middles[:, None] - middles).sum(axis=2)
    np.fill_diagonal(away, np.inf)
    return np.asarray(away, np.float64)


def _mean_of_nearest(away: NDArray[np.float64], sureness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean sureness of the nearest guesses, 0 where there is none within reach."""
    nearest = np.argsort(away, axis=1, kind="stable")[:, :_AROUND]
    there = np.isfinite(np.take_along_axis(away, nearest, axis=1))
    return np.asarray((sureness[nearest] * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1), np.float64)


def _in_no_word(guesses: list[Guess]) -> NDArray[np.bool_]:
    """Tell for each guess that it does not stand in a line, as close as letters, most of which read badly: in a word."""
    if len(guesses) < _SHORTEST_WORD:
        return np.ones(len(guesses), np.bool_)
    sureness = np.array([one.sureness for one in guesses])
    line = _lines(np.array([one.region.box for one in guesses], np.float64))
    count = line.sum(axis=1)
    return np.asarray((count < _SHORTEST_WORD) | (line @ sureness >= _NO_WORD * count), np.bool_)


def _lines(boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Tell of boxes `(n, 4)` which `(n, n)` stand in one line with which, as close as letters; each with itself."""
    left, top, width, height = boxes.T
    gap = np.maximum(left[:, None], left) - np.minimum((left + width)[:, None], left + width)
    common = np.minimum((top + height)[:, None], top + height) - np.maximum(top[:, None], top)
    low, high = np.minimum(height[:, None], height), np.maximum(height[:, None], height)
    reached = (gap < _WORD_GAP * low) & (common > 0.4 * low) & (high < _ALIKE * low)
    while True:  # twice as far along the line with each round
        further = np.asarray((reached.astype(np.float32) @ reached) > 0, np.bool_)
        if np.array_equal(further, reached):
            return np.asarray(reached, np.int64)
        reached = further


def _contrast_shares(guesses: list[Guess], sure: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each guess's contrast as a share of the sheet's ink's: the median by area of what is sure, or else of all."""
    contrasts = np.array([one.region.contrast for one in guesses])
    areas = np.array([one.component.area for one in guesses]) * (sure if sure.any() else 1)
    order = np.argsort(contrasts, kind="stable")
    middle = order[int(np.searchsorted(np.cumsum(areas[order]), areas.sum() / 2))]
    return np.asarray(contrasts / max(float(contrasts[middle]), 1e-6), np.float64)


def _over_median(logs: NDArray[np.float64], asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return by how much each log is above the median of those that are asked `(n, k)`; 0 where nobody is."""
    return logs - medians(logs[asked]) if asked.size else np.zeros(len(logs))


def _within(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell of boxes `(n, 4)` which `(n, n)` lies for the most part in which larger one."""
    left, top, width, height = boxes.T
    right, bottom, area = left + width, top + height, width * height
    common_x = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    common_y = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    covered = np.maximum(common_x, 0) * np.maximum(common_y, 0) > _MOST_COVERED * area[:, None]
    return np.asarray(covered & (area > area[:, None]), np.bool_)


def _held(boxes: NDArray[np.float64], who: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.asarray(np.count_nonzero(_within(boxes) & who[:, None], axis=0), np.int64)


def _uncovered(guesses: list[Guess], accepted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell for each guess that it does not lie for the most part in the box of a larger one: digits stand side by side.

    What holds several others is none itself, but what is left of a frame round them.
    """
    within = _within(np.array([one.region.box for one in guesses], np.float64)) & accepted[:, None] & accepted
    frames = np.count_nonzero(within, axis=0) > 1
    return np.asarray(~frames & ~(within & ~frames).any(axis=1), np.bool_)
