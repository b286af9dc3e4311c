from pathlib import Path

import pytest

from edgecnn.errors import InputError
from export.tools.model_tables import TABLES, update

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_the_tables_of_the_page_are_those_of_its_records(tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    page.write_bytes((DOCS / "models.md").read_bytes())
    (tmp_path / "models").symlink_to(DOCS / "models")

    changed = update(page)

    assert not changed, "run: python -m export.tools.model_tables docs/reference/models.md"


def test_text_around_a_table_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    page.write_text("before\n<!-- table: crossval -->\nold\n<!-- end -->\nafter\n")

    update(page)

    assert page.read_text() == "before\n<!-- table: crossval -->\n\nnot measured\n\n<!-- end -->\nafter\n"


def test_a_table_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    page.write_text("<!-- table: horoscope -->\n<!-- end -->\n")

    with pytest.raises(InputError, match="horoscope"):
        update(page)


@pytest.mark.parametrize("name", list(TABLES))
def test_a_table_without_records_says_that_nothing_was_measured(name: str, tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    page.write_text(f"<!-- table: {name} -->\n<!-- end -->\n")

    update(page)

    assert "not measured" in page.read_text()
