"""Fit what each piece of evidence is worth that a place is a digit: `python -m benchmarks.fit_credibility [SHEETS]`.

A logistic regression on simulated sheets, SHEETS (default 60) of each layout, with digits of MNIST's training split where it
is found and drawn ones elsewhere. Prints `EVIDENCE` and `CONSTANT` of `edgecnn.handwriting.credibility`. Real photographs are
not looked at: they judge.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.datasets.load import find_data, load_splits
from edgecnn.datasets.synthetic.handwritten_sheets import LAYOUTS, Digits, SimulatedSheet, pick_digits, simulate_sheet
from edgecnn.datasets.synthetic.school_digits import draw_handwritten
from edgecnn.handwriting.credibility import EVIDENCE, sure_enough, weigh
from edgecnn.handwriting.evaluation import PRINTED
from edgecnn.handwriting.guesses import Guess, Guesser
from edgecnn.handwriting.reader import guess_at_all
from edgecnn.shipped import find_task

SHEETS, SEED = 60, 20261128
# False reports per true digit at which the constant is set, and the strength of the ridge that keeps the weights small.
WANTED_FALSE, RIDGE = 0.015, 1.0
Samples = tuple[NDArray[np.float64], NDArray[np.bool_]]


def digits_to_draw() -> Digits:
    """Return MNIST's training digits where they are found, or else drawn ones."""
    folder = find_data("mnist")
    if folder is None:
        return draw_handwritten
    train = load_splits(find_task("mnist"), folder, 0).train
    return pick_digits(np.asarray(train.images[..., 0]), train.class_ids)


def truth(guesses: list[Guess], sheet: SimulatedSheet) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell for each guess whether a digit stands there, and whether it counts at all: print does not."""
    holding = [[box for box in sheet.boxes if box.holds(guess.region.box)] for guess in guesses]
    counts = [all(box.kind != PRINTED for box in boxes) for boxes in holding]
    return np.array([bool(boxes) for boxes in holding], bool), np.array(counts, bool)


def collect(sheets: int) -> tuple[Samples, int]:
    """Return the evidence `(n, k)` of all places that are sure enough, which are digits, and how many digits there are."""
    classifier, digits = Classifier.open("mnist"), digits_to_draw()
    threshold, guess = classifier.reject_threshold or 0.5, Guesser(classifier.runtime)
    rows, rights, count = [], [], 0
    for layout_id, layout in enumerate(LAYOUTS):
        for number in range(sheets):
            rng = np.random.default_rng([SEED, layout_id, number])
            # Half of the sheets hold only one to four digits: those have few neighbours to speak for them.
            few = int(rng.integers(1, 5)) if number % 2 else None
            sheet = simulate_sheet(layout, rng, digits=digits, count=few)
            count += sum(box.kind != PRINTED for box in sheet.boxes)
            guesses = guess_at_all(sheet.image_bgr, guess)
            accepted = sure_enough(guesses, threshold)
            if accepted.any():
                evidence = weigh(guesses, threshold)
                right, counts = truth(guesses, sheet)
                kept = accepted & counts
                rows.append(np.stack([evidence[name] for name in EVIDENCE], axis=1)[kept])
                rights.append(right[kept])
    return (np.concatenate(rows), np.concatenate(rights)), count


def fit(samples: Samples) -> NDArray[np.float64]:
    """Return the weights of the evidence and the constant, by Newton's method."""
    evidence, right = np.column_stack([samples[0], np.ones(len(samples[0]))]), samples[1]
    ridge = RIDGE * np.diag(np.append(np.ones(evidence.shape[1] - 1), 0.0))
    weights = np.zeros(evidence.shape[1])
    for _ in range(30):
        probability = 1 / (1 + np.exp(-evidence @ weights))
        slope = evidence.T @ (right - probability) - ridge @ weights
        curvature = (evidence * (probability * (1 - probability))[:, None]).T @ evidence + ridge
        weights = weights + np.linalg.solve(curvature, slope)
    return np.asarray(weights, np.float64)


def constant(weights: NDArray[np.float64], samples: Samples, digits: int) -> float:
    """Return the constant at which no more false reports are accepted than are wanted for so many digits."""
    wrong = np.sort(samples[0][~samples[1]] @ weights[:-1])[::-1]
    allowed = round(WANTED_FALSE * digits)
    return -float(wrong[allowed]) if allowed < len(wrong) else -float(wrong[-1]) + 1.0


def main() -> None:
    """Fit and print."""
    samples, digits = collect(int(sys.argv[1]) if len(sys.argv) > 1 else SHEETS)
    weights = fit(samples)
    for name, worth in zip(EVIDENCE, weights, strict=False):
        print(f"{name}: {worth:.2f}")
    chosen = constant(weights, samples, digits)
    score = samples[0] @ weights[:-1] + chosen
    print(f"constant: {chosen:.2f} (of the regression itself: {weights[-1]:.2f})")
    kept, false = np.mean(score[samples[1]] > 0), np.count_nonzero(score[~samples[1]] > 0) / digits
    print(f"{digits} digits; {100 * kept:.1f} % of what is sure enough is kept, {100 * false:.2f} % false reports per digit")


if __name__ == "__main__":
    main()
