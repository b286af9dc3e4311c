"""From JSON to frozen dataclasses, strictly: what `dataclasses.asdict` wrote comes back, or one line says why not."""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
import sys
import types
import typing
from typing import Any, Literal, TypeVar

from edgecnn.errors import InputError

_MOST_INT = 2**63 - 1
T = TypeVar("T")


def read_record(kind: type[T], value: Any, where: str) -> T:
    """Return parsed JSON as the dataclass `kind`; InputError that names the place of a missing, unknown or wrong field.

    Fields may be dataclasses, tuples, dicts with text keys, unions with None, literals, text, whole numbers and finite floats.
    """
    return typing.cast(T, _read_dataclass(kind, value, where))


def _read(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):  # most of what there is
        return _finite(value, where)
    if kind is str and type(value) is str:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(typing.cast(type, kind), value, where)
    if origin is types.UnionType or origin is typing.Union:
        if value is None and type(None) in arguments:
            return None
        return _read(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where} is {reprlib.repr(value)}, expected one of {list(arguments)}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return _read_tuple(arguments, value, where)
    if origin is dict and isinstance(value, dict):
        return {str(key): _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is int and type(value) is int and not -_MOST_INT <= value <= _MOST_INT:
        raise InputError(f"{where} is {reprlib.repr(value)}, expected a number of at most 64 bits")
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise InputError(f"{where} is {reprlib.repr(value)}, expected {getattr(kind, '__name__', kind)}")


def _read_tuple(arguments: tuple[Any, ...], value: list[Any] | tuple[Any, ...], where: str) -> tuple[Any, ...]:
    kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
    if len(kinds) != len(value):
        raise InputError(f"{where} is {reprlib.repr(value)}, expected {len(kinds)} values")
    return tuple(_read(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _finite(value: int | float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{where} is {reprlib.repr(value)}, expected a finite number")
    return number


def _read_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {reprlib.repr(value)}, expected an object")
    hints, required = _fields(kind)
    if misfits := sorted((required - value.keys()) | (value.keys() - hints.keys())):
        raise InputError(f"{where} lacks or does not know {reprlib.repr(misfits)}")
    return kind(**{name: _read(hints[name], item, f"{where}.{name}") for name, item in value.items()})


@functools.cache
def _fields(kind: type) -> tuple[dict[str, Any], set[str]]:
    """Return the types of a dataclass's fields by their names, and which of them have no default."""
    fields = dataclasses.fields(kind)
    required = {field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING}
    places = {name: (text, each.__module__) for each in reversed(kind.__mro__) for name, text in _annotations(each).items()}
    return {field.name: _type(*places[field.name]) for field in fields}, required


def _annotations(kind: type) -> dict[str, Any]:
    return dict(vars(kind).get("__annotations__", {}))


@functools.cache
def _type(annotation: Any, module: str) -> Any:
    """Return the type that an annotation means in a module: once for all fields of that type, which a start waits less for."""
    return eval(annotation, vars(sys.modules[module])) if isinstance(annotation, str) else annotation
