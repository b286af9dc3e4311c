"""Golden vectors: generated inputs and the answers expected of them, the parity check that a board can run by itself.

The inputs are made with integers only, so that every processor and NumPy version makes the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import Contract
from edgecnn.errors import ArtifactError, ContractError
from edgecnn.quick_dataclass import dataclass

COUNT = 8
CANDIDATES = 96
FLOAT_TOLERANCE, QUANTIZED_TOLERANCE = 1e-4, 0.25


def make_input(seed: int, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Make one input `(height, width, channels)` uint8: smoothed noise, bars and blocks over a slope, by integers only."""
    random = _Stream(seed)
    height, width = shape[:2]
    # int32: a camera makes these at its start, and wider integers take twice as long.
    rows, columns = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None, :]
    level, contrast = random.randint(20, 200), random.randint(0, 90)
    slope_y, slope_x = random.randint(-60, 61), random.randint(-60, 61)
    noise = random.bytes(height * width).reshape(height, width).astype(np.int32) - 128
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
    made = np.empty(shape, np.uint8)
    made[:] = np.clip(image, 0, 255)[:, :, None]
    return made


class _Stream:
    """The integers of NumPy's `RandomState(seed)`, whose stream is frozen (NEP 19): a Mersenne Twister, as Python's own is.

    By Python's own, since importing `numpy.random` takes longer than making all inputs, and a camera does it at its start.
    """

    def __init__(self, seed: int) -> None:
        word = seed  # init_genrand of mt19937ar.c (Matsumoto and Nishimura, 2002); Python seeds otherwise
        state = [seed, *[word := (1812433253 * (word ^ (word >> 30)) + i) & 0xFFFFFFFF for i in range(1, 624)], 624]
        self._twister = Random()
        self._twister.setstate((3, tuple(state), None))

    def randint(self, low: int, high: int) -> int:
        """Return an integer of low to high - 1: the low bits of a word, drawn again while they are too many."""
        span = high - 1 - low
        mask, drawn = (1 << span.bit_length()) - 1, span + 1
        while drawn > span:
            drawn = self._twister.getrandbits(32) & mask if span else 0
        return low + drawn

    def bytes(self, count: int) -> NDArray[np.uint8]:
        """Return `count` integers of 0 to 255, `(count,)`."""
        words = self._twister.getrandbits(32 * count).to_bytes(4 * count, "little")
        return np.frombuffer(words, np.uint8)[::4]


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
    """How a machine answered the golden vectors: `difference` `(n,)` is the largest probability difference of each.

    `contradiction` says how the file's own record contradicts itself, wherever it is run; None where it does not.
    """

    difference: NDArray[np.float64]
    same_answer: NDArray[np.bool_]
    tolerance: float
    contradiction: str | None = None

    @property
    def passed(self) -> bool:
        """True when every answer lies within the tolerance, and the record does not contradict itself."""
        return self.contradiction is None and bool((self.difference <= self.tolerance).all())

    def demand(self, name: str, runtime: str, way_out: str = "") -> None:
        """Raise ArtifactError unless it passed; it names the file and the runtime, and a way out where there is one."""
        if self.contradiction:
            raise ArtifactError(f"{name} contradicts its own reference: {self.contradiction}; export it again")
        if not self.passed:
            raise ArtifactError(
                f"{name} computes something else on this machine than where it was exported: {runtime} differs by "
                f"{self.difference.max():.2g} (tolerance {self.tolerance:.2g}){way_out}"
            )


def contradiction(contract: Contract) -> str | None:
    """Say how far the recorded answers of artifact and reference are apart when they are not of one model, else None.

    A float file may differ by FLOAT_TOLERANCE. Rounding moves the answers to generated inputs, for which nobody calibrated, by
    more than those to pictures: a quantized file is judged by its parity, and by the median input (QUANTIZED_TOLERANCE) only
    where that was not measured.
    """
    floats = contract.precision == "float32"
    if not floats and contract.parity.verdict != "not measured":
        return None
    reference, artifact = np.array(contract.golden.reference), np.array(contract.golden.artifact)
    differences = np.abs(reference - artifact).max(axis=1)
    found = float(differences.max() if floats else np.median(differences))
    allowed = FLOAT_TOLERANCE if floats else QUANTIZED_TOLERANCE
    if found <= allowed:  # which a NaN is not
        return None
    same = int((reference.argmax(axis=1) == artifact.argmax(axis=1)).sum())
    what = "a probability" if floats else "the median probability"
    return (
        f"of {len(differences)} golden inputs it answers {same} as the reference does, "
        f"and {what} differs by {found:.2g}, {allowed:g} allowed"
    )


class Answered(Protocol):
    """A runtime's answers: `probabilities` and `graph` as `compare` takes them."""

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """`(n, classes)`."""

    @property
    def graph(self) -> NDArray[np.float32] | None:
        """`(n, classes)` of the model's own softmax, None where `probabilities` are these."""


def replay(contract: Contract, ask: Callable[[NDArray[np.uint8]], Answered]) -> GoldenReport:
    """Ask for the golden inputs' answers and compare them with the recorded ones of the artifact.

    Raises ContractError when this machine cannot even make the recorded inputs.
    """
    found = ask(recorded_inputs(contract))
    return compare(contract, found.probabilities, found.graph)


def recorded_inputs(contract: Contract) -> NDArray[np.uint8]:
    """Make a contract's golden inputs `(n, h, w, c)`; ContractError when they come out otherwise than where it was written."""
    golden = contract.golden
    inputs = make_inputs(golden.seeds, contract.preprocessing.shape)
    if (digest := inputs_digest(inputs)) != golden.inputs_sha256:
        raise ContractError(f"golden inputs differ on this machine: SHA-256 {digest}, expected {golden.inputs_sha256}")
    return inputs


def compare(contract: Contract, got: NDArray[np.float32], graph: NDArray[np.float32] | None = None) -> GoldenReport:
    """Compare answers `(n, classes)` to the golden inputs with those that are recorded.

    `graph` are those of the model's own softmax where `got` was computed from features: other tools' runtimes give them.
    """
    golden = contract.golden
    expected = np.array(golden.artifact)
    difference = np.abs(got - expected).max(axis=1)
    if golden.graph and graph is not None:
        difference = np.maximum(difference, np.abs(graph - np.array(golden.graph)).max(axis=1))
    return GoldenReport(
        difference,
        got.argmax(axis=1) == expected.argmax(axis=1),
        golden.tolerance,
        contradiction(contract),
    )
