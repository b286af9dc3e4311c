"""Pages of the site that are made from the code: the command line from its help, the contract from its dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from edgecnn.artifacts import contract
from edgecnn.cli.main import cli

_WIDTH = 100
_CLI = """# Command line

Every command with its options, as `--help` prints them. A mistake is one line on stderr and exit code 2; Ctrl-C exits with 130.

Tab completion, for this shell and later ones:

```sh
echo 'eval "$(_EDGECNN_COMPLETE=bash_source edgecnn)"' >> ~/.bashrc
echo 'eval "$(_EDGECNN_COMPLETE=zsh_source edgecnn)"' >> ~/.zshrc
_EDGECNN_COMPLETE=fish_source edgecnn > ~/.config/fish/completions/edgecnn.fish
```
"""
_CONTRACT = """# The contract

Every exported file carries a JSON object that says all that a board must know to run it. A `.tflite` has it as the entry
`edgecnn.json` of a ZIP archive behind the model, beside `labels.txt`: every TFLite runtime ignores that tail, and
`python -m zipfile -l FILE.tflite` lists it. An `.onnx` has it as an entry of its metadata. `edgecnn inspect FILE` prints it for
people, `edgecnn inspect FILE --json` for machines.

A file opens only when the contract's own SHA-256 (`contract_sha256`), its format version, the type of every field and the
SHA-256 of the model agree, and the model's tensors are those promised. Unknown fields are refused. This page is made from the
dataclasses.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages (mkdocs calls this)."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def _command_line() -> str:
    pages = [_CLI, *(f"{'#' * (2 + name.count(' '))} {name}\n\n```text\n{text}\n```\n" for name, text in helps())]
    return "\n".join(pages)


def helps() -> Iterator[tuple[str, str]]:
    """Return each command, groups before their own, with its help text."""
    yield from _helps(cli, "edgecnn", None)


def _helps(command: click.Command, name: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    own_name = name.rpartition(" ")[2]
    context = click.Context(command, info_name=own_name, parent=parent, terminal_width=_WIDTH, max_content_width=_WIDTH)
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from _helps(found, f"{name} {child}", context)


def _contract() -> str:
    return "\n".join([_CONTRACT, *(_fields(kind) for kind in _reached(contract.Contract))])


def _reached(kind: Any) -> list[type]:
    """Return a dataclass and all that stand in its fields, in the order in which they are met."""
    found: list[type] = []
    waiting = [kind]
    while waiting:
        each = waiting.pop(0)
        if dataclasses.is_dataclass(each) and each not in found:
            found.append(typing.cast(type, each))
            waiting += [part for hint in typing.get_type_hints(each).values() for part in (hint, *typing.get_args(hint))]
    return found


def _fields(kind: type) -> str:
    hints = typing.get_type_hints(kind)
    rows = [
        f"| `{field.name}` | {_json_type(hints[field.name])} | {'' if _required(field) else 'may be absent'} |"
        for field in dataclasses.fields(kind)
        if not field.name.startswith("_")
    ]
    body = inspect.getdoc(kind)
    return f"## {kind.__name__}\n\n{body}\n\n| field | JSON | |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


_SCALARS = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}


def _json_type(hint: Any) -> str:
    """Return how a field's type looks in JSON."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        name = typing.cast(type, hint).__name__
        return f"[{name}](#{name.lower()})"
    if hint in _SCALARS:
        return _SCALARS[hint]
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_json_type(arguments[0])}"
    if origin is dict:
        return f"object of {_json_type(arguments[1])}"
    return " or ".join(_json_type(each) for each in arguments)


PAGES = {"reference/cli.md": _command_line, "reference/contract.md": _contract}
