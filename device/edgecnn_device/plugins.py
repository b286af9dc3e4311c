"""Sources and sinks of other packages, which name them by entry points: docs/how-to/plugins.md."""

from __future__ import annotations

from typing import Any

from edgecnn.errors import InputError

SOURCES, SINKS = "edgecnn.sources", "edgecnn.sinks"


def open_plugin(group: str, text: str, *arguments: Any) -> Any | None:
    """Make what `NAME` or `NAME:TARGET` stands for: the class of an entry point, called with the target and `arguments`.

    None where no installed package has an entry point of this name; InputError where its class cannot be imported.
    """
    from importlib.metadata import entry_points  # a camera without plug-ins starts without it

    name, _, target = text.partition(":")
    for entry in entry_points(group=group, name=name):
        try:
            plugin = entry.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"{group} entry point {name} = {entry.value} cannot be loaded: {error}") from error
        return plugin(target, *arguments)
    return None


def plugin_names(group: str) -> list[str]:
    """Return the names of a group's entry points."""
    from importlib.metadata import entry_points

    return sorted({entry.name for entry in entry_points(group=group)})
