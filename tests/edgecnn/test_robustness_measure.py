"""Models are measured on the same corrupted pictures, and every figure is what the hits say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import DatasetError, InputError
from edgecnn.metrics import wilson_interval
from edgecnn.robustness.corruptions import corrupt, corruptions_for
from edgecnn.robustness.measure import Subject, choose_pictures, measure
from edgecnn.robustness.report import RobustnessReport, format_report
from edgecnn.shipped import find_task

CORRUPTIONS = tuple(each for each in corruptions_for(find_task("neu")) if each.name in ("overexposure", "noise", "gamma"))
DATA = DataInfo("gray squares", "validation", 20, "0" * 64)


class Bright:
    """Calls pictures brighter than `threshold` class 1, and remembers what it saw."""

    name = "by brightness"

    def __init__(self, threshold: float = 128) -> None:
        self.threshold = threshold
        self.seen: list[NDArray[np.uint8]] = []

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(images.copy())
        bright = (images.mean(axis=(1, 2, 3)) > self.threshold).astype(int)
        return np.asarray(np.eye(2)[bright], np.float32)


@pytest.fixture
def squares() -> Dataset:
    """Ten dark pictures from 60 to 105 and ten bright ones from 150 to 195, 8 x 8."""
    levels = np.concatenate([np.arange(60, 110, 5), np.arange(150, 200, 5)]).astype(np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (20, 8, 8, 1)).copy()
    return Dataset(images, (levels > 128).astype(np.int64), tuple(str(level) for level in levels))


def _measured(squares: Dataset, *severities: int) -> RobustnessReport:
    subjects = Subject("float", "float32", Bright()), Subject("int8", "int8", Bright(threshold=120), "float")
    return measure(subjects, squares, CORRUPTIONS, severities or (1, 3), data=DATA)


def test_all_models_see_the_same_corrupted_pictures(squares: Dataset) -> None:
    first, second = Bright(), Bright()

    measure([Subject("a", "float32", first), Subject("b", "int8", second)], squares, CORRUPTIONS, (2,), data=DATA, seed=5)

    expected = [squares.images, *(corrupt(squares.images, each, 2, 5) for each in CORRUPTIONS)]
    assert all(np.array_equal(*pair) for pair in zip(first.seen, expected, strict=True))
    assert all(np.array_equal(*pair) for pair in zip(second.seen, expected, strict=True))


def test_a_cell_is_the_accuracy_under_its_corruption(squares: Dataset) -> None:
    report = _measured(squares)

    brightened = corrupt(squares.images, CORRUPTIONS[0], 3, 0)
    right = int(((brightened.mean(axis=(1, 2, 3)) > 128) == squares.class_ids).sum())
    share = report.cell(report["float"], 0, 1)
    assert (share.value, share.interval) == (right / 20, wilson_interval(right, 20))
    assert right < 20


def test_clean_pictures_are_measured_as_they_are(squares: Dataset) -> None:
    report = _measured(squares)

    assert report.clean(report["float"]).value == 1


def test_means_are_those_of_their_cells(squares: Dataset) -> None:
    report = _measured(squares)
    model = report["float"]

    cells = np.array([[report.cell(model, i, j).value for j in range(2)] for i in range(3)])

    known = [each.in_family for each in CORRUPTIONS]
    assert report.mean(model).value == pytest.approx(cells.mean())
    assert report.mean(model, severity=1).value == pytest.approx(cells[:, 1].mean())
    assert report.mean(model, in_family=True).value == pytest.approx(cells[known].mean())
    assert report.mean(model, severity=0, in_family=False).value == pytest.approx(cells[~np.array(known), 0].mean())


def test_the_interval_of_a_mean_counts_each_picture_once(squares: Dataset) -> None:
    report = _measured(squares)

    share = report.mean(report["float"])

    assert share.interval == wilson_interval(20 * share.value, 20)


def test_the_worst_is_the_lowest_cell(squares: Dataset) -> None:
    report = _measured(squares)
    model = report["float"]

    worst = report.worst(model)

    cells = [report.cell(model, i, j).value for i in range(3) for j in range(2)]
    assert worst.share.value == min(cells)
    assert (worst.corruption, worst.severity) == ("overexposure", 3)


def test_the_worst_at_one_severity_ignores_the_others(squares: Dataset) -> None:
    report = _measured(squares)

    assert report.worst(report["float"], severity=0).severity == 1


def test_a_drop_is_reference_minus_candidate_in_points(squares: Dataset) -> None:
    report = _measured(squares)
    pair = report.pairs[0]

    drops = report.drops(pair)

    float_share, int8_share = (report.cell(report[name], 0, 0).value for name in ("float", "int8"))
    assert drops[0, 0] == pytest.approx(100 * (float_share - int8_share))
    assert report.mean_drop(pair) == pytest.approx(drops.mean())
    assert report.clean_drop(pair) == 0


def test_severities_are_sorted(squares: Dataset) -> None:
    report = _measured(squares, 5, 1)

    assert report.severities == (1, 5)


def test_progress_counts_every_picture(squares: Dataset) -> None:
    told: list[tuple[int, int]] = []

    measure(
        [Subject("a", "float32", Bright())], squares, CORRUPTIONS, (1, 2), data=DATA,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip

    assert told[-1] == (140, 140)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_report_becomes_json(squares: Dataset) -> None:
    report = _measured(squares)

    restored = json.loads(json.dumps(report.to_json()))

    model = restored["models"][0]
    assert model["corrupted"]["noise"]["3"]["accuracy"] == report.cell(report["float"], 2, 1).value
    assert set(model["mean"]) == {"in_family", "out_of_family", "all"}
    assert restored["pairs"][0]["drops"]["overexposure"]["1"] == report.drops(report.pairs[0])[0, 0]
    assert [each["name"] for each in restored["corruptions"]] == [each.name for each in CORRUPTIONS]


def test_the_text_shows_models_side_by_side_for_each_severity(squares: Dataset) -> None:
    report = _measured(squares)

    lines = format_report(report).splitlines()

    heads = [line.split() for line in lines if line.startswith(("severity", "all severities"))]
    assert [head[0] for head in heads] == ["severity", "severity", "all"]
    assert all(head[-5:] == ["float", "(float32)", "int8", "(int8)", "drop"] for head in heads)
    assert sum(line.startswith("  noise") for line in lines) == 2


def test_synthetic_pictures_are_called_so(squares: Dataset) -> None:
    data = DataInfo("gray squares", "validation", 20, "0" * 64, synthetic=True)

    report = measure([Subject("a", "float32", Bright())], squares, CORRUPTIONS, (1,), data=data)

    assert "SYNTHETIC" in format_report(report)


@pytest.mark.parametrize(
    ("subjects", "severities", "message"),
    [
        ([], (1,), "got none"),
        ([Subject("a", "float32", Bright())] * 2, (1,), "different names, got a, a"),
        ([Subject("a", "int8", Bright(), "gone")], (1,), "gone"),
        ([Subject("a", "float32", Bright())], (3, 3), r"\[3, 3\]"),
        ([Subject("a", "float32", Bright())], (), r"\[\]"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    squares: Dataset, subjects: list[Subject], severities: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        measure(subjects, squares, CORRUPTIONS, severities, data=DATA)


def test_no_pictures_are_refused(squares: Dataset) -> None:
    with pytest.raises(DatasetError, match="empty"):
        measure([Subject("a", "float32", Bright())], squares.take(np.arange(0)), CORRUPTIONS, (1,), data=DATA)


@given(class_ids=st.lists(st.integers(0, 3), min_size=1, max_size=40), count=st.integers(1, 50), seed=st.integers(0, 9))
def test_chosen_pictures_are_of_all_classes_alike(class_ids: list[int], count: int, seed: int) -> None:
    ids = np.array(class_ids, np.int64)
    dataset = Dataset(np.zeros((len(ids), 1, 1, 1), np.uint8), ids, tuple(str(i) for i in range(len(ids))))

    chosen = choose_pictures(dataset, count, seed)

    available, taken = np.bincount(ids, minlength=4), np.bincount(chosen.class_ids, minlength=4)
    not_exhausted = taken[taken < available]
    assert len(chosen) == min(count, len(ids))
    assert len(set(chosen.names)) == len(chosen)
    assert len(not_exhausted) == 0 or taken.max() - not_exhausted.min() <= 1
    assert chosen.names == choose_pictures(dataset, count, seed).names
