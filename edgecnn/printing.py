"""Text for terminals and JSON for machines, whatever bytes a file's name is made of."""

from __future__ import annotations

import json
import re
from typing import Any

# How Python carries bytes of a file name that are no UTF-8; no UTF-8 output can hold them.
_SURROGATES = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """Replace what a terminal would act upon, new lines too: names of files are other people's text."""
    return "".join(character if character.isprintable() else "?" for character in text)


def counted(count: int, noun: str) -> str:
    """Return `1 picture`, `2 pictures`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def json_text(value: Any) -> str:
    r"""Return `value` as indented JSON in which only bytes that are no UTF-8 are escaped (`\udcff`)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return _SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
