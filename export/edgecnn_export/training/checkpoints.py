"""Checkpoints: all that a training needs to go on as if it had never stopped, in one file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.files import replacing
from edgecnn.runtimes.tflite import first_line

_PARTS = ("weights", "best_weights", "optimizer", "average")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after some whole epochs.

    `settings` says which training it is, `history` has one entry an epoch, `weights`, `best_weights` and `optimizer` are the
    variables of the model, of the best epoch and of the optimizer, in Keras' order; `average` are the averaged ones of the
    network, empty where none are averaged.
    """

    settings: dict[str, Any]
    history: list[dict[str, float]]
    weights: list[NDArray[Any]]
    best_weights: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    average: list[NDArray[Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        about = json.dumps({"settings": self.settings, "history": self.history, "digest": self._digest()})
        parts = {name: getattr(self, name) for name in _PARTS}
        arrays: dict[str, Any] = {f"{name}_{i:04d}": array for name, part in parts.items() for i, array in enumerate(part)}
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez(file, about=np.frombuffer(about.encode(), np.uint8), **arrays)

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read a checkpoint; InputError when there is none or it is damaged."""
        if not path.is_file():
            raise InputError(f"no checkpoint in {path.parent}; leave --resume out to start there")
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                about = json.loads(file["about"].tobytes())
                parts = {
                    part: [file[name] for name in sorted(file.files) if name.rpartition("_")[0] == part] for part in _PARTS
                }
            checkpoint = cls(about["settings"], about["history"], **parts)
            if about.get("digest", found := checkpoint._digest()) != found:
                raise ValueError("its arrays are not those that were written")
            return checkpoint
        except Exception as error:  # whatever damaged bytes make zipfile and NumPy stumble over
            raise InputError(f"the checkpoint {path} is damaged ({first_line(error)}); delete it to start over") from error

    def _digest(self) -> str:
        """Return the SHA-256 of all arrays: the checksums of a ZIP do not tell when its directory lost an entry."""
        digest = hashlib.sha256()
        for part in (getattr(self, name) for name in _PARTS):
            digest.update(f"{len(part)} ".encode())
            for array in part:
                digest.update(f"{array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def check(self, settings: dict[str, Any], path: Path) -> None:
        """Raise InputError naming the first setting in which this checkpoint is another training's."""
        for name, wanted in settings.items():
            if (found := self.settings.get(name)) != wanted:
                label = name.replace("_", " ")
                raise InputError(f"cannot resume {path}: its {label} is {found!r}, this training's is {wanted!r}")

    def restore(self, model: keras.Model) -> None:
        """Put weights and optimizer variables into a compiled model of the same structure.

        An optimizer has made its moments only after its first step, which comes after the last layer was fitted.
        """
        model.set_weights(self.weights)
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(model.optimizer.variables[: len(self.optimizer)], self.optimizer, strict=True):
            variable.assign(value)


def optimizer_state(model: keras.Model) -> list[NDArray[Any]]:
    """Return the optimizer's variables as arrays, in Keras' order."""
    return [variable.numpy() for variable in model.optimizer.variables]
