from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgecnn.datasets.dataset import Splits
from edgecnn.errors import InputError
from edgecnn_export.models import Model
from edgecnn_export.reference import Reference
from edgecnn_export.studies import bound_coverage
from edgecnn_export.studies.bound_coverage import Coverage, main, measure, table


def test_whole_groups_are_drawn() -> None:
    groups = np.repeat(np.arange(40), 3)

    drawn = bound_coverage._draw(groups, 30, np.random.default_rng(0))

    assert len(drawn) >= 30
    assert all(count == 3 for count in np.unique(groups[drawn], return_counts=True)[1])


def test_a_model_is_measured_on_files_that_get_worse(
    bar_reference: Reference, bar_splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bars(Model):
        def splits(self, data: Path | None, seed: int) -> Splits:
            return Splits(bar_splits.train, bar_splits.train, bar_splits.validation, bar_splits.info)

    bars = Bars("bars", None, bar_reference.task, bar_reference.runtime(), reference=bar_reference)
    monkeypatch.setattr(bound_coverage, "open_model", lambda *_, **__: bars)

    rows = list(measure("bars", repeats=20))

    assert {row.count for row in rows} == {50}
    assert rows[0].file == "int8"
    assert all(0 <= share <= 1 for row in rows for share in (row.both_holds, row.margins_holds, row.both_passes))


def test_the_table_has_a_line_for_each_row() -> None:
    row = Coverage("neu", "int8", 0.001, 50, 0.99, 1.0, 0.98, 0.0, 1.0)

    assert table([row]).splitlines()[-1] == "| neu | int8 | +0.10 | 50 | 99.0 | 100.0 | 98.0 | 0 | 100 |"


def test_a_page_without_a_place_for_the_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text("no table")
    monkeypatch.setattr(bound_coverage, "measure", lambda source: iter(()))

    with pytest.raises(InputError, match="has no place for the table"):
        main([str(tmp_path / "page.md"), "neu"])
