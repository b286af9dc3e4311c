"""Instructions per inference and per frame, against those that were recorded: what takes 5 % more is seen."""

from __future__ import annotations

import json
from typing import Any

import arm_digit_frames
import pytest
from arm_counts import AGAIN, RECORD, TASKS, TOLERANCE, Counts, count, counted_digest
from arm_figures import regressions
from arm_userland import Userland

from edgecnn import shipped

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    if not RECORD.exists():
        pytest.fail(f"no instructions are recorded yet; {AGAIN}", pytrace=False)
    return dict(json.loads(RECORD.read_text("utf-8")))


@pytest.fixture(scope="module")
def counted(board: Userland, pictures: dict[str, str]) -> Counts:
    return count(board)


@pytest.mark.parametrize("task", TASKS)
def test_no_step_takes_more_instructions_than_recorded(
    board: Userland, recorded: dict[str, Any], counted: Counts, task: str
) -> None:
    model = recorded["models"][task]
    if counted_digest(board, task) != model["sha256"]:
        pytest.fail(f"{shipped.int8_path(task).name} is not the model whose instructions were recorded; {AGAIN}", pytrace=False)

    grown = regressions(model["instructions"], counted[task], TOLERANCE)

    packages = {name: board.versions()[name] for name in recorded["packages"]}
    assert not grown, f"{grown}; recorded with {recorded['packages']}, counted with {packages}; if that is right, {AGAIN}"


def test_no_frame_of_digits_takes_more_instructions_than_recorded(board: Userland) -> None:
    known = json.loads(arm_digit_frames.RECORD.read_text("utf-8"))
    if arm_digit_frames.lay_out(board.exchange / "digits") != known["frames"]:
        pytest.fail(f"the simulated frames are not those that were counted; {AGAIN}", pytrace=False)

    now = arm_digit_frames.count(board)

    grown = regressions(*({"cortex-a72": means(counts)} for counts in (known["instructions"], now)), TOLERANCE)
    assert not grown, f"{grown}; if that is right, {AGAIN}"


def means(counts: arm_digit_frames.Counts) -> dict[str, int]:
    """Return the mean of each kind of frame."""
    return {name: sum(numbers) // len(numbers) for name, numbers in counts.items()}
