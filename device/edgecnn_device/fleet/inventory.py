"""`fleet.toml`: where the broker is, and by which address each board is reached over SSH.

mqtt = "mqtts://fleet@broker.local/plant"
mqtt-password-file = "broker.password"     # beside this file, unless it is a whole path

[boards]
"line-1/press-1" = "edge@10.0.0.11"
"line-1/press-2" = { ssh = "edge@10.0.0.12", group = "line-1" }
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecnn.errors import InputError
from edgecnn_device.config import read_values
from edgecnn_device.fleet.card import check_group

_KEYS = ("mqtt", "mqtt-password-file", "mqtt-ca", "boards")


@dataclass(frozen=True)
class Listed:
    """A board in an inventory: its SSH address, and its group where the inventory states one."""

    ssh: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Inventory:
    """The boards by their names, and the broker where the file has it."""

    boards: Mapping[str, Listed] = field(default_factory=dict)
    mqtt: str | None = None
    password_file: Path | None = None
    ca: Path | None = None

    @property
    def groups(self) -> dict[str, str | None]:
        """The group of each board, None where the inventory states none."""
        return {name: listed.group for name, listed in self.boards.items()}


def read_inventory(path: Path) -> Inventory:
    """Read a file; InputError names the key that is unknown or of another type."""
    values = read_values(path)
    if unknown := sorted(set(values) - set(_KEYS)):
        raise InputError(f"{path}: unknown key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    texts = {key: _text(values[key], f"{path}: {key}") for key in _KEYS[:3] if key in values}
    boards = values.get("boards", {})
    if not isinstance(boards, dict):
        raise InputError(f"{path}: boards is not a table of names and addresses")
    password, ca = texts.get("mqtt-password-file"), texts.get("mqtt-ca")
    return Inventory(
        {name: _listed(name, value, path) for name, value in boards.items()},
        texts.get("mqtt"),
        None if password is None else path.parent / password,
        None if ca is None else path.parent / ca,
    )


def _listed(name: str, value: Any, path: Path) -> Listed:
    where = f"{path}: board {name[:80]!r}"
    if not name or not name.isprintable() or set(name) & set("+#") or name != name.strip("/"):
        raise InputError(f"{where}: a name is a topic below the fleet's, such as line-1/press-1")
    if isinstance(value, str):
        return Listed(_address(value, where))
    if not isinstance(value, dict) or set(value) - {"ssh", "group"}:
        raise InputError(f'{where}: give "user@host", or {{ ssh = "user@host", group = "line-1" }}')
    ssh, group = value.get("ssh"), value.get("group")
    return Listed(
        None if ssh is None else _address(_text(ssh, f"{where}: ssh"), where),
        None if group is None else check_group(_text(group, f"{where}: group")),
    )


def _address(text: str, where: str) -> str:
    """Return an SSH address; InputError for one that ssh could take for an option, or that is not one word."""
    if not text or text.startswith("-") or "@-" in text or not text.isprintable() or " " in text:
        raise InputError(f"{where}: {text[:80]!r} is no SSH address such as user@host")
    return text


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where} is not a text")
    return value
