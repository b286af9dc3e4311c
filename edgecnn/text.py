"""Text for terminals and JSON for machines, whatever bytes a file's name is made of."""

from __future__ import annotations

import json
from typing import Any


def printable(text: str) -> str:
    """Replace what a terminal would act upon, new lines too: names of files are other people's text."""
    return "".join(character if character.isprintable() else "?" for character in text)


def counted(count: int, noun: str) -> str:
    """Return `1 picture`, `2 pictures`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def json_text(value: Any) -> str:
    r"""Return `value` as indented JSON in which what is no readable text is escaped (`\udcff`, `\u009b`).

    That is bytes that are no UTF-8, and all that a terminal would act upon or that turns the direction of text.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return "\n".join(_escaped(line) for line in text.split("\n"))


def json_string(text: str) -> str:
    """Return a text as a JSON string on one line, by the rules of `json_text`."""
    return _escaped(json.dumps(text, ensure_ascii=False))


def _escaped(text: str) -> str:
    # Control characters are escaped by then: the others are nearly always none.
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
