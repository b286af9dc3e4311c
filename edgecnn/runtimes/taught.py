"""Classes that were taught after the export: by the distance of a picture's features to centres, without another training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import Contract
from edgecnn.errors import ContractError
from edgecnn.runtimes.head import HeadRuntime, as_compared, distances, read_centres
from edgecnn.runtimes.runtime import Answers

_DECIMALS = 6  # as those of the head


class TaughtRuntime:
    """A runtime with the classes that were taught to it: a picture nearer to what was taught of a class goes over to it.

    What the head says is left as it is for pictures that are like nothing that was taught, so that nothing is forgotten.
    """

    def __init__(self, head: HeadRuntime, contract: Contract) -> None:
        """Take the head's answers; ContractError when the contract's centres are no such thing."""
        assert contract.evidence is not None
        self.name = head.name
        self._head, self._taught, self._classes = head, contract.taught, len(contract.labels)
        self._centres = read_centres(contract.evidence, len(head.weights))
        self._root = contract.evidence.root
        self._owners = np.array(contract.evidence.centre_classes)
        if len(self._owners) != len(self._centres):
            raise ContractError(f"{len(self._centres)} centres do not go with {len(self._owners)} classes of them")
        self._own = self._taught_centres(contract.labels)
        self.weights = self._with_directions(head.weights)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`."""
        return self.answer(images).probabilities

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Map images `(n, height, width, channels)` to probabilities and features."""
        found = self._head.answer(images)
        pooled = found.pooled
        assert pooled is not None
        known = found.probabilities.astype(np.float64)
        probabilities = np.concatenate([known, np.zeros((len(known), self._classes - known.shape[1]))], axis=1)
        gaps = distances(as_compared(pooled, self._root), self._centres)
        for class_id, (own, softness) in self._own.items():
            nearer = gaps[:, self._owners != class_id].min(axis=1) - gaps[:, own].min(axis=1)
            share = 1 / (1 + np.exp(-np.clip(nearer / softness, -50, 50)))
            probabilities *= 1 - share[:, None]
            probabilities[:, class_id] += share
        return found.answered(np.asarray(np.round(probabilities, _DECIMALS), np.float32))

    def _taught_centres(self, labels: tuple[str, ...]) -> dict[int, tuple[NDArray[np.int64], float]]:
        """Return of each taught class which centres were taught, and how soft its border is."""
        at = len(self._owners) - sum(each.centres for each in self._taught)
        found: dict[int, tuple[NDArray[np.int64], float]] = {}
        for each in self._taught:
            class_id, own = labels.index(each.label), np.arange(at, at + each.centres)
            if not (self._owners[own] == class_id).all() or (self._owners == class_id).all():
                raise ContractError(f"the centres that {each.label!r} was taught by are of another class")
            before, _ = found.get(class_id, (own[:0], 0.0))
            found[class_id] = np.concatenate([before, own]), each.softness
            at += each.centres
        return found

    def _with_directions(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the head's weights with a column per new class, for maps: from the middle of the others to its own centres."""
        columns = [
            self._centres[own].mean(axis=0) - self._centres[self._owners != class_id].mean(axis=0)
            for class_id, (own, _) in self._own.items()
            if class_id >= weights.shape[1]
        ]
        return np.column_stack([weights, *columns])
