"""`camera.toml`: every option of the command in a file, under its own name without the leading dashes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecnn.errors import InputError
from edgecnn.files import read_bytes
from edgecnn.text import near_miss

_MAX_BYTES = 2**20
_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}


def read_config(path: Path, known: Mapping[str, type]) -> dict[str, Any]:
    """Read the options of a file; `known` says of each whether it is a `str`, `int`, `float`, `bool` or `list` of texts.

    InputError when it is no TOML, has a key that is not known (with the nearest one) or a value of another type. A number that
    is meant as a text is one: `source = 0`.
    """
    values, names = read_values(path), sorted(known)
    for name in values:
        if name not in names:
            raise InputError(f"{path}: unknown option {name!r}{_hint(name, names)}")
    return {name: _typed(value, known[name], f"{path}: option {name!r}") for name, value in values.items()}


def read_values(path: Path) -> dict[str, Any]:
    """Read the values of a file, whatever they are; InputError when it is no TOML."""
    try:
        return tomllib.loads(read_bytes(path, at_most=_MAX_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error


def _typed(value: Any, kind: type, where: str) -> Any:
    if kind is str and type(value) in (int, float):
        return str(value)
    if kind is list and (type(value) is not list or not all(type(each) is str for each in value)):
        raise InputError(f"{where} is {_TYPES.get(type(value), 'something else')}, expected a list of texts")
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    # The value itself is not shown: it may be a camera's address at the wrong place.
    found = _TYPES.get(type(value), "something else")
    raise InputError(f"{where} is {found}, expected {_TYPES[kind]}")


def write_config(values: Mapping[str, Any]) -> str:
    """Return the text of a file that holds `values`; an option that is not set stands there as a comment."""
    lines = [f"# {name} =" if value in (None, ()) else f"{name} = {_literal(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _hint(name: str, names: list[str]) -> str:
    return "; " + near_miss(name.lower().replace("_", "-"), names, f"known options: {', '.join(names)}")


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(each) for each in value)}]"
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
