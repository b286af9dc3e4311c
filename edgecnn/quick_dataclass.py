"""The standard library's `dataclass`, for classes that are imported at every start: it compiles none of their methods.

`dataclasses.dataclass` writes up to six methods as text and compiles them for each class that is imported; of the classes that
a camera imports that is a fifth of the instructions from its start to its first answer. Here `__init__` is compiled when a
class makes its second object, and the other methods are the same functions for all. Fields, `replace`, `asdict`, pickling,
comparison and errors are those of the standard library, which a type checker sees in its place.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
    from inspect import Signature
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, repr=True):
        """Make a class a dataclass, as `dataclasses.dataclass` with these options does; it knows no other ones."""
        if cls is None:
            return lambda decorated: dataclass(decorated, frozen=frozen, eq=eq, repr=repr)
        methods = {"__init__": _first_init(cls)}
        methods |= {"__repr__": _repr} if repr else {}
        methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None} if eq else {}
        methods |= {"__setattr__": _set_attribute, "__delattr__": _delete_attribute} if frozen else {}
        if cls.__doc__ is None:
            cls.__doc__ = cls.__name__  # else the standard library makes one of the signature
        dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        for name, method in methods.items():
            if cls.__dict__.get(name) is None:
                setattr(cls, name, method)
        cls.__signature__ = _LateSignature()
        return cls


def _first_init(cls: type) -> Any:
    """Return an `__init__` that makes one object, and puts the compiled one into its place: most classes make no second."""

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
        cls.__init__ = _compile_on_call(cls)  # type: ignore[misc]
        if not _fill(cls, self, values, named):
            cls.__init__(self, *values, **named)  # type: ignore[misc]  # which says what is wrong

    return __init__


def _compile_on_call(cls: type) -> Any:
    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807
        _compile_init(cls)
        cls.__init__(self, *values, **named)  # type: ignore[misc]  # that of the very class, not of a subclass

    return __init__


def _fill(cls: type, instance: Any, values: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Set the fields of an object to what its `__init__` was called with; False, and nothing is done, where that is wrong."""
    fields = dataclasses.fields(cls)
    taken = [field.name for field in fields if field.init]
    given = dict(zip(taken, values, strict=False)) | named
    made = {
        field.name: field.default_factory() for field in fields if callable(field.default_factory) and field.name not in given
    }
    defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    whole = defaults | made | given
    if len(given) != len(values) + len(named) or not given.keys() <= {*taken} or len(whole) != len(fields):
        return False
    for field in fields:
        object.__setattr__(instance, field.name, whole[field.name])
    if hasattr(cls, "__post_init__"):
        instance.__post_init__()
    return True


def _compile_init(cls: type) -> None:
    """Give a class the `__init__` that the standard library would have given it."""
    names: dict[str, Any] = {"_set": object.__setattr__, "_MISSING": dataclasses.MISSING}
    taken, lines, kinds = ["self"], [], {}
    for field in dataclasses.fields(cls):
        default, value = "", field.name
        if field.default is not dataclasses.MISSING:
            names[f"_default_{field.name}"] = field.default
            default = f"=_default_{field.name}"
        elif field.default_factory is not dataclasses.MISSING:
            names[f"_make_{field.name}"] = field.default_factory
            default = "=_MISSING"
            value = f"_make_{field.name}() if {field.name} is _MISSING else {field.name}"
        if field.init:
            kinds[field.name] = field.type
            taken.append(f"{field.name}{default}")
            lines.append(f"_set(self, {field.name!r}, {value})")
        elif default == "=_MISSING":
            lines.append(f"_set(self, {field.name!r}, _make_{field.name}())")
    lines += ["self.__post_init__()"] if hasattr(cls, "__post_init__") else []
    exec(f"def __init__({', '.join(taken)}):\n " + "\n ".join(lines or ["pass"]), names)
    names["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"
    names["__init__"].__annotations__ = {**kinds, "return": None}
    cls.__init__ = names["__init__"]  # type: ignore[misc]


class _LateSignature:
    """The signature of a class, by its compiled `__init__`, for whoever asks (`inspect.signature`)."""

    def __get__(self, instance: Any, owner: type) -> Signature:
        import inspect

        for cls in owner.__mro__:
            if isinstance(cls.__dict__.get("__signature__"), _LateSignature):
                _compile_init(cls)
        taken = inspect.signature(owner.__init__)  # type: ignore[misc]
        return taken.replace(parameters=[*taken.parameters.values()][1:])


def _values(instance: Any) -> Any:
    return _getter(type(instance))(instance)  # type: ignore[arg-type]  # a class is hashable


@functools.cache
def _getter(kind: type) -> Callable[[Any], Any]:
    """Return what gives the values that an object is compared by, as a tuple: it takes the very same NaN for equal."""
    names = [field.name for field in dataclasses.fields(kind) if field.compare]
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)


def _repr(self: Any) -> str:
    shown = [f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _set_attribute(self: Any, name: str, value: Any) -> None:
    _refuse(self, name, "assign to")
    object.__setattr__(self, name, value)


def _delete_attribute(self: Any, name: str) -> None:
    _refuse(self, name, "delete")
    object.__delattr__(self, name)


def _refuse(instance: Any, name: str, what: str) -> None:
    """Raise FrozenInstanceError, but for what a subclass that is no dataclass has besides the fields."""
    kind = type(instance)
    if "__dataclass_fields__" in vars(kind) or name in kind.__dataclass_fields__:
        raise dataclasses.FrozenInstanceError(f"cannot {what} field {name!r}")
