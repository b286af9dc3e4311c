"""What is said about a class that a model was not shown."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_schemas import check

from edgecnn.datasets.dataset import Splits
from edgecnn.tasks import Task
from edgecnn_export.studies import leave_one_out
from edgecnn_export.studies.leave_one_out import format_table, judge, leave_one_class_out


def test_a_class_is_judged_by_how_sure_the_model_is_of_it() -> None:
    row = judge("patches", [0.9, 0.8, 0.6, 0.95], [0.5, 0.7, 0.85], threshold=0.75)

    assert row.auroc.value == pytest.approx(1 - 3 / 12)
    assert row.accepted is not None and (row.accepted.hits, row.accepted.count) == (1, 3)
    assert (row.kept.hits, row.kept.count) == (2, 4)
    assert "| patches | 0.7500" in format_table([row])


def test_each_class_is_kept_out_of_its_own_training_and_asked_about(
    bar_splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, tuple[set[int], set[int], set[int]]] = {}
    networks = set()

    def run(task: Task, pool: Any, info: Any, trainings: Any, measure: Any, **options: Any) -> Any:
        for training in trainings:
            shown[training.name] = tuple(set(pool.class_ids[part].tolist()) for part in training.parts)  # type: ignore[assignment]
            networks.add(training.model)
            about = {"name": training.name, "best_epoch": 1}  # among what a real training keeps
            yield training, about | {"true": [0.9, 0.8], "left_out": [0.3], "threshold": None}

    monkeypatch.setattr(leave_one_out, "run_trainings", run)
    task = dataclasses.replace(_task(), labels=("dark", "upright", "lying"))

    rows = leave_one_class_out(task, bar_splits, out=tmp_path, network="lite")

    assert networks == {"lite"}
    assert shown == {
        "dark": ({1, 2}, {1, 2}, {0}),
        "upright": ({0, 2}, {0, 2}, {1}),
        "lying": ({0, 1}, {0, 1}, {2}),
    }
    assert [row.label for row in rows] == ["dark", "upright", "lying"]
    assert np.isclose(rows[0].auroc.value, 1.0)
    assert (tmp_path / "leave-one-class-out.json").is_file()
    check("study-leave-one-out", {"schema": 1, "seed": 0, "classes": json.loads(json.dumps([row.to_json() for row in rows]))})


@pytest.mark.usefixtures("in_this_process")
def test_real_trainings_are_asked_and_not_repeated(bar_splits: Splits, tmp_path: Path) -> None:
    task = dataclasses.replace(_task(), labels=("dark", "upright", "lying"))

    rows = leave_one_class_out(task, bar_splits, out=tmp_path, epochs=1)

    assert leave_one_class_out(task, bar_splits, out=tmp_path, epochs=1) == rows
    assert [row.label for row in rows] == list(task.labels)
    assert all(0 <= row.auroc.value <= 1 for row in rows)


def _task() -> Task:
    from edgecnn.preprocessing import Preprocessing

    return Task("bars", "bars", ("a", "b", "c"), Preprocessing(16, 16))
