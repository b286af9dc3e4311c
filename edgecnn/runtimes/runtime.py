"""What every runtime is to its users."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import TensorSpec
from edgecnn.errors import InferenceError, ShapeError
from edgecnn.quick_dataclass import dataclass


class Runtime(Protocol):
    """Runs one model; quantization hides inside."""

    @property
    def name(self) -> str:
        """Return who executes the model, with its version: `ai-edge-litert 2.3.0`."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`, all finite; InferenceError otherwise."""


RUN_BATCH = 256  # pictures that are in memory as features at once
_FEW_NUMBERS = 64
_MOST_PLACES = 2**23


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of a batch: `probabilities` `(n, classes)` float32, and the features that they were made of.

    `values` are the features as the model gives them, `(n, h, w, channels)` or `(n, channels)`, quantized as `spec` says; both
    are None where the model gives none. `graph` are the probabilities of the model's own softmax, `(n, classes)`, where
    `probabilities` were computed from the features.
    """

    probabilities: NDArray[np.float32]
    values: NDArray[Any] | None = None
    spec: TensorSpec | None = None
    graph: NDArray[np.float32] | None = None

    @property
    def features(self) -> NDArray[np.float32] | None:
        """The features in real numbers, `(n, h, w, channels)` or `(n, channels)` float32."""
        if self.values is None or self.spec is None or self.spec.scale is None:
            return self.values
        zero_point = np.int32(self.spec.zero_point or 0)
        return np.asarray((self.values.astype(np.int32) - zero_point) * np.float32(self.spec.scale), np.float32)

    def answered(self, probabilities: NDArray[np.float32]) -> Answers:
        """Return the same features with probabilities that were computed from them; the model's own become or stay `graph`."""
        other = Answers(probabilities, self.values, self.spec, self.probabilities if self.graph is None else self.graph)
        for name in vars(self).keys() - vars(other).keys():  # the sums need not be computed again
            vars(other)[name] = vars(self)[name]
        return other

    def only(self, index: int) -> Answers:
        """Return what is said of one picture of the batch, as a batch of one."""
        one = slice(index, index + 1)
        rows = [None if each is None else each[one] for each in (self.values, self.graph)]
        return Answers(self.probabilities[one], rows[0], self.spec, rows[1])

    @property
    def places(self) -> int:
        """How many places the features are of: `h * w` of a map, 1 of a vector."""
        return 1 if self.values is None else math.prod(self.values.shape[1:-1])

    @cached_property
    def sums(self) -> NDArray[np.int64] | None:
        """The sum of quantized features over all places, `(n, channels)`, in steps of their scale; None of floats."""
        if self.values is None or self.spec is None or self.spec.scale is None:
            return None
        values = self.values.reshape(len(self.values), self.places, self.values.shape[-1])
        # Of a map of bytes 32 bits hold the sum, which take half the time.
        fits = values.itemsize == 1 and self.places < _MOST_PLACES
        sums = np.add.reduce(values, axis=1, dtype=np.int32 if fits else np.int64)
        return np.asarray(np.subtract(sums, self.places * (self.spec.zero_point or 0), dtype=np.int64))

    @cached_property
    def pooled(self) -> NDArray[np.float64] | None:
        """The mean of the features over all places, `(n, channels)`; of integers it is the same on every machine."""
        if self.values is None or self.spec is None:
            return None
        sums = self.sums
        if sums is not None:
            return np.asarray(sums * ((self.spec.scale or 1.0) / self.places), np.float64)
        values = self.values.reshape(len(self.values), self.places, self.values.shape[-1])
        return np.asarray(values.mean(axis=1, dtype=np.float64))


class FeatureRuntime(Protocol):
    """A runtime whose model gives features beside its probabilities."""

    @property
    def name(self) -> str:
        """Return who executes the model, with its version: `ai-edge-litert 2.3.0`."""

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images to probabilities, as every runtime does."""

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Map images `(n, height, width, channels)` to probabilities and features."""


def answer(runtime: Runtime, images: NDArray[np.uint8]) -> Answers:
    """Return what a runtime says of images, without features where it gives none."""
    # Not by isinstance: a protocol takes longer for that than a small model's last layers do.
    asked: Callable[[NDArray[np.uint8]], Answers] | None = getattr(runtime, "answer", None)
    return Answers(runtime.run(images)) if asked is None else asked(images)


def answer_slices(runtime: Runtime, images: NDArray[np.uint8]) -> Iterator[Answers]:
    """Yield what a runtime says of `(n, h, w, c)` uint8 in slices: the features of all do not fit into memory."""
    for part in _slices(images):
        yield answer(runtime, part)


def run_all(
    runtime: Runtime, images: NDArray[np.uint8], *, progress: Callable[[int], None] | None = None
) -> NDArray[np.float32]:
    """Run `(n, h, w, c)` uint8 in slices and return `(n, classes)`; `progress` is called with the number of pictures done."""
    parts, done = [], 0
    for part in _slices(images):
        parts.append(runtime.run(part))
        done += len(part)
        if progress is not None:
            progress(done)
    return np.concatenate(parts)


def _slices(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    from edgecnn.mapped import let_go  # not for a camera's start

    for at in range(0, len(images), RUN_BATCH):
        yield images[at : at + RUN_BATCH]
        let_go()


def check_answers(probabilities: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Return `(n, classes)` as they are; InferenceError, naming the runtime, when one is NaN or infinite: not an answer."""
    if not _are_finite(probabilities):
        bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise InferenceError(
            f"the model's answer is not a number (NaN or infinite) for {bad} of {len(probabilities)} on {name}"
        )
    return probabilities


def _are_finite(numbers: NDArray[np.float32]) -> bool:
    if numbers.size > _FEW_NUMBERS:
        return bool(np.isfinite(numbers).all())
    return all(map(math.isfinite, numbers.ravel().tolist()))  # in less time than NumPy's calls take


def check_images(images: NDArray[np.uint8], shape: tuple[int | None, ...]) -> None:
    """Raise ShapeError unless `images` is `(n, *shape)` uint8."""
    if images.ndim != 4 or images.shape[1:] != shape or images.dtype != np.uint8:
        wanted = ", ".join(str(side) for side in shape)
        raise ShapeError(f"expected images (n, {wanted}) uint8, got {images.shape} {images.dtype}")
