"""Lists of class names as people and tools write them: a line a class, numbered lines, JSON, Python lists, in any encoding."""

from __future__ import annotations

import ast
import codecs
import json
import re
from pathlib import Path
from typing import Any

from edgecnn.errors import InputError
from edgecnn.files import read_bytes

_MOST_BYTES = 2**20
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NUMBERED = re.compile(r"(\d+)(?:\s*[:;,)=-]\s*|\.?\s+)(\S.*)")


def read_labels(text: str) -> tuple[str, ...]:
    """Read labels given as `a,b,c`, as a list `['a', 'b']`, or as the path of a file with them, in class order.

    Raises InputError when that is neither, or names fewer than two different classes.
    """
    path = Path(text)
    if _is_file(path):
        labels = parse_labels(read_bytes(path, at_most=_MOST_BYTES), text)
    elif text.lstrip().startswith(("[", "{")):
        labels = parse_labels(text.encode(), "--labels")
    elif "," in text:
        labels = tuple(label for label in (label.strip() for label in text.split(",")) if label)
    else:
        raise InputError(f"--labels {text}: neither a list such as a,b,c nor a file with one label per line")
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise InputError(f"--labels must name at least two different classes, got {list(labels)}")
    return labels


def parse_labels(content: bytes, name: str) -> tuple[str, ...]:
    """Read the content of a label file; `name` is how a message calls it.

    Understood are a label a line, numbered or not (`0 disc`, `1: ring`), a JSON or Python list, and a map between numbers and
    labels in either direction, in UTF-8, UTF-16, UTF-32 or, failing those, Windows-1252. Raises InputError for another form.
    """
    text = _decoded(content).strip().strip("\0")
    if text.startswith(("[", "{")):
        return _of_value(_parsed(text, name), name)
    lines = [line.strip() for line in text.splitlines()]
    return _unnumbered([line for line in lines if line])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long a name, or one that no file can have
        return False


def _decoded(content: bytes) -> str:
    for bom, encoding in _BOMS.items():
        if content.startswith(bom):
            return content.decode(encoding, "replace")
    if content[:200].count(0) >= len(content[:200]) // 3 > 0:  # UTF-16 without a mark: every other byte of plain text is 0
        return content.decode("utf-16-le" if content[1:2] == b"\0" else "utf-16-be", "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _parsed(text: str, name: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    raise InputError(f"{name} begins like a list of labels in JSON or Python, but is neither: {text[:60]}")


def _of_value(value: Any, name: str) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(each, str | int) for each in value):
        return _unnumbered([str(each).strip() for each in value])
    if isinstance(value, dict):
        pairs = [_numbered(key, label) for key, label in value.items()]
        known = [pair for pair in pairs if pair is not None]
        if len(known) == len(value) and sorted(number for number, _ in known) == list(range(len(known))):
            return tuple(label for _, label in sorted(known))
    raise InputError(f"{name} is neither a list of labels nor a map between the numbers from 0 and labels: {str(value)[:60]}")


def _numbered(key: Any, value: Any) -> tuple[int, str] | None:
    """Read `"0": "disc"`, `"disc": 0`, or `"0": ["n01440764", "tench"]` as a number and a label."""
    if isinstance(value, list | tuple) and value:
        value = value[-1]
    if isinstance(value, str) and str(key).strip().isdecimal():
        return int(key), value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return value, str(key).strip()
    return None


def _unnumbered(lines: list[str]) -> tuple[str, ...]:
    """Take the numbers off labels that are counted from 0 or 1, and put them in that order."""
    found = [_NUMBERED.fullmatch(line) for line in lines]
    pairs = [(int(match[1]), match[2].strip()) for match in found if match is not None]
    numbers = sorted(number for number, _ in pairs)
    count = len(lines)
    counted = bool(lines) and numbers in (list(range(count)), list(range(1, count + 1)))
    if not counted or len({label for _, label in pairs}) < count:  # 1 euro, 2 euro: the number is part of the name
        return tuple(lines)
    return tuple(label for _, label in sorted(pairs))
