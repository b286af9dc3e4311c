"""Reading a sheet: every place is classified, and the classifier decides what joining, splitting and shape cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.credibility import credible, sure_enough
from edgecnn.handwriting.guesses import Guess, Guesser
from edgecnn.handwriting.memory import Memory
from edgecnn.handwriting.pieces import with_joins, with_splits
from edgecnn.handwriting.regions import DigitRegion, gray_of
from edgecnn.handwriting.steps import ALL_STEPS, Steps
from edgecnn.handwriting.survey import survey
from edgecnn.runtimes.runtime import Runtime


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


def read_digits(
    image_bgr: NDArray[np.uint8],
    runtime: Runtime,
    reject_threshold: float,
    steps: Steps = ALL_STEPS,
    memory: Memory | None = None,
) -> list[DigitReading]:
    """Find and read the handwritten digits of a picture `(h, w, 3)` uint8 BGR, from top to bottom.

    `runtime` is an MNIST model. What it gives less than `reject_threshold` to (among other digits: less than half of it), and
    what stands in a word, is returned with `class_id` None. A `memory` of the same scene knows what need not be classified
    again. Raises ShapeError for another array.
    """
    with same_code_everywhere():
        return _read(image_bgr, Guesser(runtime, memory), reject_threshold, steps)


@contextmanager
def same_code_everywhere() -> Iterator[None]:
    """Let OpenCV run its own code, as on ARM, in place of Intel's: a call of that may cost more than the work it does."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)  # for this thread
    try:
        yield
    finally:
        cv2.ipp.setUseIPP(before)


def guess_at_all(image_bgr: NDArray[np.uint8], guess: Guesser, steps: Steps = ALL_STEPS) -> list[Guess]:
    """Return what all places of a picture are taken for, from top to bottom, however doubtful."""
    sheet, guesses = survey(gray_of(image_bgr), guess, steps)
    if steps.joining:
        guesses = with_joins(sheet, guesses, guess)
    if steps.splitting:
        guesses = with_splits(sheet, guesses, guess)
    return sorted(guesses, key=lambda one: (one.region.box[1], one.region.box[0]))


def _read(image_bgr: NDArray[np.uint8], guess: Guesser, reject_threshold: float, steps: Steps) -> list[DigitReading]:
    guesses = guess_at_all(image_bgr, guess, steps)
    accepted = credible(guesses, reject_threshold) if steps.reject else sure_enough(guesses, 1e-6)
    return [
        DigitReading(one.region, one.probabilities, one.class_id if ok else None)
        for one, ok in zip(guesses, accepted, strict=True)
    ]
