"""Is a cascade worth it: a small network on every picture, a large one where the small is unsure or finds it novel?

python -m benchmarks.cascade SMALL LARGE        # two int8 files of one task, such as neu and exports/neu-lite/neu-int8.tflite

Prints, for clean validation pictures and under camera corruptions of severity 3, in percent: the most probable class right by
the small network, the large one and both in a cascade; pictures that get a label; those that get a wrong one; and pictures that
the large network has to look at, which is what a cascade costs.
"""

from __future__ import annotations

import click
import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.rejection.evidence import run_with_features
from edgecnn.robustness.corruptions import corrupt, corruptions_for
from edgecnn.text import aligned
from edgecnn_export.models import open_model

SEVERITY, SEED = 3, 0
_WHO = ("small", "large", "both")
HEADER = ("pictures", *(f"{what}: {who}" for what in ("right", "label", "wrong") for who in _WHO), "to large")


def ask(
    classifier: Classifier, images: NDArray[np.uint8], class_ids: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return of images `(n, h, w, c)` which are classified correctly, and which get a label, both `(n,)`."""
    answers = classifier.interpret_all(run_with_features(classifier.runtime, images))
    right = np.array([answer.class_id for answer in answers]) == class_ids
    return right, np.array([answer.verdict == "label" for answer in answers])


def shares(
    small: Classifier, large: Classifier, images: NDArray[np.uint8], class_ids: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the figures of HEADER, in percent."""
    (right, label), (large_right, large_label) = (ask(each, images, class_ids) for each in (small, large))
    both, both_label = np.where(label, right, large_right), label | large_label
    rows = [right, large_right, both, label, large_label, both_label, label & ~right, large_label & ~large_right]
    return 100 * np.array([row.mean() for row in (*rows, both_label & ~both, ~label)])


@click.command()
@click.argument("small")
@click.argument("large")
def main(small: str, large: str) -> None:
    """Compare the small network, the large one, and both in a cascade, on the validation pictures of the small one."""
    opened = open_model(small)
    validation = opened.splits(None, SEED).validation
    pair = Classifier.open(small), Classifier.open(large)
    found = {"clean": shares(*pair, validation.images, validation.class_ids)}
    for corruption in corruptions_for(opened.task):
        seen = corrupt(validation.images, corruption, SEVERITY, SEED)
        found[corruption.name] = shares(*pair, seen, validation.class_ids)
    found["mean of the corruptions"] = np.mean([row for name, row in found.items() if name != "clean"], axis=0)
    rows = [[name, *(f"{value:.1f}" for value in row)] for name, row in found.items()]
    click.echo("\n".join(aligned([list(HEADER), *rows])))


if __name__ == "__main__":
    main()
