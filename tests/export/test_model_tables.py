from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgecnn import Artifact
from edgecnn.errors import InputError
from edgecnn.shipped import int8_path
from export.tools.model_tables import TABLES, update

DOCS = Path(__file__).resolve().parents[2] / "docs" / "reference"


def test_the_tables_of_the_page_are_those_of_its_records(tmp_path: Path) -> None:
    page = tmp_path / "models.md"
    page.write_bytes((DOCS / "models.md").read_bytes())
    (tmp_path / "models").symlink_to(DOCS / "models")

    changed = update(page)

    assert not changed, "run: python -m export.tools.model_tables docs/reference/models.md"


def test_what_the_page_says_in_short_is_what_its_records_say() -> None:
    _, _, rest = (DOCS / "models.md").read_text("utf-8").partition("## In short")
    short = rest.partition("\n## ")[0]
    training = {name: record(name, "training") for name in ("neu", "mnist", "neu-course", "mnist-course")}
    in_file = [Artifact.open(int8_path(name)).contract.parameters for name in ("neu", "mnist")]

    int8 = next(each for each in record("neu", "parity")["candidates"] if each["name"] == "neu-int8.tflite")["figures"]["right"]
    count, floats = training["neu"]["validation"]["count"], training["neu"]["validation"]["correct"]
    assert f"| right, clean | validation {int8} of {count} " in short
    assert f"| int8 loses against float on validation | {floats - int8} of {count} " in short
    for name in ("neu-course", "mnist-course"):
        right = training[name]["validation"]
        assert f"validation {right['correct']:,} of {right['count']:,}" in short
    assert f"test {record('mnist', 'test')['accuracy'] * 10_000:,.0f} of 10,000" in short
    trained = [training[name]["parameters"] for name in ("neu", "mnist")]
    assert f"| {trained[0]:,}, {in_file[0]:,} | {trained[1]:,}, {in_file[1]:,} |" in short
    sizes = [int8_path(name).stat().st_size / 1000 for name in ("neu", "mnist")]
    assert f"| {sizes[0]:.0f} kB | {sizes[1]:.0f} kB |" in short


def record(model: str, kind: str) -> dict[str, Any]:
    """Return what a command once printed about a model."""
    return dict(json.loads((DOCS / "models" / model / f"{kind}.json").read_text("utf-8")))


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
