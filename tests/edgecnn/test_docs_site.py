"""The pages of the documentation's site that are made from the code."""

from __future__ import annotations

import dataclasses
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import griffe
import pytest
from mkdocs.exceptions import PluginError

from edgecnn.artifacts.contract import Contract
from edgecnn.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The generated pages by their paths."""
    return {path: make() for path, make in hook("reference")["PAGES"].items()}


def hook(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "_hooks" / f"{name}.py"))


def shown(line: str) -> str:
    """Return what becomes of a line of a page."""
    page = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))
    return str(hook("outputs")["on_page_markdown"](line, page=page, config=None, files=None))


def test_every_command_stands_on_its_page_with_its_help(pages: dict[str, str]) -> None:
    page = pages["reference/cli.md"]

    headings = re.findall(r"^#+ (edgecnn.*)$", page, re.MULTILINE)
    assert {f"edgecnn {name}" for name in COMMANDS} < set(headings)
    assert "edgecnn data generate" in headings
    assert page.count("Usage: ") == len(headings)


def test_every_field_of_the_contract_stands_on_its_page(pages: dict[str, str]) -> None:
    page = pages["reference/contract.md"]

    assert all(f"| `{field.name}` |" in page for field in dataclasses.fields(Contract))
    assert "[ParityInfo](#parityinfo)" in page
    assert "## ParityInfo" in page
    assert "list of text" in page


def test_a_page_shows_what_its_commands_print() -> None:
    assert shown("<!-- run: echo steel -->") == "```console\n$ echo steel\nsteel\n```"


def test_the_way_from_a_wrong_answer_to_a_better_model_can_be_gone() -> None:
    page = shown((ROOT / "docs" / "tutorials" / "wrong-answer.md").read_text("utf-8"))

    taught, trap = page.split("What of a part that is neither?")
    assert "3_1.png: novel: like nothing it was trained on" in taught
    assert "taught.tflite: three added by" in taught
    assert "the new model is better" in taught
    assert "the new model is worse" in trap


def test_json_is_shown_readably() -> None:
    assert '```json\n{\n  "label": "ö"\n}\n```' in shown("""<!-- run json: echo '{"label":"ö"}' -->""")


def test_a_page_whose_command_fails_is_not_built() -> None:
    with pytest.raises(PluginError, match=r"page\.md: `false` exits with 1"):
        shown("<!-- run: false -->")


def test_a_page_whose_command_prints_nothing_is_not_built() -> None:
    with pytest.raises(PluginError, match=r"page\.md: `true` prints nothing"):
        shown("<!-- run json: true -->")


def test_outputs_do_not_depend_on_the_data_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_DATA", "/somewhere")

    assert shown('<!-- run: echo "[$EDGECNN_DATA]" -->').endswith("[]\n```")


@pytest.mark.parametrize("html", ['<script src="https://cdn.example/x.js">', "<link rel=stylesheet href=//cdn.example/x.css>"])
def test_a_page_that_loads_from_elsewhere_is_not_built(html: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))

    with pytest.raises(PluginError, match=r"page\.md loads something from elsewhere"):
        hook("offline")["on_post_page"](html, page=page, config=None)


def test_a_page_may_link_elsewhere() -> None:
    html = '<a href="https://example.org/">there</a><script src="assets/x.js">'

    assert hook("offline")["on_post_page"](html, page=None, config=None) == html


def test_the_reference_knows_the_fields_of_a_quick_dataclass(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from edgecnn.quick_dataclass import dataclass\n@dataclass(frozen=True)\nclass Part:\n    size: int\n    name: str\n"
    )
    extensions = griffe.load_extensions(str(ROOT / "docs" / "_hooks" / "quick_dataclass.py"))
    part = griffe.load("shop", search_paths=[str(tmp_path)], extensions=extensions)["Part"]

    assert [each.name for each in part.parameters] == ["self", "size", "name"]
