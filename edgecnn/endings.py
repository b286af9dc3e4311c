"""What another tool's model gives (probabilities, logits, one sigmoid), and how probabilities `(n, classes)` come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.quick_dataclass import dataclass

Head = Literal["probabilities", "logits", "probability", "logit"]
# The layer that makes 1 - p and p of p; folding knows it by this name.
TWO_CLASSES = "two_classes"


@dataclass(frozen=True)
class Ending:
    """What a model gives: `head` says what its numbers are, `note` what is done about it, None where nothing is."""

    head: Head = "probabilities"
    note: str | None = None

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map what the model gave `(n, k)` to probabilities `(n, classes)`."""
        if self.head == "probabilities":
            return scores
        if self.head == "probability":
            return np.concatenate([1 - scores, scores], axis=1)
        if self.head == "logit":
            scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def find_ending(scores: NDArray[np.float32], last: str | None, labels: Sequence[str], *, rounded: bool = False) -> Ending:
    """Tell what a model gives by `scores` `(n, k)` of some pictures, `rounded` to eight bits or not, and its last activation.

    `last` is `softmax`, `sigmoid` or `linear`; None where it is another or cannot be seen. Raises InputError when the scores
    can be no probabilities of `labels`, nor be turned into them.
    """
    outputs = scores.shape[1]
    if not np.isfinite(scores).all():
        raise InputError("it gives answers that are not numbers (NaN or infinite); train it again")
    within = bool((scores >= -1e-6).all() and (scores <= 1 + 1e-6).all())
    if outputs == 1 and len(labels) == 2:
        if last == "sigmoid" or (last != "linear" and within):
            return Ending("probability", f"its one output is taken for the probability of {labels[1]} (the second label)")
        return Ending("logit", f"its one output is taken for the logit of {labels[1]} (the second label): a sigmoid follows")
    if outputs != len(labels):
        given = "1 output, which serves two classes," if outputs == 1 else f"{outputs} classes,"
        raise InputError(f"it has {given} but {len(labels)} labels: {', '.join(labels)}")
    # The tolerance: of eight bits each score may be rounded by half a level of 1/256.
    if within and (last == "softmax" or np.allclose(scores.sum(axis=1), 1, atol=outputs / 512 if rounded else 1e-3)):
        return Ending()
    if last == "sigmoid" or (within and last != "linear"):
        raise InputError(
            "it gives each class a probability of its own (sigmoid), so that several may be true at once; "
            "end the model in a softmax: exactly one class is true here"
        )
    return Ending("logits", "its outputs are logits, not probabilities: a softmax follows")
