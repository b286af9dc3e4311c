"""How long a training may take: a number of epochs, or as many as fit into some minutes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecnn.errors import InputError
from edgecnn_export.training.checkpoints import Checkpoint
from edgecnn_export.training.recipes import Recipe

SLOW_START = 0.3  # of the learning rate in the first epoch, where the last layer is new
RISING = 0.05  # by this share the last quarter of the epochs must have lowered the loss for more to be worth a try


@dataclass(frozen=True)
class Budget:
    """`minutes` from `began` on the clock; None for a training of a fixed number of epochs."""

    minutes: float | None
    began: float
    clock: Callable[[], float]

    @classmethod
    def of(cls, minutes: float | None, epochs: int | None, checkpoint: Checkpoint | None, clock: Callable[[], float]) -> Budget:
        """Start the clock; a resumed training has the minutes that it had. InputError for minutes beside epochs, or none."""
        if minutes is not None and epochs is not None:
            raise InputError("--minutes decides the number of epochs; give it or --epochs")
        if minutes is not None and not 0 < minutes < math.inf:
            raise InputError(f"--minutes must be above 0, got {minutes}")
        kept = None if checkpoint is None else checkpoint.settings.get("minutes")
        if checkpoint is not None and minutes not in (None, kept):
            given = "a number of epochs" if kept is None else f"{kept:g} minutes"
            raise InputError(f"the training to resume was given {given}; leave --minutes out")
        return cls(minutes if checkpoint is None else kept, clock(), clock)

    def fitted(self, recipe: Recipe) -> Recipe:
        """Return the recipe in the form that leaves its number of epochs open where minutes decide it."""
        return recipe if self.minutes is None else dataclasses.replace(recipe, by_epoch=True)

    def left(self) -> float:
        """Return the seconds that are left, infinite for a fixed number of epochs."""
        return math.inf if self.minutes is None else 60 * self.minutes - (self.clock() - self.began)

    def epochs(self, seconds_per_epoch: float, reserve: float, at_most: int) -> int:
        """Return how many epochs there will be in all after a first one; `reserve` seconds stay unused."""
        more = (self.left() - reserve) / max(seconds_per_epoch, 1e-3)
        return int(min(max(1 + more, 1), at_most))


def startup_seconds(began: float, first_end: float, ended: float, batches: int) -> float:
    """Return how much longer the first batch of an epoch took than the others did on average, 0 for a single batch.

    `began`, `first_end` and `ended` are times in seconds. The first batch of a training builds and traces the network.
    """
    usual = (ended - first_end) / (batches - 1) if batches > 1 else first_end - began
    return max(first_end - began - usual, 0.0)


def learning_rate(recipe: Recipe, epoch: int, epochs: int | None) -> float:
    """Return the rate of `epoch`, counted from 0: slow in the first, then falling along a cosine to next to nothing."""
    if epoch == 0 or epochs is None:
        return recipe.learning_rate * SLOW_START
    return recipe.learning_rate * (1 + math.cos(math.pi * (epoch + 0.5) / epochs)) / 2


def still_rising(losses: Sequence[float]) -> bool:
    """Tell whether the last quarter of a training's epochs, by their validation losses in order, brought much on top."""
    last = max(1, len(losses) // 4)
    return len(losses) > 1 and min(losses[-last:]) < (1 - RISING) * min(losses[:-last])


def duration(seconds: float) -> str:
    """Return a time to wait in words: `40 s`, `3 min`, `1 h 5 min`."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
