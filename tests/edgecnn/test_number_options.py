"""Every number that an option takes is finite and has two bounds, in every command, from wherever it comes."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.cli.main import COMMANDS
from edgecnn.cli.options import Count, Duration, Number
from edgecnn.numbers import whole_number


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all below it."""
    yield name, command
    if isinstance(command, click.Group):
        for below, each in command.commands.items():
            yield from commands(each, f"{name} {below}")


ALL = [
    pair for name, (module, _) in COMMANDS.items() for pair in commands(getattr(importlib.import_module(module), name), name)
]
NUMERIC = (click.types.IntParamType, click.types.FloatParamType)


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_number_of_a_command_has_two_bounds(name: str, command: click.Command) -> None:
    numbers = [parameter for parameter in command.params if isinstance(parameter.type, NUMERIC)]

    assert [p.name for p in numbers if not isinstance(p.type, Number | Count)] == []
    assert [p.name for p in numbers if not math.isfinite(p.type.min) or not math.isfinite(p.type.max)] == []  # type: ignore[attr-defined]


def refused(kind: click.ParamType, value: object) -> bool:
    try:
        kind.convert(value, None, None)
    except click.BadParameter as error:
        return "\n" not in error.format_message()
    return False


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", math.nan, math.inf, "1e999", 10**400, "", "x", True, None, [1], "1e-300", 0, 11]
)
def test_what_is_no_number_or_out_of_bounds_is_refused(value: object) -> None:
    assert refused(Number(0.001, 10), value)


@pytest.mark.parametrize("value", ["nan", 2.5, 2.0, "2.0", True, None, "9" * 5000, 10**400, 0, 11, "٣", "1_0"])
def test_what_is_no_whole_number_or_out_of_bounds_is_refused(value: object) -> None:
    assert refused(Count(1, 10), value)


@pytest.mark.parametrize(("given_", "number"), [("0.5", 0.5), (3, 3.0), ("1e1", 10.0), (0.001, 0.001)])
def test_a_number_within_its_bounds_is_taken(given_: object, number: float) -> None:
    assert Number(0.001, 10).convert(given_, None, None) == number


@given(st.text() | st.integers().map(str))
def test_a_whole_number_of_a_text_is_never_another_error(text: str) -> None:
    number = whole_number(text, at_most=9999)

    assert number is None or (0 <= number <= 9999 and int(text) == number)


@pytest.mark.parametrize(
    ("stated", "minutes"), [("10", 10), ("10min", 10), ("10m", 10), ("2.5 min", 2.5), ("1.5h", 90), ("90s", 1.5), (3, 3)]
)
def test_a_time_may_have_its_unit(stated: str | int, minutes: float) -> None:
    assert Duration(0.01, 1000, unit="m").convert(stated, None, None) == minutes


def test_a_time_without_its_unit_is_in_that_of_the_option() -> None:
    assert [Duration(0, 1000, unit=unit).convert("90", None, None) for unit in ("s", "m")] == [90, 90]


@pytest.mark.parametrize("stated", ["10 parsecs", "min", "-1min", "100h", "nan", "1e9min", "inf", ""])
def test_what_is_no_time_is_refused(stated: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration(0.01, 1000, unit="m").convert(stated, None, None)
