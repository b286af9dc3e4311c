"""README and docs link only to files that are there, name this version, and have small pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgecnn import __version__

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_documented_version_is_this_one() -> None:
    wheels = {name for page in PAGES for name in re.findall(r"edgecnn-([0-9.]+)-py3", page.read_text("utf-8"))}
    released = re.findall(r"^## \[([0-9.]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert wheels == {__version__}
    assert released[0] == __version__


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_links_lead_to_files(page: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text("utf-8"))

    assert not [target for target in targets if "://" not in target and not (ROOT / target).exists()]


def test_pictures_are_small() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").glob("*.png"))

    assert pictures
    assert not [picture.name for picture in pictures if picture.stat().st_size > 150_000]
