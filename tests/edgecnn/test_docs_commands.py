"""Every `edgecnn ...` line of README and docs can be typed: its command and options are there, its choices are valid."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgecnn.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
_LINE = re.compile(r"^\s*(?:\$ )?(?:sudo )?(?:\S*/)?edgecnn (?P<rest>\S.*)$")
_RUN = re.compile(r"^<!-- run[a-z ]*: edgecnn (?P<rest>.+) -->$", re.MULTILINE)
_INLINE = re.compile(r"`edgecnn (?P<rest>[^`]+)`")
_END = re.compile(r"\s(?:[|>#]|&&|2>|\s+\().*$")


def written_commands(text: str) -> Iterator[str]:
    """Yield what follows `edgecnn` in code blocks, fenced or indented, in code within a line, and where a page shows an output."""
    prose, in_fence = [], False
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            in_fence = not in_fence
        elif in_fence or line.startswith("    "):
            if found := _LINE.match(line):
                yield _END.sub("", found["rest"])
        else:
            prose.append(line)
    for found in _INLINE.finditer(" ".join(prose)):
        yield _END.sub("", found["rest"])
    for found in _RUN.finditer(text):
        yield _END.sub("", found["rest"])


def parse(words: list[str]) -> None:
    """Parse as the command would, and run nothing; UsageError for what it would refuse."""
    command: click.Command = cli
    context = click.Context(cli, info_name="edgecnn")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    try:
        command.parse_args(context, [word for word in words if word not in ("...", "…")])
    except (click.MissingParameter, click.exceptions.NoArgsIsHelpError, click.exceptions.Exit):
        pass  # prose names `edgecnn export --int8` without a model, and a group alone; --help and --version exit
    except click.BadOptionUsage as error:
        if "requires an argument" not in error.message:  # prose names an option without its value
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_of_a_page_can_be_typed(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn_device.config.read_config", lambda path, known: {})
    wrong = []
    for line in written_commands(page.read_text("utf-8")):
        try:
            parse(shlex.split(line))
        except (click.UsageError, ValueError) as error:
            wrong.append(f"edgecnn {line}: {error}")

    assert wrong == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Run `edgecnn verify neu` first.", ["verify neu"]),
        ("```sh\n/opt/edgecnn/bin/edgecnn doctor   # a comment\n```", ["doctor"]),
        ("    edgecnn camera neu --print-config |\n", ["camera neu --print-config"]),
        ("edgecnn is a toolkit", []),
        ("over two\nlines `edgecnn evaluate\nneu`", ["evaluate neu"]),
    ],
)
def test_command_lines_are_found(text: str, found: list[str]) -> None:
    assert [line.strip() for line in written_commands(text)] == found


@pytest.mark.parametrize("line", ["vrify neu", "verify neu --gone", "train neu --network resnet", "camera neu --fps nan"])
def test_a_line_that_cannot_be_typed_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(shlex.split(line))
