"""What an epoch trains on: the training pictures and, for digits, what a camera would make of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import InputError
from edgecnn_export.training.batches import one_hot

Pictures = tuple[NDArray[np.uint8], NDArray[np.float32]]


class TrainingPictures:
    """The training pictures and `simulated` x n of them seen as through a camera, in `simulations` versions.

    Epochs take turns at the versions: each has other pictures, pens, papers and handwritings, and other things that are no
    digits. A version is drawn when its first epoch begins and then kept, since that takes longer than an epoch. It depends on
    the seed and its own number only, so that a resumed training sees what an uninterrupted one would have seen.
    """

    def __init__(self, train: Dataset, classes: int, *, simulated: float, simulations: int, seed: int) -> None:
        """Raise InputError unless `simulated` is 0 to 1 and `simulations` at least 1."""
        if not 0 <= simulated <= 1:
            raise InputError(f"simulated must be a share of the training pictures, 0 to 1, got {simulated}")
        if simulations < 1:
            raise InputError(f"simulations must be at least 1, got {simulations}")
        self._train, self._targets = train, one_hot(train.class_ids, classes)
        self._simulated, self._simulations, self._seed = simulated, simulations, seed
        self._drawn: dict[int, Pictures] = {}

    def of_epoch(self, epoch: int) -> Pictures:
        """Return pictures `(m, h, w, c)` and targets `(m, classes)` of `epoch`, counted from 0."""
        if self._simulated == 0:
            return self._train.images, self._targets
        version = epoch % self._simulations
        if version not in self._drawn:
            self._drawn[version] = self._simulation(version)
        images, targets = self._drawn[version]
        return np.concatenate([self._train.images, images]), np.concatenate([self._targets, targets])

    def _simulation(self, version: int) -> Pictures:
        from edgecnn.finding.simulation import simulate_training_set

        seeds = np.random.SeedSequence((self._seed, version)).generate_state(2)
        count = round(self._simulated * len(self._train))
        chosen = np.random.default_rng(seeds[0]).permutation(len(self._train))[:count]
        return simulate_training_set(self._train.images[chosen, :, :, 0], self._train.class_ids[chosen], int(seeds[1]))
