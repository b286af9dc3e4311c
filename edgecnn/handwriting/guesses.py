"""What the classifier takes components for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.handwriting.components import WIDEST, Component
from edgecnn.handwriting.regions import DigitRegion, Sheet
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


def guess_all(sheet: Sheet, components: Sequence[Component], runtime: Runtime, *, cut: bool = False) -> list[Guess]:
    """Classify components of a sheet in one batch."""
    if not components:
        return []
    regions = sheet.regions(components)
    probabilities = runtime.run(np.stack([region.form for region in regions])[..., None])
    class_ids, sureness = probabilities.argmax(axis=1).tolist(), probabilities.max(axis=1).tolist()
    return [
        Guess(part, region, row, class_id, sure if part.aspect <= WIDEST else 0.0, cut)
        for part, region, row, class_id, sure in zip(components, regions, probabilities, class_ids, sureness, strict=True)
    ]
