"""How well maps point at what is marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecnn.classifier import Classifier
from edgecnn.cli.main import main
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import DatasetError
from edgecnn.shipped import find_task
from edgecnn_export.studies.where import Marks, format_table, measure_where, paste_patches

TASK = find_task("neu")


@pytest.fixture(scope="module")
def pictures() -> Dataset:
    assert TASK.synthesize is not None
    return TASK.synthesize(4, 5)


@pytest.fixture(scope="module")
def pasted(pictures: Dataset) -> tuple[Dataset, Marks]:
    return paste_patches(TASK, pictures, 0)


def test_the_novelty_map_points_at_what_was_pasted(pictures: Dataset, pasted: tuple[Dataset, Marks]) -> None:
    classifier = Classifier.open("neu")

    rows = measure_where(classifier.runtime, TASK, *pasted, evidence=classifier.evidence)

    *classes, every = rows
    assert [row.label for row in classes] == list(TASK.labels)
    assert every.novelty_pointing is not None and every.novelty_pointing.count == len(pictures)
    assert every.novelty_pointing.value > 2 * every.chance
    assert every.novelty_pixel_auroc is not None and every.novelty_pixel_auroc > 0.6


def test_a_patch_lies_where_its_mark_says_and_the_rest_stays(pictures: Dataset, pasted: tuple[Dataset, Marks]) -> None:
    changed, marks = pasted

    for before, after, name in zip(pictures.images, changed.images, changed.names, strict=True):
        mark = marks[Path(name).name]
        assert 1 / 16 - 0.02 <= mark.mean() <= 1 / 4 + 0.02
        np.testing.assert_array_equal(before[~mark], after[~mark])
        assert (before[mark] != after[mark]).mean() > 0.3


def test_a_model_without_thresholds_has_no_column_of_novelty(pasted: tuple[Dataset, Marks]) -> None:
    runtime = Classifier.open("neu").runtime

    rows = measure_where(runtime, TASK, *pasted)

    assert rows[0].novelty_pointing is None and rows[0].to_json()["novelty_pointing"] is None
    assert "novelty" not in format_table(rows)


def test_pictures_without_marks_are_an_error(pictures: Dataset) -> None:
    with pytest.raises(DatasetError, match="none of these pictures has a mark"):
        measure_where(Classifier.open("neu").runtime, TASK, pictures, {})


def test_pasted_patches_are_their_own_marks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["study", "where", "neu", "--data", "synthetic", "--pasted", "--masks", "masks"])

    assert ended.value.code == 2
    assert "omit --boxes and --masks" in capsys.readouterr().err
