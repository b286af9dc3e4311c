"""A dataclass whose methods are made late behaves as the standard library's does."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn import quick_dataclass

MAKERS = [dataclasses.dataclass, quick_dataclass.dataclass]


def make_point(dataclass: Callable[..., Any], **options: bool) -> Any:
    @dataclass(**options)
    class Point:
        """A place."""

        x: int
        y: int = 2
        tags: list[str] = dataclasses.field(default_factory=list, compare=False, repr=False)
        made: int = dataclasses.field(default_factory=lambda: 7, init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "x", abs(self.x))

    return Point


def make_pair(**options: bool) -> list[Any]:
    return [make_point(maker, **options) for maker in MAKERS]


@quick_dataclass.dataclass(frozen=True)
class Named:
    """One that pickling finds."""

    name: str
    size: int = 1


@quick_dataclass.dataclass(frozen=True)
class Sized(Named):
    """With a field more."""

    weight: float = 0.5


def outcome(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:  # which one is compared
        return type(error), str(error).replace("make_point.<locals>.", "")


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("eq", [False, True])
@given(x=st.integers(), y=st.integers(0, 3), other=st.integers(0, 3))
def test_it_compares_hashes_and_shows_itself_as_the_standard_one(frozen: bool, eq: bool, x: int, y: int, other: int) -> None:
    ours, theirs = (
        [
            kind(x, y) == kind(x, y=other),
            kind(x, y) == (x, y),
            eq and outcome(lambda kind=kind: hash(kind(x, y))),
            eq and repr(kind(x, y)),
            dataclasses.asdict(kind(x, y)),
            dataclasses.replace(kind(x, y), y=other).y,
            kind.__match_args__,
        ]
        for kind in make_pair(frozen=frozen, eq=eq)
    )

    assert ours == theirs


@pytest.mark.parametrize("arguments", [((), {}), ((1, 2, [], 4), {}), ((1,), {"z": 3}), ((1,), {"made": 3}), ((1,), {"x": 1})])
def test_wrong_arguments_are_refused_in_the_words_of_the_standard_one(arguments: tuple[Any, Any]) -> None:
    values, named = arguments
    theirs, ours = (outcome(lambda kind=kind: kind(*values, **named)) for kind in make_pair(frozen=True))

    assert ours == theirs


@pytest.mark.parametrize("name", ["x", "unknown"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_one_cannot_be_changed(name: str, frozen: bool) -> None:
    points = [kind(1) for kind in make_pair(frozen=frozen)]

    theirs, ours = ((outcome(lambda p=p: setattr(p, name, 5)), outcome(lambda p=p: delattr(p, name))) for p in points)
    assert ours == theirs


def test_a_plain_subclass_may_keep_more_but_not_change_the_fields() -> None:
    class Noted(Named):
        pass

    noted = Noted("a")
    noted.note = "kept"  # type: ignore[attr-defined]

    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'name'"):
        noted.name = "b"  # type: ignore[misc]


def test_a_class_that_has_a_method_keeps_it() -> None:
    @quick_dataclass.dataclass(frozen=True)
    class Secret:
        """Shows nothing."""

        word: str

        def __repr__(self) -> str:
            return "Secret(...)"

    assert repr(Secret("x")) == "Secret(...)"


def test_each_object_has_its_own_default() -> None:
    kind = make_point(quick_dataclass.dataclass)

    assert kind(1).tags is not kind(1).tags


@pytest.mark.parametrize("value", [math.nan, (), "x"])
def test_one_field_is_compared_as_the_standard_one_does(value: Any) -> None:
    def equal(maker: Callable[..., Any]) -> bool:
        @maker(frozen=True)
        class Kept:
            """Keeps one thing."""

            value: Any

        return bool(Kept(value) == Kept(value))

    theirs, ours = map(equal, MAKERS)
    assert ours is theirs is True


def test_it_can_be_pickled_and_copied() -> None:
    sized = Sized("a", weight=2.0)

    assert [pickle.loads(pickle.dumps(sized)), copy.deepcopy(sized)] == [sized, sized]


def test_its_signature_is_that_of_the_standard_one() -> None:
    theirs, ours = (str(inspect.signature(kind)) for kind in make_pair(frozen=True))

    assert ours.partition("<")[0] == theirs.partition("<")[0] == "(x: 'int', y: 'int' = 2, tags: 'list[str]' = "
    assert list(inspect.signature(Sized).parameters) == ["name", "size", "weight"]


STARTS = {
    "classify": ("edgecnn.cli.classify", "edgecnn.classifier", "edgecnn.folders", "edgecnn.pictures"),
    "camera": ("edgecnn.cli.camera", "edgecnn_device.camera", "edgecnn_device.drift", "edgecnn_device.sinks.selection"),
}
_SLOW = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
kinds = [kind for name, module in sys.modules.items() if name.startswith("edgecnn") for kind in vars(module).values()]
ours = [kind for kind in kinds if "__dataclass_fields__" in getattr(kind, "__dict__", ())]
print(json.dumps([kind.__qualname__ for kind in ours if "__signature__" not in vars(kind)]), len(ours) > 20)
"""


@pytest.mark.parametrize("modules", STARTS.values(), ids=STARTS)
def test_a_start_compiles_no_methods_of_dataclasses(modules: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", _SLOW, *modules], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == f"{json.dumps([])} True"
