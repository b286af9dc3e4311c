"""What the classifier takes components for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.components import WIDEST, Component
from edgecnn.handwriting.memory import Answer, Memory
from edgecnn.handwriting.regions import DigitRegion, Setting, Sheet
from edgecnn.runtimes.runtime import Runtime

# Above this probability nobody looks for a better reading; under the other one a better reading is none.
SURE, UNSURE = 0.95, 0.5
# Any stroke looks like a 1.
ONE = 1


@dataclass(frozen=True, eq=False)
class Guess:
    """What a component is taken for: `probabilities` `(10,)` float32 of the classes; `cut` where it was cut off another one."""

    component: Component
    region: DigitRegion
    probabilities: NDArray[np.float32]
    class_id: int
    sureness: float  # the largest probability, 0 for what is wider than any digit
    cut: bool = False


class Guesser:
    """Classifies the components of one picture's sheets, one batch a call, and each component of a sheet once.

    What a memory of the frames before knows is not classified again either.
    """

    def __init__(self, runtime: Runtime, memory: Memory | None = None) -> None:
        """Take a runtime of an MNIST model."""
        self._runtime, self._memory = runtime, memory
        # With the component, whose id is another's as soon as nobody holds it.
        self._known: dict[tuple[int, Setting], tuple[Component, Answer]] = {}

    def __call__(self, sheet: Sheet, components: Sequence[Component], *, cut: bool = False) -> list[Guess]:
        """Classify components of a sheet; `cut` says that they were cut off others."""
        new = [part for part in components if (id(part), sheet.setting) not in self._known]
        for part, answer in zip(new, self._remembered(sheet, new), strict=True):
            self._known[id(part), sheet.setting] = part, answer
        answers = [self._known[id(part), sheet.setting][1] for part in components]
        return [
            Guess(part, region, row, class_id, sure if part.aspect <= WIDEST else 0.0, cut)
            for part, (region, row, class_id, sure) in zip(components, answers, strict=True)
        ]

    def _remembered(self, sheet: Sheet, components: Sequence[Component]) -> list[Answer]:
        """Return what components are taken for, now or in the frame before."""
        if self._memory is None:
            return self._answers(sheet, components)
        known = self._memory.recall(sheet, components)
        fresh = iter(self._answers(sheet, [part for part, old in zip(components, known, strict=True) if old is None]))
        answers = [next(fresh) if old is None else old for old in known]
        self._memory.keep(sheet, components, answers)
        return answers

    def _answers(self, sheet: Sheet, components: Sequence[Component]) -> list[Answer]:
        if not components:
            return []
        regions = sheet.regions(components)
        probabilities = self._runtime.run(np.stack([region.form for region in regions])[..., None])
        class_ids, sureness = probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).tolist()
        return list(zip(regions, probabilities, class_ids, sureness, strict=True))
