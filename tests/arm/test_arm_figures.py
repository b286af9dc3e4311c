"""What needs no emulator of the ARM tests, and runs with all others: figures, the page, the record of instructions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from arm_counts import AGAIN, PAGE, README, RECORD, TASKS, TOLERANCE, read_marks, with_tables
from arm_figures import BOARDS, Page, budget_table, compare, put, regressions
from arm_pictures import without_softmax
from arm_userland import PROCESSORS

from edgecnn import shipped
from edgecnn.artifacts import Artifact, golden
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.select import open_tflite


def test_one_step_of_one_output_is_told() -> None:
    reference = np.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]], np.float32)
    candidate = reference.copy()
    candidate[1, 0] -= 1 / 256

    found = compare(reference, candidate, 1 / 256)

    assert (found.pictures, found.differing, found.largest_lsb, found.flips) == (2, 1, 1, 0)


def test_another_class_is_a_flip() -> None:
    found = compare(np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32), 1 / 256)

    assert found.flips == 1


@pytest.mark.parametrize(("counted", "seen"), [(1_100, True), (1_010, False), (900, False)])
def test_a_tenth_more_instructions_is_seen(counted: int, seen: bool) -> None:
    found = regressions({"cortex-a53": {"frame": 1_000}}, {"cortex-a53": {"frame": counted}}, TOLERANCE)

    assert bool(found) == seen


def test_marks_are_paired_with_what_follows_them() -> None:
    stderr = "executed 100\nnoise\nexecuted 150\nexecuted 260\nexecuted 1000\n"

    found = read_marks(["a", "a", "", ""], stderr)

    assert found == {"a": 80}


def test_a_lost_mark_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 marks, the emulator saw 1"):
        read_marks(["a", ""], "executed 100\n")


@pytest.mark.parametrize("task", TASKS)
def test_without_its_softmax_a_model_ranks_the_classes_alike(task: str) -> None:
    artifact = Artifact.open(shipped.int8_path(task))
    images = golden.make_inputs(artifact.contract.golden.seeds, artifact.contract.preprocessing.shape)

    logits = open_tflite(without_softmax(artifact.model)).run(images).astype(np.float64)

    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert (
        np.abs(probabilities - open_runtime(artifact).run(images)).max() < 8 / 256
    )  # the graph rounds the mean of its features and the scores


def test_the_record_names_every_model_and_processor() -> None:
    record = json.loads(RECORD.read_text("utf-8"))

    counted = {(task, name) for task, model in record["models"].items() for name in model["instructions"]}

    assert counted == {(task, name) for task in TASKS for name in PROCESSORS}


def test_the_page_shows_the_recorded_counts() -> None:
    page = PAGE.read_text("utf-8")

    assert page == with_tables(page, json.loads(RECORD.read_text("utf-8"))), AGAIN


def test_the_readme_states_the_estimated_frame_rates() -> None:
    assert budget_table(json.loads(RECORD.read_text("utf-8"))) in README.read_text("utf-8"), AGAIN


def test_a_board_of_a_thousand_million_instructions_a_second_takes_a_millisecond_for_a_million() -> None:
    board = BOARDS[0]
    counts = {each.processor: {"inference": 1, "frame": board.mips * 10_000} for each in BOARDS}

    rows = budget_table({"models": {"drawn": {"sha256": "", "instructions": counts}}}).splitlines()

    assert f"| {board.name} | 10 (5 to 20) | 100 (50 to 200) |" in rows


def test_the_page_has_a_place_for_every_table() -> None:
    text = PAGE.read_text("utf-8")

    for name in ("packages", "doctor", "verify", "pixels", "answers", "machine", "memory", "wheels", "32-bit"):
        put(text, name, "")


def test_a_table_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- sizes -->\nold\n<!-- end -->\nafter\n")
    page = Page()
    page.add("sizes", ("name", "bytes"), "a", 1234)

    page.write(path)

    assert path.read_text() == "before\n<!-- sizes -->\n| name | bytes |\n|---|---:|\n| a | 1,234 |\n<!-- end -->\nafter\n"
