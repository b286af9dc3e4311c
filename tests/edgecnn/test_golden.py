"""Golden inputs are the same bytes everywhere, and their replay notices what a board could get wrong."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact, golden
from edgecnn.artifacts.contract import Contract, GoldenVectors, ParityInfo
from edgecnn.errors import ContractError
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.runtime import Answers, answer

PINNED = {
    (28, 28, 1): "5f9c97b30c8bc6445ce4534e4c20db7d4748231755cae60aa0411c99c61fdff2",
    (200, 200, 1): "96ad978348af4f0c26e7b5b0ffba0a38ccc4976d9ee35c1b62e107053b347ef7",
    (64, 48, 3): "fcde0957e3a3dca39ffbc6daa8800dfcedee6bc3f30a851bc132fdca58885e0b",
    (1, 1, 1): "342ea3b11b0736af2711c2e33ee3a4a1847a39f0c132dece5a314e75ec81298c",
}


@pytest.mark.parametrize("shape", PINNED)
def test_inputs_are_pinned_to_the_bit(shape: tuple[int, int, int]) -> None:
    inputs = golden.make_inputs(range(16), shape)

    assert hashlib.sha256(inputs.tobytes()).hexdigest() == PINNED[shape]


@given(seed=st.integers(0, 2**32 - 1), spans=st.lists(st.integers(1, 70_000), max_size=20), count=st.integers(1, 50))
def test_its_integers_are_those_of_numpys_frozen_stream(seed: int, spans: list[int], count: int) -> None:
    stream, reference = golden._Stream(seed), np.random.RandomState(seed)

    drawn = [stream.randint(-3, span - 3) for span in spans], (stream.bytes(count).astype(int) - 128).tolist()

    expected = [int(reference.randint(-3, span - 3)) for span in spans]
    assert drawn == (expected, reference.randint(-128, 128, count).tolist())


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3])),
)
def test_any_seed_makes_an_input_of_any_shape(seed: int, shape: tuple[int, int, int]) -> None:
    image = golden.make_input(seed, shape)

    assert (image.shape, image.dtype.name) == (shape, "uint8")
    assert (image == image[:, :, :1]).all()


def test_seeds_are_chosen_so_that_many_classes_answer() -> None:
    def by_brightness(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        levels = images.reshape(len(images), -1).mean(axis=1) // 64
        return np.asarray(np.eye(4)[levels.astype(int)] * 0.5 + 0.125, np.float32)

    seeds = golden.choose_seeds(by_brightness, (8, 8, 1))

    winners = by_brightness(golden.make_inputs(seeds, (8, 8, 1))).argmax(axis=1)
    assert (len(seeds), len(set(seeds)), set(winners.tolist())) == (golden.COUNT, golden.COUNT, {0, 1, 2, 3})


def _replay(artifact: Artifact, order: list[int], factor: float = 1.0) -> golden.GoldenReport:
    runtime = open_runtime(artifact)
    return golden.replay(artifact.contract, lambda images: Answers(runtime.run(images)[:, order] * np.float32(factor)))


def test_the_replay_passes_on_the_machine_that_recorded(tiny_artifact: Artifact) -> None:
    report = _replay(tiny_artifact, [0, 1, 2])

    assert report.passed
    assert report.same_answer.all()


def test_the_replay_notices_swapped_labels(tiny_artifact: Artifact) -> None:
    report = _replay(tiny_artifact, [2, 0, 1])

    assert not report.passed


def test_the_replay_notices_a_wrong_scale(tiny_artifact: Artifact) -> None:
    report = _replay(tiny_artifact, [0, 1, 2], factor=0.9)

    assert not report.passed


def test_the_replay_notices_answers_that_are_no_numbers(tiny_artifact: Artifact) -> None:
    report = _replay(tiny_artifact, [0, 1, 2], factor=float("nan"))

    assert not report.passed


def test_the_replay_notices_an_altered_recorded_answer(tiny_artifact: Artifact) -> None:
    recorded = tiny_artifact.contract.golden
    altered = replace(recorded, artifact=(recorded.artifact[0][::-1], *recorded.artifact[1:]))

    report = golden.replay(replace(tiny_artifact.contract, golden=altered), partial(answer, open_runtime(tiny_artifact)))

    assert (report.difference > report.tolerance).tolist() == [True, False, False]


def test_a_machine_that_makes_other_inputs_is_told_so(tiny_artifact: Artifact) -> None:
    other = replace(tiny_artifact.contract.golden, inputs_sha256="0" * 64)

    with pytest.raises(ContractError, match="golden inputs differ on this machine"):
        golden.replay(replace(tiny_artifact.contract, golden=other), partial(answer, open_runtime(tiny_artifact)))


_DECIDED = np.array([[0.7, 0.2, 0.1], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]])


def _recorded(artifact: Artifact, answers: NDArray[np.float64], **changes: Any) -> Contract:
    """A contract whose reference gave _DECIDED and whose artifact gave `answers`."""
    rows = (tuple(tuple(float(p) for p in row) for row in given) for given in (_DECIDED, answers))
    vectors = GoldenVectors((0, 1, 2), "0" * 64, *rows, 0.01)
    return replace(artifact.contract, golden=vectors, **changes)


def test_a_float_file_that_answers_otherwise_than_its_reference_contradicts_itself(tiny_artifact: Artifact) -> None:
    told = golden.contradiction(_recorded(tiny_artifact, _DECIDED[:, ::-1], precision="float32"))

    assert told == "of 3 golden inputs it answers 1 as the reference does, and a probability differs by 0.9, 0.0001 allowed"


@pytest.mark.parametrize("precision", ["int8", "mixed", "int16x8"])
def test_an_unproven_quantized_file_may_differ_on_single_inputs_but_not_on_most(
    tiny_artifact: Artifact, precision: str
) -> None:
    one, most = _DECIDED.copy(), _DECIDED.copy()
    one[0], most[[0, 2]] = one[0, ::-1], most[[0, 2], ::-1]

    assert golden.contradiction(_recorded(tiny_artifact, one, precision=precision)) is None
    assert golden.contradiction(_recorded(tiny_artifact, most, precision=precision)) is not None


def test_a_quantized_file_that_was_compared_on_pictures_is_judged_by_those(tiny_artifact: Artifact) -> None:
    contract = _recorded(tiny_artifact, _DECIDED[:, ::-1], precision="int8", parity=ParityInfo("pass"))

    assert golden.contradiction(contract) is None


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_answers_that_are_no_numbers_contradict_every_reference(tiny_artifact: Artifact, precision: str) -> None:
    contract = _recorded(tiny_artifact, np.full((3, 3), np.nan), precision=precision)

    assert golden.contradiction(contract) is not None


def test_a_file_whose_record_contradicts_itself_is_verified_nowhere(tiny_artifact: Artifact) -> None:
    recorded = tiny_artifact.contract.golden
    other = replace(recorded, reference=tuple(row[::-1] for row in recorded.reference))
    contract = replace(tiny_artifact.contract, golden=other, precision="float32")

    report = golden.replay(contract, partial(answer, open_runtime(tiny_artifact)))

    assert (report.difference <= report.tolerance).all()
    assert not report.passed


def test_a_graph_that_tells_other_runtimes_something_else_is_not_verified(tiny_artifact: Artifact) -> None:
    recorded = tiny_artifact.contract.golden
    contract = replace(tiny_artifact.contract, golden=replace(recorded, graph=recorded.artifact))
    answers = np.array(recorded.artifact, np.float32)

    assert golden.compare(contract, answers, answers).passed
    assert golden.compare(contract, answers).passed
    assert not golden.compare(contract, answers, answers[:, ::-1]).passed


@pytest.mark.parametrize("graph", [((0.5, 0.5, 0.0),), ((0.5, 0.5),) * 3], ids=["too few", "too short"])
def test_answers_of_the_graph_that_do_not_go_with_the_seeds_are_refused(
    tiny_artifact: Artifact, graph: tuple[tuple[float, ...], ...]
) -> None:
    vectors = replace(tiny_artifact.contract.golden, graph=graph)

    with pytest.raises(ContractError, match="golden"):
        vectors.check(3, 3)
