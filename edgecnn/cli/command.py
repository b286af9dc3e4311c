"""Commands with groups of options, examples, and options that need others; groups of commands that know a near miss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from edgecnn.errors import InputError
from edgecnn.quick_dataclass import dataclass
from edgecnn.text import near_miss

F = TypeVar("F", bound=Callable[..., Any])
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Need:
    """Without what an option would be ignored: one of other options, or, with `met`, what `text` says of the values."""

    text: str
    met: Callable[[Values], bool]

    @classmethod
    def one_of(cls, *options: str) -> Need:
        """Need one of these options, such as `--csv FILE`; a flag must be on."""
        names = [option.split()[0].lstrip("-").replace("-", "_") for option in options]
        return cls(" or ".join(options), lambda values: any(values[name] not in (None, False) for name in names))


class Command(click.Command):
    """Shows its options in groups and examples after them, and knows which options need others.

    `needs` says of a parameter what it needs, without which `check_needs` refuses it.
    """

    def __init__(
        self, *args: Any, examples: Sequence[str] = (), needs: Mapping[str, Need] | None = None, **settings: Any
    ) -> None:
        """Take what `click.Command` takes."""
        super().__init__(*args, **settings)
        self.examples = tuple(examples)
        self.needs = dict(needs or {})

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each group of options under its title, those of no group at the end."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in sorted(self.get_params(ctx), key=lambda parameter: group_of(parameter) == _REST):
            if (record := parameter.get_help_record(ctx)) is not None:
                groups.setdefault(group_of(parameter), []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they would be typed."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
        super().format_epilog(ctx, formatter)


_REST = "Options"


def option_group(title: str, *options: Callable[[F], F]) -> Callable[[F], F]:
    """Add options that stand under one title in the help."""

    def decorate(command: F) -> F:
        before = len(getattr(command, "__click_params__", []))
        for option in reversed(options):
            command = option(command)
        for parameter in command.__click_params__[before:]:  # type: ignore[attr-defined]  # where click keeps them
            parameter.group = title
        return command

    return decorate


def check_needs(context: click.Context, values: Values | None = None) -> None:
    """Raise InputError for an option that was given and would be ignored; `values` are those of all parameters."""
    command = context.command
    assert isinstance(command, Command)
    for parameter in command.params:
        need = command.needs.get(parameter.name or "")
        if need is not None and _is_given(context, parameter) and not need.met(values or context.params):
            raise InputError(f"{max(parameter.opts, key=len)} needs {need.text}")


def group_of(parameter: click.Parameter) -> str:
    """Return the title of an option's group."""
    return getattr(parameter, "group", _REST)


def _is_given(context: click.Context, parameter: click.Parameter) -> bool:
    """Tell whether the user asks for something; a file of `--print-config` also holds what nobody asked for."""
    source = context.get_parameter_source(parameter.name or "")
    value = context.params.get(parameter.name or "")
    if source in (None, ParameterSource.DEFAULT) or value is None:
        return False
    is_flag = isinstance(parameter, click.Option) and parameter.is_flag
    return (source is ParameterSource.COMMANDLINE and not is_flag) or value != parameter.default


class Group(click.Group):
    """A group whose error for an unknown command names the nearest one."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; UsageError with the nearest name, or all of them."""
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            hint = near_miss(args[0], names, f"commands: {', '.join(names)}")
            raise click.UsageError(f"no such command {args[0][:40]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)
