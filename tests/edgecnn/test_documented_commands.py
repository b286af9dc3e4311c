"""README and docs name only commands and options that exist, and link only to files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from edgecnn import __version__
from edgecnn.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
_COMMAND = re.compile(r"(?:^|\s|bin/)(?<!import )edgecnn ([a-z].*)")


def commands(page: Path) -> list[str]:
    """Return what stands behind `edgecnn` in blocks and in lines of code."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [line[4:] for line in text.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    lines += re.findall(r"^<!-- run[a-z ]*: (.+) -->$", text, re.MULTILINE)
    return [match[1] for line in lines if (match := _COMMAND.search(line)) is not None]


NAMED = sorted({(page.relative_to(ROOT).as_posix(), command) for page in PAGES for command in commands(page)})


@pytest.mark.parametrize(("page", "command"), NAMED)
def test_a_documented_command_exists_with_its_options(page: str, command: str) -> None:
    words = re.split(r" [|#>]|;|&&", command)[0].split()
    found, context = cli.get_command(click.Context(cli), words[0].partition("|")[0]), click.Context(cli)
    if found is None:
        pytest.fail(f"{page}: `edgecnn {command}`: no such command", pytrace=False)
    if isinstance(found, click.Group) and len(words) > 1 and not words[1].startswith("-"):
        group, found = found, found.get_command(context, words[1].partition("|")[0])
        assert found is not None, f"{page}: `edgecnn {command}`; {group.name} has {group.list_commands(context)}"
    known = {name for parameter in found.get_params(context) for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words[1:] if word.startswith("--") and word.partition("=")[0] not in known]
    assert not unknown, f"{page}: `edgecnn {command}` has options that do not exist"


def test_commands_are_found_in_the_documentation() -> None:
    assert {page for page, _ in NAMED} >= {"README.md", "docs/tutorials/your-own-parts.md", "docs/how-to/board.md"}
    assert len(NAMED) > 100


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
