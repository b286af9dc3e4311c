"""What the emulated boards make of the same pictures, beside this x86-64 machine: pixels, features, logits, answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arm_counts import TASKS
from arm_figures import Difference, Page, compare
from arm_userland import PROCESSORS, USUAL_PROCESSOR, Userland, run_here

pytestmark = pytest.mark.timeout(7200)
Answers = dict[str, Any]
_HEADER = (
    "model", "runtime", "processor", "pictures", "features differ", "answers differ", "other verdict or class",
    "logits differ", "graph's softmax differs", "by at most (steps of 1/256)"
)  # fmt: skip


@pytest.fixture(scope="module")
def answers_here(board: Userland, pictures: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answers]:
    """What this machine answers, by task."""
    folder = tmp_path_factory.mktemp("here")
    for task in TASKS:
        run_here(board.exchange / "inside" / "answer.py", str(board.exchange / task), str(folder / f"{task}.npz"))
    return {task: read(folder / f"{task}.npz") for task in TASKS}


@pytest.fixture(scope="module")
def answers_there(board: Userland, pictures: dict[str, str]) -> Callable[[str, str], Answers]:
    """What an emulated processor answers about a task; asked once."""
    asked: dict[tuple[str, str], Answers] = {}

    def ask(task: str, processor: str) -> Answers:
        if (task, processor) not in asked:
            asked[task, processor] = answer(board, task, processor)
        return asked[task, processor]

    return ask


def answer(userland: Userland, task: str, processor: str, *runtime: str) -> Answers:
    script, out = "/exchange/inside/answer.py", f"/exchange/{task}-{processor}.npz"
    userland.must("python", script, f"/exchange/{task}", out, *runtime, processor=processor)
    return read(userland.root / out[1:])


def read(path: Path) -> Answers:
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("task", TASKS)
def test_the_network_is_shown_the_same_pixels(
    answers_here: dict[str, Answers], answers_there: Callable[[str, str], Answers], page: Page, task: str, processor: str
) -> None:
    here, there = answers_here[task], answers_there(task, processor)

    names = [name for name in here if name.startswith(("decoded ", "inputs ", "boxes "))]
    differing = [name for name in names if not np.array_equal(here[name], there[name])]
    files = {name.split(" ", 1)[1] for name in names}
    inputs = sum(len(here[name]) for name in names if name.startswith("inputs "))
    header = ("model", "processor", "picture files", "inputs made of them", "files of which any bit differs")
    page.add("pixels", header, task, processor, len(files), inputs, len({name.split(" ", 1)[1] for name in differing}))
    assert len(files) >= 10
    assert differing == []


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("task", TASKS)
def test_validation_pictures_get_the_same_answers(
    answers_here: dict[str, Answers],
    answers_there: Callable[[str, str], Answers],
    pictures: dict[str, str],
    page: Page,
    task: str,
    processor: str,
) -> None:
    here, there = answers_here[task], answers_there(task, processor)

    logits, graph = compare_graphs(here, there)
    row = differing(here, there)
    figures = (len(here["probabilities"]), *row.values(), logits.differing, graph.differing, graph.largest_lsb)
    page.add("answers", _HEADER, f"{task} ({pictures[task]})", str(there["runtime"]), processor, *figures)
    assert str(there["delegate"]) == str(here["delegate"]) == "XNNPACK delegate"
    assert row == {"features": 0, "probabilities": 0, "verdicts": 0}
    np.testing.assert_array_equal(here["novelty"], there["novelty"])
    assert (logits.differing, graph.flips) == (0, 0)
    assert graph.largest_lsb <= 1


def differing(here: Answers, there: Answers) -> dict[str, int]:
    """Return how many pictures have other features, other probabilities, and another verdict, class or nearest class."""
    names = ("features", "probabilities", "verdicts")
    pairs = {name: (here[name].reshape(len(here[name]), -1), there[name].reshape(len(here[name]), -1)) for name in names}
    return {name: int((ours != theirs).any(axis=1).sum()) for name, (ours, theirs) in pairs.items()}


def compare_graphs(here: Answers, there: Answers) -> tuple[Difference, Difference]:
    """Compare the logits and the probabilities that the graphs give."""
    logits = compare(here["logits"], there["logits"], float(here["logit_scale"]))
    return logits, compare(here["graph"], there["graph"], float(here["graph_scale"]))


@pytest.mark.parametrize("task", TASKS)
def test_the_older_runtime_answers_alike(
    old_board: Userland, answers_here: dict[str, Answers], pictures: dict[str, str], page: Page, task: str
) -> None:
    here, there = answers_here[task], answer(old_board, task, USUAL_PROCESSOR, "tflite-runtime")

    logits, graph = compare_graphs(here, there)
    figures = (*differing(here, there).values(), logits.differing, graph.differing, graph.largest_lsb)
    first = (f"{task} ({pictures[task]})", str(there["runtime"]), USUAL_PROCESSOR, len(here["probabilities"]))
    page.add("answers", _HEADER, *first, *figures)
    assert str(there["runtime"]) == "tflite-runtime 2.14.0"
    assert graph.flips == 0
    # It has kernels of its own for int8, which round otherwise: by no more than a hundredth of the 256 steps.
    assert differing(here, there)["verdicts"] <= 0.001 * len(here["verdicts"])
    assert logits.largest_lsb <= 2


@pytest.fixture(scope="module", autouse=True)
def _clean(board: Userland) -> Any:
    yield
    for path in board.exchange.glob("*.npz"):
        path.unlink()
    shutil.rmtree(board.exchange / "machine", ignore_errors=True)
