"""Text for terminals and JSON for machines, whatever bytes a file's name is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def printable(text: str) -> str:
    """Replace what a terminal would act upon, new lines too: names of files are other people's text."""
    return "".join(character if character.isprintable() else "?" for character in text)


def counted(count: int, noun: str) -> str:
    """Return `1 picture`, `2 pictures`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def points(value: float) -> str:
    """Return percentage points: `1 point`, `0.5 points`."""
    return f"{value:g} point" + ("" if value == 1 else "s")


def near_miss(name: str, names: Sequence[str], otherwise: str) -> str:
    """Return `did you mean 'NAME'?` with the nearest of the names that there are, or `otherwise` where none is near."""
    import difflib  # for a mistake alone

    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else otherwise


def percent(share: float, interval: tuple[float, float], *, unit: str = " %") -> str:
    """Return a share with its interval, all in percent: `98.7 % (96.6 to 99.5)`."""
    low, high = interval
    return f"{100 * share:.1f}{unit} ({100 * low:.1f} to {100 * high:.1f})"


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Return rows of cells as lines, the first `left` columns flush left, the others flush right.

    A row that is shorter than others ends in a cell that is as wide as it likes: a heading, a remark.
    """
    columns = max(len(row) for row in rows)
    counted = [row if len(row) == columns else row[:-1] for row in rows]
    widths = [max((len(row[i]) for row in counted if i < len(row)), default=0) for i in range(columns)]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]


def json_text(value: Any) -> str:
    r"""Return `value` as indented JSON in which unreadable text is escaped (`\udcff`, `\u009b`).

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
