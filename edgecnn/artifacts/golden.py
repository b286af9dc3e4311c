"""Golden vectors: generated inputs and the answers expected of them, the parity check that a board can run by itself.

The inputs are made with integers only, so that every processor and NumPy version makes the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import GoldenVectors
from edgecnn.errors import ContractError

COUNT = 8
CANDIDATES = 96


def make_input(seed: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Make one input `(height, width, channels)` uint8: smoothed noise, bars and blocks over a slope, by integers only.

    NumPy freezes the stream of RandomState (NEP 19), unlike that of Generator.
    """
    random = np.random.RandomState(seed)
    height, width, channels = shape
    # int32: a camera makes these at its start, and wider integers take twice as long.
    rows, columns = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]
    level, contrast = random.randint(20, 200), random.randint(0, 90)
    slope_y, slope_x = random.randint(-60, 61), random.randint(-60, 61)
    noise = random.randint(-128, 128, (height, width)).astype(np.int32)
    for _ in range(random.randint(0, 4)):  # each pass averages 2 x 2 and doubles: the grain grows, the contrast stays
        noise += np.roll(noise, 1, axis=1)
        noise += np.roll(noise, 1, axis=0)
        noise >>= 1
    image = level + (slope_y * rows) // height + (slope_x * columns) // width + ((contrast * noise) >> 7)
    for _ in range(random.randint(0, 6)):
        top, left = random.randint(0, height), random.randint(0, width)
        size_y, size_x = random.randint(1, height // 2 + 2), random.randint(1, width // 4 + 2)
        lean = random.randint(-3, 4)
        reached = slice(top, top + size_y)
        inside = abs(4 * (columns - left) - lean * (rows[reached] - top)) < 2 * size_x
        image[reached] += random.randint(-180, 181) * inside
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[:, :, None], channels, axis=2)


def make_inputs(seeds: Sequence[int], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Make the inputs of `seeds` as one batch `(n, height, width, channels)` uint8."""
    return np.stack([make_input(seed, shape) for seed in seeds])


def choose_seeds(run: Callable[[NDArray[np.uint8]], NDArray[np.float32]], shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Choose COUNT seeds whose inputs get as many different answers from the reference model `run` as possible.

    Swapped labels show only where different classes win, and a wrong scale where the answer is not saturated: of each class
    the least certain input is taken first.
    """
    probabilities = run(make_inputs(range(CANDIDATES), shape))
    winners, certainty = probabilities.argmax(axis=1), probabilities.max(axis=1)
    ranked = sorted(range(CANDIDATES), key=lambda seed: float(certainty[seed]))
    chosen: list[int] = []
    while len(chosen) < COUNT:
        seen: set[int] = set()
        for seed in ranked:
            if seed not in chosen and int(winners[seed]) not in seen:
                seen.add(int(winners[seed]))
                chosen.append(seed)
    return tuple(chosen[:COUNT])


def inputs_digest(inputs: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of the inputs' bytes."""
    return hashlib.sha256(np.ascontiguousarray(inputs).data).hexdigest()


@dataclass(frozen=True, eq=False)
class GoldenReport:
    """How a machine answered the golden vectors: `difference` `(n,)` is the largest probability difference of each."""

    difference: NDArray[np.float64]
    same_answer: NDArray[np.bool_]
    tolerance: float

    @property
    def passed(self) -> bool:
        """True when every answer lies within the tolerance."""
        return bool((self.difference <= self.tolerance).all())


def replay(
    golden: GoldenVectors, run: Callable[[NDArray[np.uint8]], NDArray[np.float32]], shape: tuple[int, int, int]
) -> GoldenReport:
    """Run the golden inputs through `run` and compare with the recorded answers of the artifact.

    Raises ContractError when this machine cannot even make the recorded inputs.
    """
    inputs = make_inputs(golden.seeds, shape)
    if (digest := inputs_digest(inputs)) != golden.inputs_sha256:
        raise ContractError(f"golden inputs differ on this machine: SHA-256 {digest}, expected {golden.inputs_sha256}")
    expected, got = np.array(golden.artifact), run(inputs)
    return GoldenReport(np.abs(got - expected).max(axis=1), got.argmax(axis=1) == expected.argmax(axis=1), golden.tolerance)
